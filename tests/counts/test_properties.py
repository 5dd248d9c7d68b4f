"""Relations that hold for every spec: random ones, of every size down to 1."""

import numpy as np
import pytest
from examples import few
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
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


@settings(max_examples=few(2))
@given(strategies.models())
def test_counted_is_run(model):
    pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc.proof.witness import prove

    verdict = prove(model)
    kinds = ("FLOPs", "saved bytes", "logits", "cache", "peak of the passes", "peak of the optimizer")
    assert all(any(kind in check.what for check in verdict.checks) for kind in kinds)
    assert verdict.passed, [check for check in verdict.checks if not check.equal]


@settings(max_examples=40)
@given(strategies.models(), st.integers(0, 2**32))
def test_every_drawn_model_runs(model, seed):
    torch = pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc_reference import Transformer

    torch.manual_seed(seed)
    reference = Transformer(model)
    x = torch.randint(model.vocab_size, (2, model.context_length))
    math, flash = reference(x, x), reference(x, x, kernel="flash")
    assert math.logits.shape == (2, model.context_length, model.vocab_size)
    assert torch.isfinite(math.loss)
    assert torch.allclose(math.logits, flash.logits, atol=1e-5)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda m: m.unembedding.tied,
        lambda m: not m.unembedding.tied and m.unembedding.bias,
        lambda m: all(g.attention.bias and g.mlp.bias and g.norm.bias for g in m.layers),
        lambda m: not any(g.attention.bias or g.mlp.bias or g.norm.bias for g in m.layers),
        lambda m: len(m.layers) > 1 and m.layers[0] != m.layers[1],
        lambda m: any(g.attention.n_kv_heads < g.attention.n_heads and g.attention.n_kv_heads > 1 for g in m.layers),
        lambda m: any(g.attention.n_heads * g.attention.d_head != m.d_model for g in m.layers),
        lambda m: any(g.repeat > 1 for g in m.layers),
        *[lambda m, f=f: getattr(m, f) == 1 for f in ("vocab_size", "context_length", "d_model")],
        *[lambda m, f=f: getattr(m.layers[0].attention, f) == 1 for f in ("n_heads", "n_kv_heads", "d_head")],
        lambda m: m.layers[0].mlp.d_ff == 1,
        lambda m: m.layers[0].mlp.activation == "gelu",
    ],
)
def test_what_the_strategies_promise_occurs(wanted):
    assert wanted(find(strategies.models(), wanted, settings=SEARCH))


@given(strategies.models())
def test_tying_changes_stored_parameters_by_the_table_and_nothing_else(model):
    tied, untied = (
        archcalc.params(model.model_copy(update={"unembedding": model.unembedding.model_copy(update={"tied": tied})}))
        for tied in (True, False)
    )
    assert untied.stored - tied.stored == model.vocab_size * model.d_model
    assert untied.tally == tied.tally
    assert untied.non_embedding == tied.non_embedding
    assert untied.bridge == tied.bridge[1:]


@given(strategies.models())
def test_as_many_key_value_heads_as_heads_is_plain_multi_head(model):
    layers = tuple(
        g.model_copy(update={"attention": g.attention.model_copy(update={"n_kv_heads": g.attention.n_heads})})
        for g in model.layers
    )
    model = model.model_copy(update={"layers": layers})
    categories = {c.category: c for c in archcalc.params(model).tally.categories}
    heads = sum(g.repeat * g.attention.n_heads for g in layers)
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
    split = tuple(g.model_copy(update={"repeat": 1}) for g in model.layers for _ in range(g.repeat))
    one, many = archcalc.params(model), archcalc.params(model.model_copy(update={"layers": split}))
    assert one.stored == many.stored
    assert one.tally == many.tally


def by_arrays(models, scale):
    """One model whose sizes are columns of int64, a row for each model; all of one make."""
    first = models[0]

    def column(values):
        return np.array([value * scale for value in values], dtype=np.int64)

    layers = tuple(
        group.model_copy(
            update={
                "attention": group.attention.model_copy(
                    update={
                        "n_heads": column(m.layers[i].attention.n_heads for m in models),
                        "n_kv_heads": np.array([m.layers[i].attention.n_kv_heads for m in models]),
                        "d_head": column(m.layers[i].attention.d_head for m in models),
                    }
                ),
                "mlp": group.mlp.model_copy(update={"d_ff": column(m.layers[i].mlp.d_ff for m in models)}),
                "repeat": np.array([m.layers[i].repeat for m in models]),
            }
        )
        for i, group in enumerate(first.layers)
    )
    sizes = {f: column(getattr(m, f) for m in models) for f in ("vocab_size", "context_length", "d_model")}
    return first.model_copy(update={**sizes, "layers": layers})


def scaled(model, scale):
    """The same model by ints, its sizes times `scale`."""
    layers = tuple(
        group.model_copy(
            update={
                "attention": group.attention.model_copy(
                    update={"n_heads": group.attention.n_heads * scale, "d_head": group.attention.d_head * scale}
                ),
                "mlp": group.mlp.model_copy(update={"d_ff": group.mlp.d_ff * scale}),
            }
        )
        for group in model.layers
    )
    sizes = {f: getattr(model, f) * scale for f in ("vocab_size", "context_length", "d_model")}
    return model.model_copy(update={**sizes, "layers": layers})


def flat(counts):
    """Every number of a result."""
    yield from (counts.stored, counts.active, counts.non_embedding, counts.tally.total, counts.tally.matrices)
    yield from (term.parameters for term in counts.bridge)
    yield from (category.parameters for category in counts.tally.categories)
    yield from (category.matrices for category in counts.tally.categories)
    yield from (tensor.parameters for tensor in counts.tensors)


@given(st.data(), st.sampled_from([1, 1_000, 100_000, 2**31]))
def test_ints_and_arrays_agree(data, scale):
    model = data.draw(strategies.models())
    others = data.draw(st.lists(strategies.models(most_groups=1), max_size=3))
    rows = [model] + [
        # another model's sizes in this one's make: the ties, biases and number of groups are not sizes
        model.model_copy(
            update={
                "vocab_size": other.vocab_size,
                "d_model": other.d_model,
                "layers": tuple(
                    g.model_copy(
                        update={
                            "repeat": other.layers[0].repeat,
                            "attention": other.layers[0].attention.model_copy(update={"bias": g.attention.bias}),
                            "mlp": other.layers[0].mlp.model_copy(update={"bias": g.mlp.bias}),
                        }
                    )
                    for g in model.layers
                ),
            }
        )
        for other in others
    ]
    arrays = list(flat(archcalc.params(by_arrays(rows, scale))))
    for row, one in enumerate(rows):
        exact = list(flat(archcalc.params(scaled(one, scale))))
        assert len(exact) == len(arrays)
        for number, column in zip(exact, arrays, strict=True):
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
