"""FLOPs of a token as others printed them, each by the rule that they count by."""

import pytest
from command import ask

import archcalc
from archcalc.counts.flops import flops, training_run
from archcalc.counts.mtp import modules
from archcalc.counts.parameters import params
from archcalc.counts.pertoken import RULES, per_token
from archcalc.spec.catalogue import find, names
from archcalc.tape.run import Run

# NVIDIA-NeMo/Megatron-Bridge, docs/performance-summary.md and its archive at 067f987df: TFLOP/s of a GPU divided by its
# tokens a second, the median over the rows of a model; docs.nvidia.com/nemo-framework, 24.12, performance summary: the
# same of one row each. Its GPT3 models have a vocabulary of 51,200 and heads of 128 (checked there: 5B has 24 layers
# of 4,096, 20B 44 of 6,144).
BRIDGE = {
    ("llama3-70b", 8192): 4.492e11,
    ("llama3.1-405b", 8192): 2.524e12,
    ("qwen3-235b-a22b", 4096): 1.480e11,
    ("qwen3-30b-a3b", 4096): 2.301e10,
    ("gpt-oss-120b", 4096): 3.26e10,
}
NEMO = {
    ("gpt3-175b@vocab_size=51200", 2048): 1.0768e12,
    ("gpt3-175b@vocab_size=51200,n_layers=44,d_model=6144,n_heads=48,d_ff=24576", 2048): 1.2818e11,
    ("gpt3-175b@vocab_size=51200,n_layers=24,d_model=4096,n_heads=32,d_ff=16384", 2048): 3.268e10,
}
# The figures are quotients of two rounded ones, three digits of TFLOP/s: half a unit of 700 is 0.07%.
ROUNDING = 7e-4


def by(rule, spec, sequence):
    return next(one.flops for one in per_token(find(spec).model, sequence) if one.name == rule)


@pytest.mark.parametrize(("spec", "sequence"), BRIDGE)
def test_megatron_bridge_counts_half_of_the_pairs_and_no_router(spec, sequence):
    if spec not in names():
        pytest.skip(f"{spec} is not in the catalogue")
    rounding = 2e-3 if spec == "gpt-oss-120b" else ROUNDING  # 3.26e10 has three digits
    assert by("causal half", spec, sequence) == pytest.approx(BRIDGE[spec, sequence], rel=rounding)


def test_megatron_bridge_counts_a_module_of_multi_token_prediction_as_the_model():
    """DeepSeek-V3 with one module, 2.600e11 at 4,096: half of the module's pairs, its own head, no router of either."""
    model = find("deepseek-v3").model
    module = modules(model, Run(sequence=4096, attention="math", causal="half")).training / 4096
    router = 6 * 256 * 7168
    assert by("causal half", "deepseek-v3", 4096) + module - router == pytest.approx(2.600e11, rel=ROUNDING)


@pytest.mark.parametrize(("spec", "sequence"), NEMO)
def test_nemo_2412_pairs_all_positions(spec, sequence):
    assert by("all pairs", spec, sequence) == pytest.approx(NEMO[spec, sequence], rel=ROUNDING)


def test_the_rules_by_hand():
    model, s = archcalc.load("gpt2"), 1024
    d, layers, vocab = 768, 12, 50_257
    stored = 124_439_808
    scores = 12 * layers * d * s  # three times 2 x 2 x S x d for queries with keys, and weights with values
    inside = stored - vocab * d - 1024 * d
    matrices = layers * 12 * d * d + vocab * d
    found = {one.name: one.flops for one in per_token(model, s)}
    assert found == {
        "6N": 6 * inside,
        "6N + scores": 6 * stored + scores,
        "all pairs": 6 * matrices + scores,
        "causal half": 6 * matrices + scores // 2,
        "causal exact": 6 * matrices + scores * (s + 1) // (2 * s),
    }
    # Narayanan et al. 2021, equation 3: 96 B S l h^2 (1 + S / 6 h + V / 16 l h) with the forward pass of the layers
    # twice; without that 72 B S l h^2 (1 + S / 6 h + V / 12 l h).
    assert found["all pairs"] == 72 * layers * d * d + 12 * layers * d * s + 6 * vocab * d


def test_experts_count_as_those_that_are_chosen():
    model = archcalc.load("mixtral-8x7b")
    counts, run = params(model), Run(sequence=4096, attention="math")
    found = {one.name: one.flops for one in per_token(model, 4096)}
    router = 6 * 32 * 8 * 4_096
    assert found["all pairs"] == training_run(model, counts, run, 4096).flops // 4096
    half = flops(model, run._replace(causal="half")).training // 4096
    assert found["causal half"] == half - router
    assert found["6N + scores"] - found["6N"] < found["all pairs"]


def test_the_sheet_says_whose_each_rule_is():
    out = ask("flops", "gpt2").out
    flat = " ".join(out.split())
    for what, whose in RULES.values():
        assert all(word in flat for word in (*what.split(), *whose.split()))
    assert "Training FLOPs of one token, by the rules in use" in out
    assert max(map(len, out.splitlines())) <= 100
    rows = ask("flops", "gpt2", "-f", "json").json["per_token"]
    assert [row["name"] for row in rows] == list(RULES)
    assert rows[2]["flops"] == by("all pairs", "gpt2", 1024)
    assert ask("flops", "gpt2", "--phase", "decode", "-f", "json").json["per_token"] == []
