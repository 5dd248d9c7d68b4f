"""What layers read that was made before them: keys and values of another, values that are keys, vectors for each."""

from copy import deepcopy

import pytest

from archcalc.counts.activations import cache, saved
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory
from archcalc.counts.parameters import params
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.plan.rules import refuse
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

B, T, HEADS, KV, K, D, D_FF, V, EACH, WINDOW = 2, 24, 4, 2, 6, 20, 40, 50, 8, 7
RMS = {"kind": "rmsnorm"}
ATTENTION = {"kind": "multi_head", "n_heads": HEADS, "n_kv_heads": KV, "d_head": K, "bias": False}
MLP = {"kind": "plain", "d_ff": D_FF, "activation": "gelu", "bias": False}


def layer(repeat=1, **fields):
    return {"repeat": repeat, "norm": RMS, "attention": {**ATTENTION, **fields}, "mlp": MLP}


SPEC = {
    "schema": 0,
    "name": "small",
    "source": "this test",
    "vocab_size": V,
    "context_length": T,
    "d_model": D,
    "embedding": {"positions": "none"},
    "layers": [layer()],
    "final_norm": RMS,
    "unembedding": {"tied": True, "bias": False},
}


def spec(*layers, embedding=None):
    return Model.model_validate(
        {**SPEC, "layers": list(layers), "embedding": {**SPEC["embedding"], **(embedding or {})}}
    )


OWN = spec(layer(window=WINDOW), layer(3), layer(2, window=WINDOW))
SHARED = spec(layer(window=WINDOW), layer(), layer(2, shared_kv=True), layer(2, window=WINDOW, shared_kv=True))


def test_layers_that_share_have_no_weights_for_keys_and_values_and_no_place_in_the_cache():
    assert params(OWN).stored - params(SHARED).stored == 4 * 2 * (KV * K) * D
    projections = 4 * 2 * 2 * B * T * (KV * K) * D  # FLOPs: layers, keys and values, two a multiplication
    assert flops(OWN, Run("prefill", B, T)).forward - flops(SHARED, Run("prefill", B, T)).forward == projections
    position = 2 * KV * K * 2  # keys and values of two bytes
    assert cache(SHARED, Run("decode", B, context=T), 2) == B * (WINDOW + T) * position
    assert cache(SHARED, Run("decode", B, context=T), 2, paged=True) == 2 * B * T * position


def test_a_decode_step_reads_what_is_shared_in_each_layer():
    work = {name: flops(one, Run("decode", B, context=T)) for name, one in (("own", OWN), ("shared", SHARED))}
    scored = {name: next(c for c in one.categories if c.category == "scores").forward for name, one in work.items()}
    pairs = 3 * T + 3 * WINDOW
    assert scored["own"] == scored["shared"] == 2 * B * HEADS * K * pairs


def test_one_projection_is_keys_and_values():
    two, one = (spec(layer(value_norm={**RMS, "gain": False}, values_are_keys=same)) for same in (False, True))
    assert params(two).stored - params(one).stored == KV * K * D
    run = Run("decode", B, context=T)
    assert cache(one, run, 2) == cache(two, run, 2) == B * T * 2 * KV * K * 2


def with_vectors(*layers, **vectors):
    mixer = {"kind": "per_layer", "d_per_layer": EACH, "activation": "gelu_tanh"}
    branch = {"name": "per_layer", "norm": None, "mixer": mixer, "post_norm": RMS}
    groups = [
        {
            "repeat": one["repeat"],
            "branches": [
                {"name": "attention", "norm": RMS, "mixer": one["attention"]},
                {"name": "mlp", "norm": RMS, "mixer": MLP},
                branch,
            ],
        }
        for one in deepcopy(layers)
    ]
    return spec(*groups, embedding={"per_layer": {"d_per_layer": EACH, "norm": RMS, **vectors}})


def test_vectors_for_each_layer_have_a_table_a_projection_and_two_matrices_a_layer():
    rows, layers = 30, 3
    plain, more = params(spec(layer(layers))), params(with_vectors(layer(layers), vocab_size=rows))
    table, projection = rows * layers * EACH, layers * EACH * D
    inside = layers * (2 * EACH * D + D)  # gate and projection, and the norm behind
    assert more.stored - plain.stored == table + projection + EACH + inside
    assert more.active - more.active_inner == table  # the token table is tied, and multiplied
    run = Run("prefill", B, T)
    work = flops(with_vectors(layer(layers)), run).forward - flops(spec(layer(layers)), run).forward
    assert work == 2 * B * T * (projection + layers * 2 * EACH * D)


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        ([layer(shared_kv=True)], "none before it makes such keys and values"),
        ([layer(), layer(window=5, shared_kv=True)], "none before it makes such keys and values"),
        ([layer(), layer(shared_kv=True, n_kv_heads=1)], "none before it makes such keys and values"),
        ([layer(), layer(shared_kv=True, clip=2.0)], "must be false where clip is given"),
        ([layer(values_are_keys=True)], "has no effect without value_norm"),
    ],
)
def test_what_is_not_there_cannot_be_shared(layers, told):
    with pytest.raises(ValueError, match=told):
        spec(*layers)


def test_vectors_are_made_where_they_are_read_and_read_where_they_are_made():
    with pytest.raises(ValueError, match="must each have one mixer of kind per_layer"):
        spec(layer(), embedding={"per_layer": {"d_per_layer": EACH, "norm": RMS}})
    data = with_vectors(layer()).model_dump(by_alias=True)
    data["embedding"]["per_layer"] = None
    with pytest.raises(ValueError, match="the embedding has no per_layer"):
        Model.model_validate(data)


MODELS = {"shared": SHARED, "vectors": with_vectors(layer(2), layer()), "keys": spec(layer(2, value_norm=RMS))}
MODELS["both"] = with_vectors(layer(), layer(2, shared_kv=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_reference_saves_and_keeps_what_is_counted(name):
    torch = pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc.proof.witness import measure
    from archcalc_reference import Transformer
    from archcalc_reference.model.cache import Cache

    model = MODELS[name]
    reference = Transformer(model)
    for kernel in ("math", "flash"):
        run = Run(batch=B, sequence=T, attention=kernel)
        for recompute in ("none", "full"):
            measured = measure(reference, run, recompute=recompute == "full")
            assert saved(model, run, widths(4), recompute).total == measured.saved, (kernel, recompute)
    assert (
        flops(model, Run(batch=B, sequence=T, attention="math")).forward
        == measure(reference, Run(batch=B, sequence=T, attention="math")).forward
    )
    kept = Cache(model, B, T, torch.float32)
    assert kept.nbytes == cache(model, Run("decode", B, context=T), 4)


def test_gradients_of_layers_that_share_reach_the_layer_that_makes():
    torch = pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc_reference import Transformer

    model = spec(layer(), layer(shared_kv=True))
    torch.manual_seed(0)
    reference = Transformer(model).double()
    for parameter in reference.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    reference.layers[0].attention.output.weight.data.zero_()  # its own attention hands on nothing
    tokens = torch.arange(T)[None] % V
    reference(tokens, tokens.roll(-1)).loss.backward()
    for name in ("key", "value"):
        assert getattr(reference.layers[0].attention, name).weight.grad.abs().max() > 1e-6


@pytest.mark.prove
@pytest.mark.parametrize("name", MODELS)
def test_all_that_is_required_is_proven(name):
    from archcalc.proof.witness import prove

    assert [check for check in prove(MODELS[name]).checks if check.required and not check.equal] == []


def test_vectors_for_each_layer_have_no_plan_that_cuts_positions_over_tensor_parallel_ranks():
    """They are cut with the positions, and the branches that read them would need them whole."""
    model, run = with_vectors(layer(4)), Run(sequence=T)
    with pytest.raises(Invalid, match="sequence_parallel: is not supported where each layer has vectors of its own"):
        refuse(Plan(tp=2, sequence_parallel=True), model, run)
    refuse(Plan(tp=2), model, run)


@pytest.mark.parametrize("precision", ["mixed-16", "amp", "fp32"])
def test_vectors_for_each_layer_are_the_same_on_the_one_rank_of_a_plan(precision):
    """What goes on to the layers is a view of the token's rows, and counted once under a plan too."""
    model, run, keeping = with_vectors(layer(3)), Run(batch=B, sequence=T, attention="flash"), Keeping(precision)
    alone = local(model.record(run), Plan())
    assert saved(alone, run, widths(4)) == saved(model, run, widths(4))
    assert memory(alone, run, keeping) == memory(model, run, keeping)
