"""Layers are written in three forms, and count the same where they say the same; what fits no form is told in words."""

import pytest
import yaml
from command import ask
from drawn import alone, layers_of, single
from examples import few, keepings
from goodspec import GOOD
from hypothesis import given, settings
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache, saved
from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.spec.crossing import shares_keys
from archcalc.spec.groups import AlternatingGroup, BranchGroup, TwoBranchGroup
from archcalc.spec.layers import TwoBranchLayer
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

RECOMPUTE = ["none", "selective", "full"]
KEEPINGS = keepings()
KERNELS = st.sampled_from(["math", "flash"])


def figures(model, run, keeping):
    """What is counted of a model, apart from where it stands."""
    work = flops(model, run)
    prompt = run._replace(phase="prefill", dropout=False, logits="last")
    return {
        "stored": params(model).stored,
        "matrices": params(model).tally.matrices,
        "FLOPs": (work.forward, work.backward, work.pointwise),
        "saved": [saved(model, run, widths(2), recompute)[:4] for recompute in RECOMPUTE],
        "cache": [cache(model, Run("prefill", 2, n), 2) for n in (1, run.sequence)],
        "training": archcalc.memory(model, run, keeping).total,
        "inference": archcalc.memory(model, prompt, Keeping("bf16")).total,
    }


def whole(model, kernel, causal="full"):
    return Run(batch=2, sequence=model.context_length, attention=kernel, causal=causal)


def in_full(group):
    """A group in the short form written as one of branches."""
    branches = tuple(group.residual_branches)
    side, scalar = group.side_by_side, group.scalar
    return BranchGroup.model_construct(repeat=group.repeat, parallel=side, branches=branches, scalar=scalar)


@settings(max_examples=few(4, prove=80))
@given(strategies.models(), KERNELS, KEEPINGS, st.booleans())
def test_the_short_form_is_the_long_one_of_an_attention_and_an_mlp(model, kernel, keeping, dropout):
    short = tuple(single(one) for one in layers_of(model) if isinstance(one, TwoBranchLayer))
    if not short or shares_keys(short):  # of what another layer made, which may be written in full
        return
    one, other = (model.model_copy(update={"layers": groups}) for groups in (short, tuple(map(in_full, short))))
    run = whole(model, kernel)._replace(dropout=dropout)
    for first, second in zip(one.record(run).segments, other.record(run).segments, strict=True):
        assert first.tape.ops == second.tape.ops
        assert first.env == second.env
    assert params(one) == params(other)
    assert figures(one, run, keeping) == figures(other, run, keeping)
    read = archcalc.Model.model_validate(yaml.safe_load(archcalc.dump(other)))
    assert [layer.residual_branches for layer in read.layers] == [layer.residual_branches for layer in other.layers]


@st.composite
def alternating(draw):
    """A model whose kinds of layers alternate, in a pattern that may be longer than the group."""
    model = draw(strategies.models())
    kinds = {f"kind_{i}": layer for i, layer in enumerate(dict.fromkeys(map(alone, layers_of(model))))}
    more = draw(st.lists(st.sampled_from(list(kinds)), max_size=4))
    pattern = tuple(draw(st.permutations([*kinds, *more])))
    group = AlternatingGroup.model_construct(repeat=draw(st.integers(1, 12)), pattern=pattern, kinds=kinds)
    before = draw(st.sampled_from([(), model.layers[:1]]))
    return model.model_copy(update={"layers": (*before, group, *model.layers[1:])})


@settings(max_examples=few(4, prove=80))
@given(alternating(), KERNELS, st.sampled_from(["full", "half", "exact"]), KEEPINGS)
def test_a_pattern_is_its_layers_written_one_by_one(model, kernel, causal, keeping):
    apart = model.model_copy(update={"layers": tuple(map(single, layers_of(model)))})
    assert apart.n_layers == model.n_layers
    run = whole(model, kernel, causal)
    assert figures(model, run, keeping) == figures(apart, run, keeping)


@given(alternating())
def test_the_layers_of_a_pattern_are_found_again_by_their_indices(model):
    expected = [single(layer) for layer in layers_of(model)]
    found = {}
    for segment in model.record().segments:
        if segment.layers is not None:
            layer = model.layers[segment.places[0][1]]
            kind = layer.kinds[segment.places[0][3]] if len(segment.places[0]) > 2 else layer
            found |= dict.fromkeys(segment.layers.indices(), single(kind))
    assert [found[i] for i in sorted(found)] == expected
    stored = [(t.name, i) for t in params(model).tensors if t.within is not None for i in t.within.indices()]
    assert len(set(stored)) == len(stored)  # a layer has one tensor of a name


@settings(max_examples=few(4, prove=80))
@given(strategies.models(), st.integers(1, 3))
def test_a_group_may_be_cut_anywhere(model, turns):
    """Of a pattern at a whole number of its turns."""
    groups = []
    for group in model.layers:
        cut = turns * group.period
        parts = (cut, group.repeat - cut) if cut < group.repeat else (group.repeat,)
        groups += [group.model_copy(update={"repeat": n}) for n in parts]
    run = whole(model, "math")
    other = model.model_copy(update={"layers": tuple(groups)})
    assert figures(model, run, Keeping()) == figures(other, run, Keeping())


# What fits no form. Each edit replaces the layers of a good spec; the message is whole, with its line and column.

ATTENTION = "attention: {kind: multi_head, n_heads: 4, n_kv_heads: 2, d_head: 2, bias: true}"
MLP = "mlp: {kind: plain, d_ff: 11, activation: gelu_tanh, bias: true}"
LAYER = f"{{norm: null, {ATTENTION}, {MLP}}}"
MIXER = "mixer: {kind: plain, d_ff: 11, activation: gelu_tanh, bias: true}"

WRONG = {
    "a kind that is missing": (
        f"repeat: 2, pattern: [a, c], kinds: {{a: {LAYER}, b: {LAYER}}}",
        "9:5: layers.0: has c in its pattern, which is not among its kinds: a, b",
    ),
    "a kind that never comes": (
        f"repeat: 2, pattern: [a], kinds: {{a: {LAYER}, b: {LAYER}}}",
        "9:5: layers.0: has a kind that its pattern does not: b",
    ),
    "no order": (
        f"repeat: 2, pattern: [], kinds: {{a: {LAYER}}}",
        "9:26: layers.0.pattern: must not be empty; got []",
    ),
    "an order of numbers": (
        f"repeat: 2, pattern: [1], kinds: {{a: {LAYER}}}",
        "9:27: layers.0.pattern.0: must be text; got 1",
    ),
    "an order in one word": (
        f"repeat: 2, pattern: a, kinds: {{a: {LAYER}}}",
        "9:26: layers.0.pattern: must be a list; got 'a'",
    ),
    "no kinds": ("repeat: 2, pattern: [a]", "9:5: layers.0.kinds: is missing"),
    "empty kinds": (
        "repeat: 2, pattern: [a], kinds: {}",
        "9:38: layers.0.kinds: must not be empty; got {}",
    ),
    "kinds in a list": (
        f"repeat: 2, pattern: [a], kinds: [{LAYER}]",
        "9:38: layers.0.kinds: must be a mapping; got [{'norm': null, 'attention': {'kind': 'multi_head', 'n_he...",
    ),
    "no number of layers": (f"pattern: [a], kinds: {{a: {LAYER}}}", "9:5: layers.0.repeat: is missing"),
    "repeats of a kind": (
        f"repeat: 2, pattern: [a], kinds: {{a: {{repeat: 3, norm: null, {ATTENTION}, {MLP}}}}}",
        "9:43: layers.0.kinds.a.repeat: unknown field",
    ),
    "a misspelt field of a kind": (
        f"repeat: 2, pattern: [a], kinds: {{a: {{norm: null, {ATTENTION}, {MLP.replace('d_ff', 'd_fff')}}}}}",
        "9:141: layers.0.kinds.a.mlp.d_ff: is missing\n"
        "s.yaml:9:155: layers.0.kinds.a.mlp.d_fff: unknown field; did you mean 'd_ff'?",
    ),
    "heads of a kind that do not divide": (
        f"repeat: 2, pattern: [a], kinds: {{a: {{norm: null, {ATTENTION.replace('heads: 2', 'heads: 3')}, {MLP}}}}}",
        "9:109: layers.0.kinds.a.attention.n_kv_heads: must divide n_heads (4); got 3; nearest: 2 or 4",
    ),
    "no branches": ("repeat: 2, branches: []", "9:27: layers.0.branches: must not be empty; got []"),
    "branches in a mapping": ("repeat: 2, branches: {a: 1}", "9:27: layers.0.branches: must be a list; got {'a': 1}"),
    "a branch without a name": (
        f"repeat: 2, branches: [{{norm: null, {MIXER}}}]",
        "9:28: layers.0.branches.0.name: is missing",
    ),
    "a branch without a word on its norm": (
        f"repeat: 2, branches: [{{name: a, {MIXER}}}]",
        "9:28: layers.0.branches.0.norm: is missing",
    ),
    "a branch that mixes nothing": (
        "repeat: 2, branches: [{name: a, norm: null}]",
        "9:28: layers.0.branches.0.mixer: is missing",
    ),
    "a mixer of no kind": (
        "repeat: 2, branches: [{name: a, norm: null, mixer: {kind: plian, d_ff: 1}}]",
        "9:64: layers.0.branches.0.mixer.kind: must be multi_head or gated_delta or mamba2 or lightning or mamba or short_conv or latent or per_layer or plain or gated or experts; got 'plian'; did you mean 'plain'?",
    ),
    "a name of a branch with a space": (
        f"repeat: 2, branches: [{{name: a b, norm: null, {MIXER}}}]",
        "9:35: layers.0.branches.0.name: must be at most 30 small letters, digits and '_', and begin with a letter; got 'a b'",
    ),
    "a name of a kind with a space": (
        f"repeat: 2, kinds: {{a b: {{norm: null, {ATTENTION}, {MLP}}}}}, pattern: [a b, a b]",
        "9:25: layers.0.kinds.a b: must be at most 30 small letters, digits and '_', and begin with a letter; got 'a b'",
    ),
    "two forms": (
        f"repeat: 2, norm: null, {ATTENTION}, {MLP}, branches: [{{name: a, norm: null, {MIXER}}}]",
        "9:5: layers.0: has branches and attention; a group or kind of layers has one form",
    ),
    "a pattern and a layer": (
        f"repeat: 2, norm: null, {ATTENTION}, {MLP}, pattern: [a], kinds: {{}}",
        "9:5: layers.0: has attention and pattern; a group or kind of layers has one form",
    ),
    "two branches of one name": (
        f"repeat: 2, branches: [{{name: a, norm: null, {MIXER}}}, {{name: a, norm: null, {MIXER}}}]",
        "9:5: layers.0: has two branches whose weights would have one name",
    ),
    "a branch named as another's norm": (
        f"repeat: 2, branches: [{{name: a, norm: null, {MIXER}}}, {{name: a_norm, norm: null, {MIXER}}}]",
        "9:5: layers.0: has two branches whose weights would have one name",
    ),
    "a first branch that shares a norm": (
        f"repeat: 2, parallel: true, branches: [{{name: a, norm: shared, {MIXER}}}]",
        "9:5: layers.0: branch a shares a norm: it must follow one with a norm",
    ),
    "a shared norm of a branch that has none": (
        f"repeat: 2, branches: [{{name: a, norm: null, {MIXER}}}, {{name: b, norm: shared, {MIXER}}}]",
        "9:5: layers.0: branch b shares a norm: it must follow one with a norm",
    ),
    "a norm in another word": (
        f"repeat: 2, branches: [{{name: a, norm: same, {MIXER}}}]",
        "9:44: layers.0.branches.0.norm: must be shared; got 'same'",
    ),
    "both read one input in another word": (
        f"repeat: 2, parallel: both, norm: null, {ATTENTION}, {MLP}",
        "9:27: layers.0.parallel: must be shared or own; got 'both'",
    ),
    "more branches than can be": (
        "repeat: 2, branches: [" + ", ".join(f"{{name: a{i}, norm: null, {MIXER}}}" for i in range(17)) + "]",
        "9:27: layers.0.branches: must have at most 16 items; got [{'name': 'a0', 'norm': null, 'mixer': {'kind': 'plain', ...",
    ),
}


@pytest.mark.parametrize(("layers", "said"), WRONG.values(), ids=WRONG)
def test_what_fits_no_form_is_told_where_and_what(layers, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, _, rest = GOOD.partition("  - repeat: 2\n")
    (tmp_path / "s.yaml").write_text(f"{before}  - {{{layers}}}\n{rest[rest.index('final_norm') :]}")
    answer = ask("params", "s.yaml")
    assert (answer.err, answer.code, answer.out) == (f"s.yaml:{said}\n", 2, "")


def test_a_layer_in_python_is_of_the_form_that_it_has():
    tiny = archcalc.load("tiny")
    groups = (tiny.layers[0], in_full(tiny.layers[0]))
    kinds = {"a": alone(tiny.layers[0]), "b": alone(in_full(tiny.layers[0]))}
    model = tiny.model_copy(
        update={"layers": (*groups, AlternatingGroup.model_construct(repeat=2, pattern=("a", "b"), kinds=kinds))}
    )
    assert [type(group) for group in groups] == [TwoBranchGroup, BranchGroup]
    assert params(model).stored == params(tiny).stored + 7 * (128 * (4 * 128 + 2 * 512) + 512 + 9 * 128)
