"""A capacity of experts: slots of buffers are computed, full ones drop the vectors that they weigh the least."""

import math

import pytest
from command import ask

import archcalc
from archcalc.counts.activations import saved
from archcalc.counts.flops import flops, training_run
from archcalc.counts.parameters import params
from archcalc.proof.witness import prove
from archcalc.spec.model import Model
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

torch = pytest.importorskip("torch")

B, S, D, N, J, F, V = 2, 9, 12, 6, 2, 10, 40
EXPERTS = {
    "kind": "experts",
    "n_experts": N,
    "n_experts_per_token": J,
    "d_ff": F,
    "gated": True,
    "activation": "silu",
    "router": {"scores": "softmax", "normalized": True},
}
EXPERT, ROUTER = 3 * F * D, N * D


def of_experts(factor, **changes):
    experts = {**EXPERTS, "capacity_factor": factor, **changes}
    return Model.model_validate(
        {
            "schema": 0,
            "name": "full",
            "source": "this test",
            "vocab_size": V,
            "context_length": 64,
            "d_model": D,
            "embedding": {"positions": "none"},
            "layers": [{"repeat": 1, "branches": [{"name": "experts", "norm": None, "mixer": experts}]}],
            "final_norm": None,
            "unembedding": {"tied": False, "bias": False},
        }
    )


def slots(factor, tokens):
    return min(math.ceil(factor * tokens * J / N), tokens)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.25, 2.0, 30.0])
def test_all_slots_are_computed_and_the_same_is_stored_and_met(factor):
    model, plain = of_experts(factor), of_experts(None)
    assert params(model)[:4] == params(plain)[:4]
    assert params(model).active == 2 * V * D + J * EXPERT + ROUTER
    rows, run = N * slots(factor, B * S), Run("prefill", B, S)
    assert flops(model, run).forward == 2 * (rows * EXPERT + B * S * (ROUTER + V * D))
    training = Run("training", B, S)
    assert flops(model, training).training == 3 * flops(model, run).forward
    decode = Run("decode", B, context=S)
    assert flops(model, decode) == flops(plain, decode)  # a new token finds room


def test_a_share_is_exact_where_its_float_is_not():
    """2.2 x 45 tokens x 2 / 6 is 33; of floats it is a little more, and its ceiling 34."""
    assert math.ceil(2.2 * 45 * J / N) == 34
    run = Run("prefill", 1, 45)
    assert flops(of_experts(2.2), run).forward == 2 * (N * 33 * EXPERT + 45 * (ROUTER + V * D))


@pytest.mark.parametrize(("factor", "name"), [(0.5, "vectors that find no slot"), (2.0, "slots that stay empty")])
@pytest.mark.parametrize("tokens", [1, 17, 64, 1000])
def test_the_bridge_from_six_n_d_has_a_term_for_slots(factor, name, tokens):
    model, run = of_experts(factor), Run("training", 1, 64)
    found = training_run(model, params(model), run, tokens)
    steps = {step.name: step.flops for step in found.bridge}
    assert found.six_nd + sum(steps.values()) == found.flops
    work = 6 * N * slots(factor, 64) * EXPERT
    assert steps[name] == work * tokens // 64 - 6 * J * EXPERT * tokens
    assert (steps[name] > 0) == (factor > 1)
    assert not {name} & {step.name for step in training_run(of_experts(None), params(model), run, tokens).bridge}


def test_what_is_saved_is_that_of_the_slots():
    """What experts work on, gate, up and product of both, and what they make; the weights and numbers of slots; of
    the router its probabilities and what is chosen; the gates of all experts. fp32.
    """
    small, large = (saved(of_experts(factor), Run("training", 1, 12), widths(4)).total for factor in (1.0, 2.0))
    rows = N * (slots(2.0, 12) - slots(1.0, 12))
    assert large - small == rows * (4 * (D + F + F + F + F + D + 1) + 8)


@torch.no_grad()
@pytest.mark.parametrize("factor", [0.25, 0.75, 1.0, 1.5, 30.0])
@pytest.mark.parametrize("more", [{}, {"bias": True, "router": {**EXPERTS["router"], "scale": 2.0}}])
def test_a_full_expert_keeps_those_that_it_weighs_the_most(factor, more):
    from archcalc_reference import Transformer

    torch.manual_seed(0)
    ours = Transformer(of_experts(factor, **more)).double().layers[0].branches[0].mixer
    for parameter in ours.parameters():
        parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(B, S, D, dtype=torch.float64)
    rows = x.flatten(0, 1)
    scores = (rows @ ours.router.weight.T).softmax(-1)
    best = scores.topk(J)
    weights = best.values / best.values.sum(-1, keepdim=True) * (2.0 if more else 1.0)
    expected, dropped = torch.zeros_like(rows), 0
    for e in range(N):
        given = sorted(((float(weights[n, j]), n) for n, j in (best.indices == e).nonzero().tolist()), reverse=True)
        room = slots(factor, B * S)
        dropped += len(given[room:])
        for weight, n in given[:room]:
            parts = {name: getattr(ours.experts, name) for name in ("gate", "up", "down")}
            gate, up = (
                parts[name].weight[e] @ rows[n] + (parts[name].bias[e] if more else 0) for name in ("gate", "up")
            )
            made = parts["down"].weight[e] @ (torch.nn.functional.silu(gate) * up)
            expected[n] += weight * (made + (parts["down"].bias[e] if more else 0))
    assert (dropped > 0) == (factor <= 1)
    assert torch.allclose(ours(x).flatten(0, 1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [0.5, pytest.param(1.25, marks=pytest.mark.prove)])
def test_a_model_with_a_capacity_is_what_the_reference_is(factor):
    verdict = prove(of_experts(factor))
    assert not [check.what for check in verdict.checks if not check.equal]
    assert any("where vectors are dropped" in words for words in verdict.not_compared)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_identity": 2}, "must be null where {other} is given"),
        ({"router": {**EXPERTS["router"], "weighs": "input"}}, "must be null where the router weighs inputs"),
        ({"capacity_factor": 0.0}, "greater than 0"),
    ],
)
def test_what_has_no_capacity_is_refused(changes, words):
    with pytest.raises(ValueError, match=words.replace("{other}", "n_identity")):
        of_experts(1.0, **changes)


def test_a_question_sets_a_capacity_and_every_result_says_so():
    plain, full = (
        ask("flops", name, "-f", "json").json for name in ("mixtral-8x7b", "mixtral-8x7b@capacity_factor=1.25")
    )
    assert full["flops"]["forward"] > plain["flops"]["forward"]
    out = " ".join(ask("params", "mixtral-8x7b@capacity_factor=1.25").out.split())
    assert "experts compute 1.25 x their even share of the tokens, empty slots too, in training and prefill" in out
    assert "active parameters are those of 2 experts a token all the same" in out
    assert "capacity" not in ask("params", "mixtral-8x7b").out
    model = archcalc.load("mixtral-8x7b@capacity_factor=1.25")
    assert model.layers[0].mlp.capacity_factor == 1.25
