"""Relations that hold for every spec: random ones, of every size down to 1."""

from typing import get_args

import numpy as np
import pytest
from drawn import attends, branches, changed, keeps_keys, layers_of, parts, resized, single, stacked
from examples import few, one_in
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.blocks import GatedMLP, LayerNorm, MultiHead, PlainMLP, RMSNorm
from archcalc.blocks.activation import Activation
from archcalc.blocks.mlp import MLP
from archcalc.errors import ArchcalcError
from archcalc.spec.source import parse
from archcalc.spec.validation import validate
from archcalc.tape.legend import volume

SEARCH = settings(max_examples=2_000, derandomize=True, database=None, phases=[Phase.generate])


def read(text):
    return validate(parse(text if isinstance(text, bytes) else text.encode(), "drawn.yaml"), archcalc.Model)


@given(strategies.models())
def test_counted_is_built(model):
    pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc.proof.witness import prove

    verdict = prove(model, passes=False)
    assert verdict.passed, [check for check in verdict.checks if not check.equal]
    assert verdict.checks[0].what == "parameters"


@settings(max_examples=few(1))
@given(strategies.models())
def test_counted_is_run(model):
    pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc.proof.witness import prove

    verdict = prove(model)
    assert all(
        any(kind in check.what for check in verdict.checks) for kind in ("FLOPs", "saved bytes", "logits", "peak")
    )
    wrong = [check for check in verdict.checks if check.required and not check.equal]
    if any(not norm.gain for norm in parts(model, LayerNorm)):
        # Of bf16 numbers without fp32 gains PyTorch's kernel for CPUs keeps statistics in bf16, that for GPUs in fp32.
        wrong = [check for check in wrong if check.what != "peak of the passes, amp"]
    assert not wrong


@settings(max_examples=few(20, prove=40))
@given(strategies.models(), st.integers(0, 2**32))
def test_every_drawn_model_runs(model, seed):
    torch = pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc_reference import Transformer

    torch.manual_seed(seed)
    reference = Transformer(model)
    per_layer = model.embedding.per_layer
    rows = model.vocab_size if per_layer is None else per_layer.vocab_size or model.vocab_size
    x = torch.randint(min(rows, model.n_logits), (2, model.context_length))
    math, flash = reference(x, x), reference(x, x, kernel="flash")
    assert math.logits.shape == (2, model.context_length, model.n_logits)
    assert torch.isfinite(math.loss)
    assert torch.allclose(math.logits, flash.logits, atol=1e-5)


def attentions(model):
    return list(parts(model, MultiHead))


def biases(model):
    return [
        part.bias for part in parts(model, MultiHead | PlainMLP | GatedMLP | LayerNorm) if part.bias in (True, False)
    ]


WANTED = {
    "a head of some rows": lambda m: m.unembedding.rows is not None,
    "tied": lambda m: m.unembedding.tied,
    "untied, with a bias": lambda m: not m.unembedding.tied and m.unembedding.bias,
    "biases everywhere": lambda m: attends(m) and len(biases(m)) > 1 and all(biases(m)),
    "no biases": lambda m: attends(m) and len(biases(m)) > 1 and not any(biases(m)),
    "unlike groups": lambda m: len(m.layers) > 1 and m.layers[0] != m.layers[1],
    "grouped heads": lambda m: any(a.n_kv_heads < a.n_heads and a.n_kv_heads > 1 for a in attentions(m)),
    "heads of any width": lambda m: any(a.n_heads * a.d_head != m.d_model for a in attentions(m)),
    "repeats": lambda m: any(g.repeat > 1 for g in m.layers),
    **{f"{f} of one": lambda m, f=f: getattr(m, f) == 1 for f in ("vocab_size", "context_length", "d_model")},
    **{
        f"{f} of one": lambda m, f=f: any(getattr(a, f) == 1 for a in attentions(m))
        for f in ("n_heads", "n_kv_heads", "d_head")
    },
    "d_ff of one": lambda m: any(mlp.d_ff == 1 for mlp in parts(m, MLP)),
    **{
        f"{name}": lambda m, n=name: any(mlp.activation == n for mlp in parts(m, MLP)) for name in get_args(Activation)
    },
    "gated": lambda m: any(parts(m, GatedMLP)),
    "rmsnorm": lambda m: any(parts(m, RMSNorm)),
    "no norm": lambda m: any(branch.norm is None for branch in branches(m)),
    "post norms": lambda m: any(branch.post_norm for branch in branches(m)),
    "norms of the stream": lambda m: any(branch.stream_norm for branch in branches(m)),
    "norms of queries and keys": lambda m: any(a.qk_norm for a in attentions(m)),
    "rotary positions": lambda m: any(a.rotary and a.rotary.d_rotary < a.d_head for a in attentions(m)),
    "a window": lambda m: any(a.window and a.window < m.context_length for a in attentions(m)),
    "chunks": lambda m: any(a.chunk and a.chunk < m.context_length and not a.window for a in attentions(m)),
    "a window in chunks": lambda m: any(a.window and a.chunk for a in attentions(m)),
    "ALiBi": lambda m: any(a.alibi for a in attentions(m)),
    "side by side": lambda m: any(layer.side_by_side for layer in layers_of(m)),
    "a shared norm": lambda m: any(branch.norm == "shared" for branch in branches(m)),
    "three branches": lambda m: any(len(layer.residual_branches) > 2 for layer in layers_of(m)),
    "two attentions in a layer": lambda m: any(
        sum(isinstance(branch.mixer, MultiHead) for branch in layer.residual_branches) > 1 for layer in layers_of(m)
    ),
    "no attention": lambda m: not attends(m),
    "alternating kinds": lambda m: any(1 < g.period < g.repeat for g in m.layers),
    "a pattern longer than its group": lambda m: any(g.period > g.repeat for g in m.layers),
    "a narrow table": lambda m: m.embedding.d_embedding not in (None, m.d_model),
}


@pytest.mark.parametrize("wanted", one_in(8, WANTED))
def test_what_the_strategies_promise_occurs(wanted):
    assert WANTED[wanted](find(strategies.models(), WANTED[wanted], settings=SEARCH))


@given(strategies.models())
def test_tying_changes_stored_parameters_by_the_table_and_nothing_else(model):
    table = model.embedding.d_embedding
    heads = (
        model.unembedding.model_copy(update={"tied": tied, "d_embedding": table, "rows": None})
        for tied in (True, False)
    )
    tied, untied = (archcalc.params(model.model_copy(update={"unembedding": head})) for head in heads)
    assert untied.stored - tied.stored == model.vocab_size * (table or model.d_model)
    assert untied.tally == tied.tally
    assert untied.non_embedding == tied.non_embedding
    assert untied.bridge == tied.bridge[1:]


@given(strategies.models())
def test_as_many_key_value_heads_as_heads_is_plain_multi_head(model):
    if not keeps_keys(model) or any(attention.d_value for attention in parts(model, MultiHead)):
        return
    model = changed(model, MultiHead, lambda a: a.model_copy(update={"n_kv_heads": a.n_heads}))
    categories = {c.category: c for c in archcalc.params(model).tally.categories}
    heads = sum(branch.mixer.n_heads for branch in branches(model) if isinstance(branch.mixer, MultiHead))
    query, key, value = (categories[name] for name in ("query", "key", "value"))
    assert query.shapes == key.shapes == value.shapes
    assert query.matrices == heads
    assert query.parameters == categories["output"].parameters


@given(strategies.models())
def test_the_bridge_leads_from_the_tally_to_what_is_stored(model):
    counts = archcalc.params(model)
    assert counts.tally.total + sum(term.parameters for term in counts.bridge) == counts.stored
    assert sum(tensor.parameters for tensor in counts.tensors) == counts.stored
    for category in counts.tally.categories:
        assert sum(s.matrices for s in category.shapes) == category.matrices
        assert all(s.rows * s.columns * s.matrices == s.parameters for s in category.shapes)


@given(strategies.models())
def test_splitting_a_group_of_layers_changes_no_count(model):
    split = tuple(single(layer) for layer in layers_of(model))
    one, many = archcalc.params(model), archcalc.params(model.model_copy(update={"layers": split}))
    assert one.stored == many.stored
    assert one.tally.total == many.tally.total
    assert one.tally.matrices == many.tally.matrices
    for before, after in zip(one.tally.categories, many.tally.categories, strict=True):
        assert set(before.shapes) == set(after.shapes)  # in the order in which they first occur


def flat(counts):
    """Every number of a result."""
    yield from (counts.stored, counts.active, counts.non_embedding, counts.tally.total, counts.tally.matrices)
    yield from (category.parameters for category in counts.tally.categories)
    yield from (category.matrices for category in counts.tally.categories)
    yield from (tensor.parameters for tensor in counts.tensors)
    yield from (tensor.layers for tensor in counts.tensors)


@given(st.data(), st.sampled_from([1, 1_000, 100_000, 2**25]))
def test_ints_and_arrays_agree(data, scale):
    model = data.draw(strategies.models(most_groups=2))
    rows = data.draw(st.lists(resized(model, 8, scale), min_size=1, max_size=4))
    arrays = archcalc.params(stacked(rows))
    for row, one in enumerate(rows):
        exact = archcalc.params(one)
        # A pattern may be longer than the group in some rows: kinds that none of their layers has.
        there = [t for t in arrays.tensors if np.broadcast_to(t.layers, len(rows))[row]]
        assert [tensor.name for tensor in exact.tensors] == [tensor.name for tensor in there]
        steps = dict(exact.bridge)
        assert list(steps) == [term.name for term in arrays.bridge if term.name in steps]
        pairs = [(steps.get(term.name, 0), term.parameters) for term in arrays.bridge]
        for number, column in (*zip(flat(exact), flat(arrays._replace(tensors=there)), strict=True), *pairs):
            found = np.broadcast_to(column, len(rows))[row]
            if abs(number) < 2**53:
                assert found == number
            else:
                assert found == pytest.approx(number, rel=1e-12)


def test_arrays_go_beyond_what_int64_holds():
    model = archcalc.load("gpt3-175b").model_copy(
        update={"vocab_size": np.array([50_257, 2**32]), "d_model": np.array([12_288, 2**32])}
    )
    stored = archcalc.params(model).stored
    assert stored[0] == 174_604_259_328
    exact = archcalc.params(
        archcalc.load("gpt3-175b").model_copy(update={"vocab_size": 2**32, "d_model": 2**32})
    ).stored
    assert exact > 2**64
    assert stored[1] == pytest.approx(exact, rel=1e-12)
    assert volume(("D", "V"), {"D": 2**32, "V": 2**32}) == 2**64


@given(
    strategies.models(),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
)
def test_yaml_to_spec_to_yaml(model, source, name):
    model = model.model_copy(update={"source": source, "name": name})
    text = archcalc.dump(model)
    assert read(text) == model
    assert archcalc.dump(read(text)) == text


@given(strategies.spoiled())
def test_spoiled_specs_never_raise_anything_but_problems(data):
    try:
        read(data)
    except ArchcalcError as error:
        assert error.problems
        for problem in error.problems:
            line = str(problem)
            assert line.startswith("drawn.yaml")
            assert line.isprintable()


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_problems(data):
    with pytest.raises(ArchcalcError):
        read(data)


@given(st.text(st.sampled_from("[]{}:,-?&*!|>'\"%@`#~ \n\tab01.e_<"), max_size=60))
def test_no_text_of_yaml_s_signs_raises_anything_but_problems(text):
    with pytest.raises(ArchcalcError):
        read(text)


@settings(max_examples=50)
@given(st.text(st.sampled_from("@=,.n_headslyrdmof0123456789 -"), max_size=30))
def test_no_question_raises_anything_but_problems(question):
    try:
        archcalc.load(f"tiny@{question}")
    except ArchcalcError as error:
        assert all(str(problem) for problem in error.problems)
