"""Recurrent mixers: by hand, as the recurrence says, chunk by chunk, and what is kept of a text."""

import math
from functools import partial

import pytest

import archcalc
from archcalc.counts.activations import cache, recurrent_state
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory
from archcalc.counts.parameters import params
from archcalc.huggingface.importing import import_config
from archcalc.proof.witness import prove
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

torch = pytest.importorskip("torch")

B, S, D, V = 2, 23, 20, 30
HEADS, GROUPS, P, N, TAPS, CHUNK = 6, 2, 8, 12, 4, 7
STATE = {
    "n_heads": HEADS,
    "n_groups": GROUPS,
    "d_head": P,
    "d_state": N,
    "d_conv": TAPS,
    "chunk_size": CHUNK,
    "activation": "silu",
    "norm": {"kind": "rmsnorm"},
}
MAMBA2 = {"kind": "mamba2", **STATE, "bias": False, "conv_bias": True}
DELTA = {"kind": "gated_delta", **STATE, "norm_over": "head", "norm_place": "before"}
E, RANK = 18, 5
MAMBA = {
    "kind": "mamba",
    "d_inner": E,
    "d_state": N,
    "d_conv": TAPS,
    "step_rank": RANK,
    "activation": "silu",
    "bias": False,
    "conv_bias": True,
    "norm": {"kind": "rmsnorm"},
}
KIMI = {**DELTA, "decay": "feature", "decay_rank": 5, "gate_rank": 7, "gate_activation": "sigmoid"}
LIGHTNING = {
    "kind": "lightning",
    **{name: value for name, value in STATE.items() if name != "d_conv"},
    "norm_over": "width",
    "norm_place": "before",
    "slopes": "falling",
}
CONV = {"kind": "short_conv", "d_inner": 18, "d_conv": TAPS, "bias": False}
HEADS_OF = {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 1, "d_head": 4, "bias": False}


def spec(*mixers, repeat=1):
    branches = [{"name": f"mix_{i}", "norm": None, "mixer": mixer} for i, mixer in enumerate(mixers)]
    return Model.model_validate(
        {
            "schema": 0,
            "name": "small",
            "source": "this test",
            "vocab_size": V,
            "context_length": 40,
            "d_model": D,
            "embedding": {"positions": "none"},
            "layers": [{"repeat": repeat, "branches": branches}],
            "final_norm": None,
            "unembedding": {"tied": False, "bias": False},
        }
    )


KEYS, INNER = GROUPS * N, HEADS * P


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        # Gate and values, keys and queries, steps; three convolutions with biases; three numbers a head; norm; output.
        (MAMBA2, D * (2 * INNER + 2 * KEYS + HEADS) + (INNER + 2 * KEYS) * (TAPS + 1) + 3 * HEADS + INNER + INNER * D),
        # Shares beside the steps; no biases; two numbers a head; gains that heads share.
        (DELTA, D * (2 * INNER + 2 * KEYS + 2 * HEADS) + (INNER + 2 * KEYS) * TAPS + 2 * HEADS + P + INNER * D),
        # Values and gate; a convolution with bias; what steps are made of, keys and queries, and their norms; steps;
        # a bias of steps, decays and a skip for each channel; output.
        (MAMBA, 2 * D * E + E * (TAPS + 1) + (E + 1) * (RANK + 2 * N) + RANK * E + E + E * N + E + E * D),
        # A decay for each feature of each head's keys, from a latent as the gate; as many biases of steps.
        (
            KIMI,
            D * (INNER + 2 * KEYS + HEADS + 5 + 7)
            + 5 * HEADS * N
            + 7 * INNER
            + (INNER + 2 * KEYS) * TAPS
            + (HEADS * N + HEADS)
            + P
            + INNER * D,
        ),
        (LIGHTNING, D * (2 * INNER + 2 * KEYS) + INNER + INNER * D),
        (CONV, 4 * D * 18 + 18 * TAPS),
    ],
)
def test_parameters_by_hand(mixer, expected):
    assert params(spec(mixer)).stored == 2 * V * D + expected


def padded(length):
    return math.ceil(length / CHUNK) * CHUNK


def forward(mixer):
    """FLOPs of a prompt of B x S by hand, matrices and convolutions apart."""
    positions = B * padded(S)
    pairs, states = positions * CHUNK * HEADS, positions * HEADS * N * P
    if mixer["kind"] == "lightning":  # heads of a group share scores; neither steps nor convolutions
        shared = 2 * positions * CHUNK * (GROUPS * N + HEADS * P) + 2 * 2 * states
        return shared + 2 * B * S * (D * (2 * INNER + 2 * KEYS) + INNER * D + V * D)
    scan = {
        # scores and what is read of the chunk; what is added to the state and read of it
        "mamba2": 2 * pairs * (N + P) + 2 * 2 * states,
        # the system and the scores, what is read of the chunk; what is there, added and read
        "gated_delta": 2 * pairs * (2 * N + P) + 2 * 3 * states,
    }[mixer["kind"]]
    steps = HEADS * (2 if mixer["kind"] == "gated_delta" else 1)
    matrices = D * (2 * INNER + 2 * KEYS + steps) + INNER * D + V * D
    return scan + 2 * B * S * (matrices + (INNER + 2 * KEYS) * TAPS)


@pytest.mark.parametrize("mixer", [MAMBA2, DELTA, LIGHTNING])
def test_flops_of_a_prompt_by_hand(mixer):
    assert flops(spec(mixer), Run("prefill", B, S)).forward == forward(mixer)


@pytest.mark.parametrize(("mixer", "reads"), [(MAMBA2, 1), (DELTA, 2)])
def test_flops_of_a_decode_step_do_not_depend_on_what_came_before(mixer, reads):
    """A state is read once; a delta net reads it for the key too, to know what is there."""
    one, other = (flops(spec(mixer), Run("decode", B, context=length)).forward for length in (3, 40))
    assert one == other
    outside = 2 * B * (forward(mixer) - scan_of(mixer)) // (2 * B * S)
    assert one == outside + reads * 2 * B * HEADS * N * P


def test_flops_of_mamba_by_hand():
    """Of its scan the reading of states alone, as of transformers' loop; it is read again on the way back."""
    matrices = 2 * D * E + E * (RANK + 2 * N) + RANK * E + E * D + V * D
    one = 2 * B * (matrices + E * TAPS + E * N)
    assert flops(spec(MAMBA), Run("prefill", B, S)).forward == S * one
    assert flops(spec(MAMBA), Run("decode", B, context=30)).forward == one
    work = flops(spec(MAMBA), Run("training", B, S))
    assert work.backward == 2 * work.forward + 2 * B * S * E * N


def scan_of(mixer):
    matrices = forward(mixer)
    steps = HEADS * (2 if mixer["kind"] == "gated_delta" else 1)
    rest = D * (2 * INNER + 2 * KEYS + steps) + INNER * D + V * D + (INNER + 2 * KEYS) * TAPS
    return matrices - 2 * B * S * rest


def test_a_delta_nets_system_has_one_product_more_on_its_way_back():
    """Of solve(A, v) and solve(A, k) the gradient of A is a product of l x l x (p + n); all products run again."""
    work = flops(spec(DELTA), Run("training", B, S))
    extra = 2 * B * padded(S) * CHUNK * HEADS * (P + N)
    assert work.backward - 2 * (work.forward - scan_of(DELTA)) == 3 * scan_of(DELTA) + extra


@pytest.mark.parametrize("mixer", [MAMBA, MAMBA2, DELTA, LIGHTNING, CONV])
def test_what_is_kept_has_one_size_whatever_the_length(mixer):
    """States in fp32, and the positions that convolutions see again as wide as activations."""
    channels = {"short_conv": 18, "mamba": E, "lightning": 0}.get(mixer["kind"], INNER + 2 * KEYS)
    state = {"short_conv": 0, "mamba": E * N * 4}.get(mixer["kind"], HEADS * N * P * 4)
    for length in (1, 40):
        run = Run("prefill", B, length)
        assert recurrent_state(spec(mixer), run, widths(2)) == B * (state + channels * (TAPS - 1) * 2)
        assert cache(spec(mixer), run, 2) == 0
        terms = {term.name: term.bytes for term in memory(spec(mixer), run, Keeping("bf16")).terms}
        assert terms["recurrent state"] == B * (state + channels * (TAPS - 1) * 2)


def test_attention_beside_it_keeps_its_keys_and_values():
    assert cache(spec(MAMBA2, HEADS_OF), Run("prefill", 1, 10), 2) == 10 * 2 * 4 * 2


@pytest.mark.parametrize(
    "mixer",
    [
        pytest.param(MAMBA, marks=pytest.mark.prove),
        MAMBA2,
        pytest.param(DELTA, marks=pytest.mark.prove),
        pytest.param(KIMI, marks=pytest.mark.prove),
        pytest.param(LIGHTNING, marks=pytest.mark.prove),
        CONV,
    ],
    ids=["mamba", "mamba2", "gated_delta", "kimi", "lightning", "short_conv"],
)
def test_verify_finds_no_difference(mixer):
    wrong = [check.what for check in prove(spec(mixer, HEADS_OF, repeat=2)).checks if not check.equal]
    assert not wrong


def naive_mamba2(q, k, v, dt, step_bias, decay, skip):
    """The recurrence, word for word: Dao and Gu 2024, equation (1), with steps."""
    state, out = torch.zeros(B, HEADS, P, N, dtype=torch.float64), []
    for t in range(S):
        step = torch.log1p(torch.exp(dt[:, t] + step_bias))
        left = torch.exp(-torch.exp(decay) * step)[..., None, None]
        key = k[:, t].repeat_interleave(HEADS // GROUPS, 1)[:, :, None]
        state = left * state + (step[..., None] * v[:, t])[..., None] * key
        query = q[:, t].repeat_interleave(HEADS // GROUPS, 1)[:, :, None]
        out.append((state * query).sum(-1) + skip[:, None] * v[:, t])
    return torch.stack(out, 1)


def naive_mamba(q, k, v, dt, step_bias, decay, skip):
    """The recurrence, word for word: Gu and Dao 2023, Algorithm 2, with A discretized and B by Euler's rule."""
    state, out = torch.zeros(B, E, N, dtype=torch.float64), []
    for t in range(dt.shape[1]):
        step = torch.log1p(torch.exp(dt[:, t] + step_bias))[..., None]
        state = torch.exp(-torch.exp(decay) * step) * state + step * k[:, t, None] * v[:, t, :, None]
        out.append((state * q[:, t, None]).sum(-1) + skip * v[:, t])
    return torch.stack(out, 1)


@pytest.mark.parametrize("length", [S, 150])
def test_mambas_pieces_and_single_steps_are_the_recurrence(length):
    """So are their gradients; 150 positions are three pieces."""
    from archcalc_reference.model.mamba import mamba

    torch.manual_seed(0)
    shapes = [(B, length, N)] * 2 + [(B, length, E)] * 2 + [(E,), (E, N), (E,)]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    expected, found = naive_mamba(*given), mamba(*given)
    assert torch.allclose(expected, found, atol=1e-10)
    for theirs, ours in zip(
        torch.autograd.grad(expected.sin().sum(), given), torch.autograd.grad(found.sin().sum(), given), strict=True
    ):
        assert torch.allclose(theirs, ours, atol=1e-8)
    for stretches in ((10, length - 10), (1,) * length):
        state, parts, at = torch.zeros(B, E, N, dtype=torch.float64), [], 0
        with torch.no_grad():
            for many in stretches:
                now = [x[:, at : at + many] for x in given[:4]]
                parts.append(mamba(*now, *given[4:], state=state, one=many == 1 and at > 0))
                at += many
        assert torch.allclose(expected, torch.cat(parts, 1), atol=1e-10)


def naive_delta(q, k, v, share, step, step_bias, decay, scale=1.0, decays_of=None):
    """The recurrence, word for word: Yang et al. 2024, equation (10); Kimi Team 2025, arXiv:2510.26692, equation (1)."""
    decays_of = decays_of or (lambda step, rate: torch.exp(-rate * torch.log1p(torch.exp(step)))[..., None, None])
    state, out = torch.zeros(B, HEADS, P, N, dtype=torch.float64), []
    for t in range(S):
        query, key = (x[:, t].repeat_interleave(HEADS // GROUPS, 1) for x in (q, k))
        query, key = (x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (query, key))
        alpha = decays_of(step[:, t] + step_bias, torch.exp(decay))
        beta = scale * torch.sigmoid(share[:, t])[..., None, None]
        outer = key[:, :, :, None] * key[:, :, None]
        state = alpha * state
        state = state - beta * (state @ outer) + beta * v[:, t][..., None] * key[:, :, None]
        out.append((state @ (query[..., None] / N**0.5))[..., 0])
    return torch.stack(out, 1)


def naive_lightning(q, k, v):
    """The recurrence, word for word: Qin et al. 2024, equation (4), with the rates of MiniMax-Text-01's code."""
    state, out = torch.zeros(B, HEADS, P, N, dtype=torch.float64), []
    rates = torch.tensor([1 / 2 ** (8 * (head + 1) / HEADS) for head in range(HEADS)], dtype=torch.float64)
    for t in range(S):
        query, key = (x[:, t].repeat_interleave(HEADS // GROUPS, 1)[:, :, None] for x in (q, k))
        state = torch.exp(-0.7 * rates)[:, None, None] * state + v[:, t][..., None] * key
        out.append((state * query).sum(-1))
    return torch.stack(out, 1)


def kimi_decays(step, rate):
    """Of each feature of a head's keys."""
    return torch.exp(-rate[:, None] * torch.log1p(torch.exp(step.view(B, HEADS, N))))[:, :, None]


def limited_decays(step, rate):
    """Ling 3: exp(-5 sigmoid(...))."""
    return torch.exp(-5.0 * torch.sigmoid(rate[:, None] * step.view(B, HEADS, N)))[:, :, None]


def drawn():
    torch.manual_seed(0)
    shapes = [(B, S, GROUPS, N)] * 2 + [(B, S, HEADS, P)] + [(B, S, HEADS)] * 2 + [(HEADS,)] * 3
    shapes += [(B, S, HEADS * N), (HEADS * N,)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("which", ["mamba2", "gated_delta", "kimi", "ling", "lightning"])
def test_chunks_and_single_steps_are_the_recurrence(which):
    """So are their gradients, a second stretch that goes on where the first ended, and one step at a time."""
    from archcalc_reference.model import scans

    q, k, v, one, two, *learned, many, bias = drawn()
    made, numbers, naive = {
        "mamba2": ((q, k, v, one), (CHUNK, 0.0, math.inf), naive_mamba2),
        "gated_delta": ((q, k, v, one, two), (CHUNK, 0.0, 2.0), partial(naive_delta, scale=2.0)),
        "kimi": ((q, k, v, one, many), (CHUNK, 0.0, 1.0), partial(naive_delta, decays_of=kimi_decays)),
        "lightning": ((q, k, v), (CHUNK, 0.7), naive_lightning),
        "ling": ((q, k, v, one, many), (CHUNK, 5.0, 1.0), partial(naive_delta, decays_of=limited_decays)),
    }[which]
    learned = {"mamba2": learned, "gated_delta": learned[:2], "lightning": []}.get(which, [bias, learned[0]])
    scan = getattr(scans, which, scans.gated_delta)
    expected, found = naive(*made, *learned), scan(*made, *learned, *numbers)
    assert torch.allclose(expected, found, atol=1e-10)
    given = (*made, *learned)
    for theirs, ours in zip(
        torch.autograd.grad(expected.sin().sum(), given), torch.autograd.grad(found.sin().sum(), given), strict=True
    ):
        assert torch.allclose(theirs, ours, atol=1e-8)
    for stretches in ((10, 13), (1,) * S):
        state, parts, at = torch.zeros(B, HEADS, P, N, dtype=torch.float64), [], 0
        with torch.no_grad():
            for length in stretches:
                now = [x[:, at : at + length] for x in made]
                parts.append(scan(*now, *learned, *numbers, state=state, one=length == 1 and at > 0))
                at += length
        assert torch.allclose(expected, torch.cat(parts, 1), atol=1e-10)


def test_the_convolutions_flops_and_numbers_are_those_of_pytorchs_own():
    """Of the positions that stay; the counter takes the gradient of depthwise weights for that of a full convolution."""
    from torch.utils.flop_counter import FlopCounterMode

    from archcalc_reference.model.convolution import causal_conv

    torch.manual_seed(0)
    x, weight, bias = torch.randn(B, S, D), torch.randn(D, 1, TAPS), torch.randn(D)
    with FlopCounterMode(display=False) as theirs:
        whole = torch.nn.functional.conv1d(x.transpose(1, 2), weight, bias, padding=TAPS - 1, groups=D)
    with FlopCounterMode(display=False) as ours:
        found = causal_conv(x, weight, bias)
    assert torch.allclose(whole[:, :, :S].transpose(1, 2), found, atol=1e-6)
    assert theirs.get_total_flops() - ours.get_total_flops() == 2 * B * (TAPS - 1) * D * TAPS
    inputs = [y.double().requires_grad_() for y in (x, weight, bias)]
    assert torch.autograd.gradcheck(causal_conv, inputs)


def test_slopes_fall_from_layer_to_layer():
    """Of 3 layers: 1 + 1e-5, then 1/2 of that and less; equal ones are 1."""
    from archcalc_reference import Transformer

    fall, equal = (Transformer(spec({**LIGHTNING, "slopes": how}, repeat=3)) for how in ("falling", "equal"))
    slopes = [layer.branches[0].mixer.numbers[1] for layer in (*fall.layers, *equal.layers)]
    assert slopes == pytest.approx(
        [1 + 1e-5, 1 - 1 / (2 + 1e-5) + 1e-5, 1 - 2 / (2 + 1e-5) + 1e-5, 1, 1, 1], abs=1e-12
    )


@pytest.mark.parametrize("length", [CHUNK - 1, 3 * CHUNK, 5 * CHUNK + 3])
def test_of_a_long_text_as_many_flops_are_counted_as_every_chunk_does(length):
    from archcalc_reference.model import scanning, scans

    q, v, steps = (1, length, GROUPS, N), (1, length, HEADS, P), (1, length, HEADS)
    shapes, numbers = (q, q, v, steps, (1, length, HEADS * N), (HEADS * N,), (HEADS,)), (CHUNK, 0.0, 1.0)
    for learns in (False, True):
        found = scanning._counted(scans._gated_delta, shapes, 2, numbers, CHUNK, learns=learns)
        assert found == scanning._seen(scans._gated_delta, shapes, 2, numbers, learns=learns)


def test_what_branches_add_to_may_be_normed_and_scaled():
    """x becomes norm(x), is multiplied, and has the branch added: MiniMax-Text-01's layers, in PyTorch's own words."""
    from archcalc_reference import Transformer
    from archcalc_reference.model.positions import Positions

    feed = {"kind": "plain", "d_ff": 16, "activation": "relu", "bias": False}
    data = plain(spec(feed, repeat=1))
    more = {"norm": {"kind": "rmsnorm"}, "residual": "normed", "residual_scale": 3.5, "scale": 0.5}
    data["layers"][0]["branches"][0] |= more
    model = Model.model_validate(data)
    ours = Transformer(model).double()
    x = torch.randn(1, 5, D, dtype=torch.float64)
    normed = torch.nn.functional.rms_norm(x, (D,), eps=1e-6)
    mixer = ours.layers[0].mix_0
    made = torch.relu(normed @ mixer.up.weight.T) @ mixer.down.weight.T
    assert torch.allclose(
        ours.layers[0](x, None, Positions(0, 5, "math", 8, x)), 3.5 * normed + 0.5 * made, atol=1e-12
    )
    assert not [check.what for check in prove(model).checks if not check.equal]


@pytest.mark.parametrize(
    ("config", "parameters", "per_token", "state"),
    [
        # transformers builds as many of its defaults. 6 of 27 layers keep 512 + 64 numbers; in 21 are 32 states of
        # 128 x 128 in fp32, and 3 positions of 3 x 4,096 channels.
        ("kimi_linear", 49_133_074_464, 6 * 576 * 2, 21 * (32 * 128 * 128 * 4 + 3 * 12288 * 2)),
        # 7 of 42 layers.
        ("bailing_hybrid", 124_414_191_072, 7 * 576 * 2, 35 * (32 * 128 * 128 * 4 + 3 * 12288 * 2)),
        # 8 of 32 layers have 30 heads of 128; 24 have 30 states of 96 x 192, and channels of 2 x 2,880 + 5,760.
        ("olmo_hybrid", 7_430_870_688, 8 * 2 * 30 * 128 * 2, 24 * (30 * 96 * 192 * 4 + 3 * 11520 * 2)),
        # 16 of 32 layers have 8 key/value heads of 128; 16 have 32 states of 128 x 128, and no convolution.
        ("minimax", 47_373_946_880, 16 * 2 * 8 * 128 * 2, 16 * 32 * 128 * 128 * 4),
    ],
)
def test_defaults_of_hybrids(config, parameters, per_token, state):
    model = Model.model_validate(import_config({"model_type": config}, "config.json").data)
    assert params(model).stored == parameters
    assert cache(model, Run("decode", 1, context=1), 2) == per_token
    assert recurrent_state(model, Run("prefill"), widths(2)) == state


@pytest.mark.parametrize(
    ("name", "parameters", "per_token", "state"),
    [
        # transformers builds 79,674,391,296. 12 layers of attention with 2 x 256 x 2 numbers of 2 bytes a token; in 36
        # layers 32 states of 128 x 128 in fp32, and 3 positions of 8,192 channels.
        ("qwen3-next-80b-a3b", 79_674_391_296, 24_576, 36 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)),
        # 10 and 30 layers.
        ("qwen3.5-35b-a3b", 34_660_610_688, 20_480, 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)),
        # 10 of 118 layers are attention with 8 key/value heads of 128; 54 have 256 heads of 64 with states of 256.
        ("nemotron-h-56b", 56_324_350_464, 10 * 2 * 8 * 128 * 2, 54 * (256 * 64 * 256 * 4 + 3 * 20480 * 2)),
        # 6 layers with 2 x 128; 23 have 64 heads of 64 with states of 128.
        ("nemotron-3-nano-30b-a3b", 31_577_937_344, 6 * 2 * 2 * 128 * 2, 23 * (64 * 64 * 128 * 4 + 3 * 6144 * 2)),
        # In each of 36 layers 2 x 2 x 64 numbers a token; 24 heads of 64 with states of 128, and one group's keys.
        ("falcon-h1-0.5b", 521_411_104, 36 * 2 * 2 * 64 * 2, 36 * (24 * 64 * 128 * 4 + 3 * (1536 + 2 * 128) * 2)),
        # 64 layers with 8,192 channels of 16 numbers, and no keys or values.
        ("falcon-mamba-7b", 7_272_665_088, 0, 64 * 8192 * (16 * 4 + 3 * 2)),
        # 4 layers of 32 are attention with 8 key/value heads of 128.
        ("jamba-1.5-mini", 51_570_323_328, 4 * 2 * 8 * 128 * 2, 28 * 8192 * (16 * 4 + 3 * 2)),
        # 4 of 32 are attention with 4 heads of 64; 28 have 48 heads of 32 with states of 128.
        ("granite4.0-h-350m", 340_332_224, 4 * 2 * 4 * 64 * 2, 28 * (48 * 32 * 128 * 4 + 3 * (1536 + 2 * 128) * 2)),
    ],
)
def test_published_hybrids(name, parameters, per_token, state):
    model = archcalc.load(name)
    assert params(model).stored == parameters
    assert cache(model, Run("decode", 1, context=1), 2) == per_token
    assert recurrent_state(model, Run("prefill"), widths(2)) == state
