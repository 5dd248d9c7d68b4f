"""Latent attention: published figures, two orders of one product, and what is kept of a position."""

import pytest

import archcalc
from archcalc.counts.activations import cache
from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.tape.run import Run

B, T, HEADS, NOPE, ROPE, VALUE, RANK, Q_RANK, D, D_FF, V = 2, 24, 4, 10, 4, 6, 12, 18, 32, 40, 50
RMS = {"kind": "rmsnorm"}
LATENT = {
    "kind": "latent",
    "n_heads": HEADS,
    "q_rank": Q_RANK,
    "kv_rank": RANK,
    "d_nope": NOPE,
    "d_rope": ROPE,
    "d_value": VALUE,
    "bias": False,
    "norm": RMS,
    "rotary": {"d_rotary": ROPE, "theta": 10_000, "pairing": "neighbours"},
}


def spec(**fields):
    mlp = {"kind": "plain", "d_ff": D_FF, "activation": "gelu", "bias": False}
    return Model.model_validate(
        {
            "schema": 0,
            "name": "small",
            "source": "this test",
            "vocab_size": V,
            "context_length": T,
            "d_model": D,
            "embedding": {"positions": "none"},
            "layers": [{"repeat": 1, "norm": RMS, "attention": {**LATENT, **fields}, "mlp": mlp}],
            "final_norm": RMS,
            "unembedding": {"tied": False, "bias": False},
        }
    )


def test_deepseek_v3_has_its_published_figures():
    """transformers builds 671,026,404,352; 37.55B of them with both embeddings meet a token.

    A token keeps 61 layers x (512 + 64) numbers of two bytes.
    """
    model = archcalc.load("deepseek-v3")
    counts = params(model)
    assert counts.stored == 671_026_404_352
    assert counts.active == 37_552_282_624
    assert cache(model, Run("decode", 1, context=1), 2) == 61 * (512 + 64) * 2 == 70_272


def test_a_window_beside_it_in_a_layer_is_not_its_own():
    """Of a latent all positions are kept and read, of the attention with a window of 5 its last 5."""
    windowed = {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 1, "d_head": 6, "bias": False, "window": 5}
    data = plain(spec())
    pair = [{"name": f"mix_{i}", "norm": None, "mixer": mixer} for i, mixer in enumerate((LATENT, windowed))]
    for branches in (pair, pair[::-1]):
        data["layers"] = [{"repeat": 1, "branches": branches}]
        kept = cache(Model.model_validate(data), Run("decode", B, context=T), 2)
        assert kept == B * (T * (RANK + ROPE) + 5 * 2 * 6) * 2


def test_a_position_keeps_its_latent_and_one_key_whatever_the_heads():
    for heads in (1, 4):
        assert cache(spec(n_heads=heads), Run("decode", B, context=T), 2) == B * T * (RANK + ROPE) * 2


MLP_AND_HEAD = 2 * (2 * D * D_FF + D * V)
PROJECTIONS = 2 * (D * Q_RANK + Q_RANK * HEADS * (NOPE + ROPE) + D * (RANK + ROPE) + HEADS * VALUE * D)


def test_prefill_makes_keys_and_values_of_every_head():
    expanded = 2 * RANK * HEADS * (NOPE + VALUE)
    attention = 2 * T * HEADS * (NOPE + ROPE + VALUE)
    found = flops(spec(), Run("prefill", B, T)).forward
    assert found == B * T * (MLP_AND_HEAD + PROJECTIONS + expanded + attention)


def test_decode_meets_the_latents_and_makes_no_keys():
    absorbed = 2 * HEADS * (NOPE * RANK + RANK * VALUE)  # the keys' matrix on the query, the values' on what was found
    attention = 2 * T * HEADS * (RANK + ROPE + RANK)
    found = flops(spec(), Run("decode", B, context=T)).forward
    assert found == B * (MLP_AND_HEAD + PROJECTIONS + absorbed + attention)


@pytest.mark.parametrize("q_rank", [Q_RANK, None])
@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_decode_reads_the_same_weights_as_prefill(q_rank, kernel):
    model = spec(q_rank=q_rank)

    def weights(run):
        return {(w.path, w.axes) for s in model.record(run).segments for op in s.ops for w in op.weights}

    decoded, prefilled = (
        weights(Run("decode", 1, context=T, attention=kernel)),
        weights(Run("prefill", 1, T, attention=kernel)),
    )
    assert decoded == prefilled == weights(Run(sequence=T, attention=kernel))


@pytest.mark.parametrize("fields", [{}, {"q_rank": None, "norm": None}, {"rotary": None}, {"d_value": NOPE + ROPE}])
def test_decode_step_by_step_is_one_pass(fields):
    torch = pytest.importorskip("torch", reason="the reference is PyTorch")
    from archcalc_reference.model.transformer import Cache, Transformer

    torch.manual_seed(0)
    model = spec(**fields, bias=True)
    reference = Transformer(model).double()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        tokens = torch.randint(V, (B, T))
        expected = reference(tokens).logits
        for kernel in ("math", "flash"):
            held = Cache(model, B, T, torch.float64)
            parts = tokens.split([7, 5, *[1] * (T - 12)], 1)
            found = torch.cat([reference(part, kernel=kernel, cache=held).logits for part in parts], 1)
            assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
            assert held.nbytes == cache(model, Run("decode", B, context=T), 8)


def test_mscale_is_the_square_of_yarns_factor():
    """0.1 x 0.7 x ln 8 + 1, twice: the scores of DeepSeek's models, arXiv:2309.00071 with its mscale_all_dim."""
    pytest.importorskip("torch", reason="the reference is PyTorch")
    from math import log

    from archcalc_reference.model.latent import LatentAttention

    scaling = {"kind": "yarn", "factor": 8.0, "original_context_length": 8, "mscale": 0.3, "mscale_all_dim": 0.7}
    rotary = {**LATENT["rotary"], "scaling": scaling}
    attention = spec(rotary=rotary, mscale=True).layers[0].attention
    expected = (NOPE + ROPE) ** -0.5 * (0.1 * 0.7 * log(8) + 1) ** 2
    assert LatentAttention(D, attention).rule.scale == pytest.approx(expected, rel=1e-12)


def test_mscale_needs_what_it_is_made_of():
    with pytest.raises(ValueError, match="has no effect without"):
        spec(mscale=True)


INDEXED = {"n_heads": 8, "d_head": 6, "top_k": 5, "norm": {"kind": "layernorm", "bias": True}}


def test_an_indexer_counts_its_weights_its_scores_and_its_keys():
    """Its queries come of their latent; keys and shares of the heads come of the residual stream."""
    small, plain = spec(indexer=INDEXED), spec()
    weights = Q_RANK * 8 * 6 + D * 6 + D * 8
    assert params(small).stored == params(plain).stored + weights + 2 * 6
    run = Run(sequence=T, batch=B, attention="math")
    more = flops(small, run).forward - flops(plain, run).forward
    assert more == 2 * B * T * weights + 2 * B * T * T * 8 * (6 + 1)
    assert flops(small, run).backward == flops(plain, run).backward
    kept = [cache(model, Run("decode", B, context=T), 2) for model in (small, plain)]
    assert kept[0] - kept[1] == B * T * 6 * 2


def test_a_decode_step_reads_the_chosen_positions_alone():
    """Scores by the latent and by the position and the mix, of 5 positions in place of all; the indexer scores all."""
    small, plain = spec(indexer=INDEXED), spec()
    works = [flops(model, Run("decode", B, context=T)).forward for model in (small, plain)]
    of_indexer = 2 * B * (Q_RANK * 8 * 6 + D * 6 + D * 8) + 2 * B * T * 8 * (6 + 1)
    assert works[1] - (works[0] - of_indexer) == 2 * B * HEADS * (2 * RANK + ROPE) * (T - 5)


def test_pairs_that_count_are_those_chosen_of_what_came_before():
    """Position t chooses min(t, 5) of t positions, itself among them; the indexer scores all t."""
    small = spec(indexer=INDEXED)
    full, exact = (flops(small, Run(sequence=T, causal=causal)).forward for causal in ("full", "exact"))
    chosen, before = sum(min(t, 5) for t in range(1, T + 1)), T * (T + 1) // 2
    assert full - exact == 2 * HEADS * (NOPE + ROPE + VALUE) * (T * T - chosen) + 2 * 8 * 7 * (T * T - before)


def test_an_indexer_has_no_gradients_and_no_state_of_the_optimizer():
    """AdamW in fp32 keeps 16 bytes of a parameter that learns, a counter of 4 for each tensor; 4 of one that does not."""
    from archcalc.counts.memory import state_bytes
    from archcalc.tape.precision import Keeping

    counts = [params(model) for model in (spec(indexer=INDEXED), spec())]
    states = [state_bytes(each, Run(), Keeping("fp32", optimizer="adamw-fused")) for each in counts]
    assert states[0] - states[1] == 4 * (counts[0].stored - counts[1].stored)
    assert counts[0].learned == counts[1].stored


def test_the_bridge_from_6nd_takes_back_what_an_indexer_does_not_learn():
    from archcalc.counts.flops import training_run

    model = spec(indexer=INDEXED)
    run = Run(sequence=T, attention="math")
    found = training_run(model, params(model), run, 1_000 * T)
    steps = {step.name: step.flops for step in found.bridge}
    assert steps["weights without a gradient (indexers)"] == -4 * (Q_RANK * 48 + D * 14) * 1_000 * T
    assert found.six_nd + sum(steps.values()) == found.flops


def test_deepseek_v32_and_glm_5_have_their_counts():
    """transformers builds as many; a token keeps a latent, one key and one index key in each layer."""
    for name, layers, stored in (("deepseek-v3.2", 61, 671_877_929_216), ("glm-5", 78, 743_911_199_232)):
        model = archcalc.load(name)
        assert params(model).stored == stored
        assert cache(model, Run("decode", 1, context=1), 2) == layers * (512 + 64 + 128) * 2


def test_a_decode_step_reads_all_index_keys_and_the_chosen_latents():
    from archcalc.counts.leastread import least_read

    read = least_read(spec(indexer=INDEXED), Run("decode", B, context=T), 16, 10**12)
    assert read.cache == B * (T * 6 + 5 * (RANK + ROPE)) * 2


def test_an_indexer_is_trained_around():
    """Its weights stay as they were drawn, and the optimizer keeps nothing of them."""
    torch = pytest.importorskip("torch", reason="it trains")
    from archcalc_reference import Transformer

    model = Transformer(spec(indexer=INDEXED))
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == [name for name, _ in model.named_parameters() if ".indexer." in name]
    model(torch.zeros(1, 9, dtype=torch.long), torch.zeros(1, 9, dtype=torch.long)).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == frozen
