"""Mixtures of experts: what is stored and what one token meets, by hand and as published."""

import itertools
from fractions import Fraction

import pytest
from command import ask
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.blocks import Experts
from archcalc.counts.flops import flops, training_run
from archcalc.counts.leastread import least_read
from archcalc.counts.memory import memory
from archcalc.counts.parameters import params
from archcalc.counts.touched import touched
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

SPEC = {
    "schema": 0,
    "name": "mixture",
    "source": "this test",
    "vocab_size": 50,
    "context_length": 16,
    "d_model": 12,
    "embedding": {"positions": "none"},
    "layers": [
        {
            "repeat": 3,
            "norm": None,
            "attention": {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 1, "d_head": 4, "bias": False},
            "mlp": {
                "kind": "experts",
                "n_experts": 6,
                "n_experts_per_token": 2,
                "d_ff": 10,
                "gated": True,
                "activation": "silu",
                "router": {"scores": "softmax", "normalized": True},
            },
        }
    ],
    "final_norm": None,
    "unembedding": {"tied": False, "bias": False},
}


def mixture(**changes):
    mlp = {**SPEC["layers"][0]["mlp"], **changes}
    return Model.model_validate({**SPEC, "layers": [{**SPEC["layers"][0], "mlp": mlp}]})


ATTENTION = 12 * (8 + 4 + 4) + 8 * 12  # query, key, value; output
EXPERT, ROUTER = 3 * 10 * 12, 6 * 12
TOKENS = 2 * 16
RUN = Run("prefill", 2, 16)


def test_parameters_by_hand():
    counts = params(mixture())
    assert counts.stored == 2 * 50 * 12 + 3 * (ATTENTION + 6 * EXPERT + ROUTER)
    assert counts.active == counts.stored - 3 * 4 * EXPERT
    assert counts.active_inner == counts.active - 50 * 12
    matrices = {category.category: category.matrices for category in counts.tally.categories}
    assert (matrices["up_projection"], matrices["down_projection"]) == (3 * 6 * 2, 3 * 6)
    assert {term.name: term.parameters for term in counts.bridge} == {"router": 3 * ROUTER}


def test_experts_over_latents_by_hand():
    """Two projections that every vector goes through, 12 to 5 and back; experts and what they multiply are 5 wide."""
    narrow = 3 * 10 * 5
    counts = params(mixture(d_latent=5, latent_bias=True))
    assert counts.stored == 2 * 50 * 12 + 3 * (ATTENTION + 6 * narrow + ROUTER + 2 * 12 * 5 + 5 + 12)
    assert counts.active == counts.stored - 3 * 4 * narrow
    assert {term.name: term.parameters for term in counts.bridge} == {
        "biases": 3 * (5 + 12),
        "router": 3 * ROUTER,
        "expert_latents": 3 * 2 * 12 * 5,
    }
    saved = flops(mixture(), RUN).forward - flops(mixture(d_latent=5), RUN).forward
    assert saved == 3 * TOKENS * 2 * (2 * (EXPERT - narrow) - 2 * 12 * 5)


def test_what_a_tied_table_multiplies_stays_active():
    model = Model.model_validate({**SPEC, "unembedding": {"tied": True, "bias": False}})
    counts = params(model)
    assert counts.active_inner == counts.active


def test_an_expert_that_is_shared_is_always_active_and_a_correction_is_no_parameter():
    dense = {"kind": "gated", "d_ff": 7, "activation": "silu", "bias": False}
    plain = params(mixture())
    more = params(mixture(shared=dense, shared_gate=True))
    assert more.stored - plain.stored == more.active - plain.active == 3 * (3 * 7 * 12 + 12)
    balanced = mixture(router={"scores": "sigmoid", "normalized": True, "correction": True})
    assert params(balanced).stored == plain.stored
    held = {term.name: term.bytes for term in memory(balanced, Run("prefill", 1, 8), Keeping("bf16")).terms}
    assert held["buffers"] == 3 * 6 * 4  # fp32


@pytest.mark.parametrize("length", [1, 5, 16])
def test_flops_are_those_of_the_chosen_experts(length):
    found = flops(mixture(), Run("prefill", 1, length)).forward
    one_layer = 2 * (ATTENTION + 2 * EXPERT + ROUTER) * length + 2 * 2 * length * length * 2 * 4
    assert found == 3 * one_layer + 2 * 50 * 12 * length


@given(model=strategies.models(), tokens=st.integers(1, 10**6))
def test_the_bridge_from_six_n_d_sums_exactly(model, tokens):
    counts, run = params(model), Run(sequence=model.context_length, attention="math")
    trained = training_run(model, counts, run, tokens * model.context_length)
    assert trained.six_nd + sum(step.flops for step in trained.bridge) == trained.flops
    assert counts.active_inner <= counts.active <= counts.stored


# Published: Jiang et al. 2024, arXiv:2401.04088 (47B and 13B); transformers on the meta device for what is stored; the
# difference is the experts that are not chosen, layers x (experts - chosen) x 3 x d_ff x d_model.
ACTIVE = {
    "mixtral-8x7b": (46_702_792_704, 32 * 6 * 3 * 14_336 * 4_096),
    "qwen3-30b-a3b": (30_532_122_624, 48 * 120 * 3 * 768 * 2_048),
    "qwen3-235b-a22b": (235_093_634_560, 94 * 120 * 3 * 1_536 * 4_096),
}


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_of_published_models(name):
    stored, idle = ACTIVE[name]
    counts = params(archcalc.load(name))
    assert (counts.stored, counts.active) == (stored, stored - idle)


def test_more_experts_than_there_are_is_refused():
    with pytest.raises(ValueError, match="must be at most n_experts"):
        mixture(n_experts_per_token=7)
    assert Experts.model_fields["n_experts_per_token"].is_required()


def test_groups_that_leave_fewer_experts_than_a_token_needs_are_refused():
    assert mixture(n_groups=3, n_groups_chosen=1).layers[0].mlp.n_groups_chosen == 1  # two experts for two
    with pytest.raises(ValueError, match="must leave at least n_experts_per_token"):
        mixture(n_groups=3, n_groups_chosen=1, n_experts_per_token=3)
    with pytest.raises(ValueError, match="must be at most n_groups"):
        mixture(n_groups=3, n_groups_chosen=4)


def by_draws(experts, chosen, tokens):
    """Expected experts that some token chooses: of all ways to choose, how many each leaves out, weighed by hand."""
    ways = list(itertools.combinations(range(experts), chosen))
    found = [len(set().union(*taken)) for taken in itertools.product(ways, repeat=tokens)]
    return Fraction(sum(found), len(found))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_decode_step_reads_the_experts_that_its_sequences_choose(batch):
    model, counts = mixture(), params(mixture())
    other = counts.stored - 3 * 6 * EXPERT - 50 * 12  # the input table is only looked up
    found = touched(model, batch)
    assert found.expected == round(other + 3 * EXPERT * by_draws(6, 2, batch))
    assert found.most == other + 3 * EXPERT * min(6, 2 * batch)
    read = least_read(model, Run("decode", batch, context=16), 16, 10**9)
    assert (read.weights, read.most_weights) == (2 * found.expected, 2 * found.most)
    told = ask("flops", "mixtral-8x7b", "--phase", "decode", "--batch", str(batch), "-f", "json").json["decode"]
    each = 32 * 3 * 14_336 * 4_096  # of one expert in every layer
    rest = 46_702_792_704 - 8 * each - 32_000 * 4_096
    assert told["most_parameters"] == rest + min(8, 2 * batch) * each
    assert told["parameters"] == rest + round(8 * each * (1 - Fraction(3, 4) ** batch))
    assert told["parameters"] <= told["most_parameters"]


def test_one_sequence_reads_what_is_active_and_many_read_everything():
    for name, table in (("mixtral-8x7b", 32_000 * 4_096), ("qwen3-30b-a3b", 151_936 * 2_048)):
        counts = params(archcalc.load(name))
        assert touched(archcalc.load(name), 1) == (counts.active - table, counts.active - table)
        assert touched(archcalc.load(name), 10**6) == (counts.stored - table, counts.stored - table)


def test_many_batches_at_once_read_what_each_reads():
    batches = "1..40:3"
    columns = ("decode.parameters", "decode.most_parameters")
    rows = ask(
        "sweep", "qwen3-30b-a3b", "--vary", f"batch={batches}", "--columns", ",".join(columns), "-f", "json"
    ).json["rows"]
    model = archcalc.load("qwen3-30b-a3b")
    assert len(rows) == 14
    assert [tuple(row) for row in rows] == [(row[0], *touched(model, row[0])) for row in rows]
    formula = ask("explain", "mixtral-8x7b", "decode.parameters", "--batch", "5", "-f", "json").json
    assert formula["value"] == touched(archcalc.load("mixtral-8x7b"), 5).expected
    assert "(1 - (1 - J / E)^(B))" in formula["formula"]


def test_the_sheet_says_what_is_expected_and_what_is_the_most():
    out = " ".join(ask("flops", "mixtral-8x7b", "--phase", "decode", "--batch", "2").out.split())
    assert (
        "a step of 2 sequences read 21.20B parameters, as expected under balanced routing (modelled); at most 24.02B of 46.70B"
        in out
    )
    assert "Experts" not in ask("flops", "gpt2", "--phase", "decode").out
