"""Blocks that layers share: their weights count once, and the work of each use counts."""

import pytest
from pydantic import ValidationError

from archcalc import load
from archcalc.counts.activations import cache, recurrent_state
from archcalc.counts.flops import flops, training_run
from archcalc.counts.memory import memory
from archcalc.counts.parameters import params
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

V, D, HEADS, K, F, N, R_ATTENTION, R_MLP = 50, 12, 3, 8, 20, 16, 2, 5
RMS = {"kind": "rmsnorm"}
ATTENTION = {"kind": "multi_head", "n_heads": HEADS, "n_kv_heads": HEADS, "d_head": K, "bias": False}
SHARED = {
    "block": "one",
    "norm": RMS,
    "attention": ATTENTION,
    "mlp_norm": RMS,
    "mlp": {"kind": "gated", "d_ff": F, "activation": "silu", "bias": False},
    "attention_adapter": R_ATTENTION,
    "mlp_adapter": R_MLP,
}
FEED = {"name": "feed", "norm": RMS, "mixer": {"kind": "plain", "d_ff": F, "activation": "relu", "bias": False}}
USING = {**FEED, "name": "using", "added": SHARED}
HEAD = V * D  # an untied one


def spec(*layers, repeat=None, **more):
    """A model of layers with one branch each."""
    names = [f"kind_{i}" for i in range(len(layers))]
    kinds = {name: {"branches": [layer]} for name, layer in zip(names, layers, strict=True)}
    return Model.model_validate(
        {
            "schema": 0,
            "name": "shares",
            "source": "a test",
            "vocab_size": V,
            "context_length": N,
            "d_model": D,
            "embedding": {"positions": "none"},
            "layers": [{"repeat": repeat or len(layers), "pattern": names, "kinds": kinds}],
            "final_norm": RMS,
            "unembedding": {"tied": False, "bias": False},
            **more,
        }
    )


BLOCK_MATRICES = 3 * 2 * D * HEADS * K + HEADS * K * D + 3 * D * F  # the attention reads twice D
BLOCK = 2 * D + D + BLOCK_MATRICES
ADAPTERS = 3 * R_ATTENTION * (2 * D + HEADS * K) + R_MLP * (D + 2 * F)
FEED_FORWARD = 2 * D * F


@pytest.mark.parametrize("uses", [1, 2, 5])
def test_a_block_counts_once_and_what_each_use_has_counts_for_each(uses):
    counted = params(spec(*[USING] * uses))
    own = D + FEED_FORWARD + ADAPTERS + D * D
    assert counted.stored == counted.active == 2 * HEAD + uses * own + BLOCK + D
    bridge = {term.name: term.parameters for term in counted.bridge}
    assert bridge["adapters"] == uses * ADAPTERS
    assert bridge["shared_projection"] == uses * D * D


def test_two_names_are_two_blocks():
    other = {**USING, "added": {**SHARED, "block": "other"}}
    assert params(spec(USING, other)).stored - params(spec(USING, USING)).stored == BLOCK


def test_a_kind_without_layers_has_no_block():
    assert params(spec(FEED, USING, repeat=1)).stored == params(spec(FEED)).stored


def test_the_bridge_from_6_n_d_multiplies_a_block_as_often_as_it_is_used():
    model, run = spec(FEED, USING, repeat=6), Run(sequence=N, attention="math")
    whole = training_run(model, params(model), run, 1)
    steps = {step.short: step.flops for step in whole.bridge}
    assert steps["used again"] == 6 * (3 - 1) * BLOCK_MATRICES
    assert whole.six_nd + sum(steps.values()) == whole.flops


def test_each_use_does_the_work_of_a_block_and_of_its_adapters():
    one, two = (flops(spec(*layers), Run("prefill", 1, N, attention="math")).forward for layers in ([FEED], [USING]))
    scores = 2 * 2 * N * N * HEADS * K
    assert two - one == 2 * N * (BLOCK_MATRICES + ADAPTERS + D * D) + scores


def test_each_use_has_keys_and_values_of_its_own():
    model = spec(*[USING] * 3)
    run = Run("decode", 2, context=N)
    assert cache(model, run, 2) == 3 * 2 * (2 * HEADS * K * N) * 2
    assert recurrent_state(model, run, widths(2)) == 0


def test_gradients_and_the_optimizers_state_are_of_each_weight_once():
    """AdamW in fp32: weights, gradients and two moments of 4 bytes, and a counter of 4 for each tensor."""
    model = spec(FEED, USING, repeat=6)
    terms = {term.name: term.bytes for term in memory(model, Run(sequence=N), Keeping("fp32")).terms}
    counted = params(model)
    assert memory(model, Run(sequence=N), Keeping("fp32")).state == (
        16 * counted.stored + 4 * sum(tensor.layers for tensor in counted.tensors)
    )
    assert terms["weights"] == 4 * counted.stored


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        (
            [USING, {**USING, "added": {**SHARED, "attention": {**ATTENTION, "d_head": 4}}}],
            "has uses of the shared block one that differ in more than their adapters",
        ),
        (
            [{**USING, "added": {**SHARED, "attention": {**ATTENTION, "shared_kv": True}}}],
            "has an attention with shared_kv: that of a shared block makes keys and values of its own",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(layers, what):
    with pytest.raises(ValidationError) as refused:
        spec(*layers)
    assert what in str(refused.value)


def test_a_layer_adds_one_block_and_no_branch_before_a_shared_norm():
    branches = [USING, {**USING, "name": "again"}]
    model = spec(FEED).model_dump(by_alias=True)
    group = {"repeat": 1, "branches": branches}
    with pytest.raises(ValidationError, match="more than one branch to which a shared block is added"):
        Model.model_validate({**model, "layers": [group]})
    group = {"repeat": 1, "branches": [FEED, {**USING, "norm": "shared"}]}
    with pytest.raises(ValidationError, match="adds a shared block before its norm"):
        Model.model_validate({**model, "layers": [group]})


def test_adapters_may_differ_from_use_to_use():
    other = {**USING, "added": {**SHARED, "attention_adapter": None, "mlp_adapter": 1}}
    more = params(spec(USING, other)).stored - params(spec(USING, USING)).stored
    assert more == -ADAPTERS + (D + 2 * F)


def test_modules_of_multi_token_prediction_share_no_block():
    with pytest.raises(ValidationError, match="must be one that does not"):
        spec(USING, mtp={"n_modules": 1})


SIZES = {  # shapes like those of the three published models, whose config.json is not at hand
    "1.2B": (2048, 38, [5, 11, 17, 23, 29, 35], 1, 128, 1, 64, True),
    "2.7B": (2560, 54, [6, 12, 18, 24, 30, 36, 42, 47, 51], 2, 64, 1, 80, False),
    "7B": (3584, 81, [6, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77], 2, 64, 2, 112, False),
}


@pytest.mark.prove
@pytest.mark.parametrize("name", SIZES)
def test_shapes_of_zamba2_have_transformers_parameters(name, tmp_path):
    import json

    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    hidden, n, hybrid, blocks, state, groups, heads, adapted = SIZES[name]
    config = {
        "hidden_size": hidden,
        "num_hidden_layers": n,
        "layers_block_type": ["hybrid" if i in hybrid else "linear_attention" for i in range(n)],
        "num_mem_blocks": blocks,
        "mamba_d_state": state,
        "mamba_ngroups": groups,
        "n_mamba_heads": heads,
        "use_shared_attention_adapter": adapted,
        "use_mem_rope": adapted,
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "zamba2", **config}))
    with torch.device("meta"):
        theirs = transformers.Zamba2ForCausalLM(transformers.Zamba2Config(**config))
    theirs.tie_weights()
    assert params(load(str(file))).stored == sum(parameter.numel() for parameter in theirs.parameters())
