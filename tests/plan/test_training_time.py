"""How long a step and a training take under a plan: measured runs as others printed them, and what cannot be."""

import pytest
from command import ask

import archcalc
from archcalc.counts.worked import worked
from archcalc.plan.description import Plan
from archcalc.tape.run import Run

S, V = 2_048, 51_200
DAY = 86_400


def timed(spec, *flags):
    """What `flops` says of the time, and all that it says."""
    answer = ask("flops", spec, *flags, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    return answer.json["time"], answer.json


def shape(layers, width, heads):
    return f"gpt3-175b@vocab_size={V},n_layers={layers},d_model={width},n_heads={heads},d_ff={4 * width}"


# Korthikanti et al. 2022, arXiv:2205.05198, Table 5: seconds of an iteration, MFU and HFU of A100s, with sequence
# parallelism and selective recomputation; Table 3 has the shapes, plans and batches.
KORTHIKANTI = {
    "22B": (shape(48, 6_144, 64), ("--tp", "8", "--sequence-parallel", "--micro-batch", "4"), 8, 1.10, 41.5, 43.7),
    "175B": (shape(96, 12_288, 96), ("--plan", "gpt3-175b-korthikanti"), 64, 13.75, 51.4, 52.8),
}
SIZES = {"22B": (4, 48, 6_144), "175B": (64, 96, 12_288)}


@pytest.mark.parametrize("name", KORTHIKANTI)
def test_iterations_of_korthikanti(name):
    """Their HFU counts the core of attention three times more, 12 B L s^2 h (equation 8); its forward pass is 4 B L s^2
    h, and PyTorch's checkpoint stops before the last product of it: 2 B L s^2 h.
    """
    spec, flags, gpus, seconds, mfu, hfu = KORTHIKANTI[name]
    time, told = timed(spec, *flags, "--recompute", "selective", "--device", "a100-80gb", "--mfu", f"{mfu}%")
    assert time["devices"] == told["plan"]["world"] == gpus
    assert time["seconds"] == pytest.approx(seconds, rel=0.005)  # 1.10 and 41.5 are rounded
    batch, layers, width = SIZES[name]
    core = 2 * batch * layers * S**2 * width
    assert time["model_flops"] == 36 * core * width // S + 6 * core + 6 * batch * S * V * width
    assert time["hardware_flops"] - time["model_flops"] == core
    theirs = (time["model_flops"] + 6 * core) / (gpus * 312e12 * seconds)
    assert theirs == pytest.approx(hfu / 100, rel=0.005)
    assert mfu / 100 < time["hfu"] < theirs


# Narayanan et al. 2021, arXiv:2104.04473, Table 2: GPT-3 on so many A100s, TP 8 x PP 12, batch 1,536; TFLOP/s of a GPU
# with a whole forward pass computed again (equation 3), and days for 300 billion tokens.
NARAYANAN = {384: (153, 84), 768: (149, 43)}


@pytest.mark.parametrize("gpus", NARAYANAN)
def test_days_of_narayanan(gpus):
    """96 of their FLOPs in the layers are 72 of the model's; the printed days are rounded, and so are the TFLOP/s."""
    rate, days = NARAYANAN[gpus]
    h, layers = 12_288, 96
    model = 72 * layers * h**2 + 12 * layers * S * h + 6 * h * V
    again = 24 * layers * h**2 + 4 * layers * S * h
    mfu = rate / 312 * model / (model + again)
    plan = ("--plan", "gpt3-175b-megatron", "--dp", f"{gpus // 96}", "--accumulation", f"{1536 * 96 // gpus}")
    asked = ("--tokens", "300B", "--device", "a100-80gb", "--mfu", f"{mfu:.6f}", "--price", "2/h")
    time, told = timed(shape(layers, h, 96), *plan, *asked)
    assert time["devices"] == gpus
    assert time["seconds"] / DAY == pytest.approx(days, rel=0.013)
    assert time["money"] == pytest.approx(2 * gpus * time["seconds"] / 3600)
    assert told["run"]["steps"] == -(-300 * 10**9 // (1536 * S))
    assert told["run"]["flops"] == time["model_flops"] == model * 300 * 10**9
    waits = 11 / (1536 * 96 // gpus)
    assert told["bubble"]["most_mfu"] == pytest.approx(1 / (1 + waits), rel=1e-3)  # rows of the table are padded


def test_a_step_of_megatron_bridge():
    """NVIDIA-NeMo/Megatron-Bridge, docs/performance-summary.md at 067f987df, 26.06: Llama 3.1 405B on 1,024 H100 in FP8,
    TP 8, PP 8 with 8 chunks, CP 2, batch 1,536 of 8,192: 822 TFLOP/s and 326 tokens/s of each, half of the pairs
    counted. Chunks of two layers, one each where the embedding and the head are.
    """
    layers = ",".join(["1", *["2"] * 62, "1"])
    plan = ("--tp", "8", "--cp", "2", "--pp", "8", "--dp", "8", "--schedule", "interleaved", "--chunks", "8")
    asked = ("--stage-layers", layers, "--batch", "1536", "--seq", "8192", "--causal", "half")
    on = ("--device", "h100-sxm", "--precision", "fp8", "--mfu", f"{822 / 1979:.6f}")
    time, told = timed("llama3.1-405b", *plan, *asked, *on)
    assert told["plan"]["world"] == 1024
    assert time["seconds"] == pytest.approx(1536 * 8192 / (1024 * 326), rel=0.004)  # 822 and 326 have three digits


def test_a_time_under_a_plan_is_that_of_as_many_devices():
    plan = ("--tp", "8", "--pp", "8", "--dp", "8")
    asked = ("--tokens", "300B", "--device", "h100-sxm", "--mfu", "40%", "--price", "2/h")
    time, _ = timed("gpt3-175b", *plan, *asked, "--batch", "512")
    alone = ask("flops", "gpt3-175b", *asked, "--devices", "512", "--format", "json").json["time"]
    assert {**time, "conventions": 0, "hfu": 0, "hardware_flops": 0} == {
        **alone,
        "conventions": 0,
        "hfu": 0,
        "hardware_flops": 0,
    }
    one, _ = timed("gpt2", "--dp", "1", "--device", "l4", "--mfu", "40%")
    other = ask("flops", "gpt2", "--device", "l4", "--mfu", "40%", "--format", "json").json["time"]
    assert {**one, "conventions": 0} == {**other, "conventions": 0}


def test_without_an_mfu_the_busiest_rank_is_at_its_peak():
    """GPT-2's last stage of two has the head: 6 B S D V beside its half of the layers."""
    b, s, d, v, f = 8, 1_024, 768, 50_257, 3_072
    time, told = timed("gpt2", "--pp", "2", "--batch", "8", "--device", "l4")
    layer = 6 * b * s * (4 * d * d + 2 * d * f) + 12 * b * s * s * d
    busiest = 6 * layer + 6 * b * s * d * v
    assert time["lower_bound"]
    assert time["seconds"] == busiest / time["peak"]
    assert time["mfu"] == (12 * layer + 6 * b * s * d * v) / (2 * busiest)
    assert time["hfu"] == time["mfu"]
    out = ask("flops", "gpt2", "--pp", "2", "--batch", "8", "--device", "l4").out
    assert "with it at least" in out
    assert told["bubble"]["of_step"] == 1 / 9


def test_an_mfu_that_the_pipeline_cannot_leave_is_said_in_one_line():
    """Of 8 stages and 8 micro-batches 7 / 15 of a step are waited: 53.33% are left."""
    plan = ("gpt3-175b", "--tp", "8", "--pp", "8", "--accumulation", "8", "--device", "a100-80gb")
    told = " ".join(ask("flops", *plan, "--mfu", "60%").out.split())
    assert "60% MFU is more than it leaves: at most 53.33% (modelled)" in told
    told = " ".join(ask("flops", *plan, "--mfu", "50%").out.split())
    assert "it leaves at most 53.33% MFU (modelled); 50% MFU counts the wait already" in told
    full = " ".join(ask("flops", *plan, "--mfu", "50%", "--recompute", "full").out.split())
    again = worked(archcalc.load("gpt3-175b"), Plan(tp=8, pp=8, accumulation=8), Run(sequence=S), "full").executed
    assert f"at most {100 * 8 / 15 * again.model / again.hardware:.4g}% (modelled)" in full


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--tp", "2", "--mfu", "40%"), "--mfu: needs a --device; such as --device a100-80gb"),
        (("--tp", "2", "--devices", "2"), "--devices: needs a --device; such as --device a100-80gb"),
        (
            ("--tp", "2", "--device", "l4", "--devices", "4"),
            "--devices: must be the ranks of the plan (2); got '4'",
        ),
        (
            ("--tp", "2", "--device", "l4", "--phase", "decode"),
            "--device: times training alone under a plan: in inference stages take turns; use --phase training",
        ),
        (
            ("--pp", "2", "--device", "l4", "--mfu", "99%"),
            "--mfu: is more than l4 can do: that of the busiest rank would run at",
        ),
    ],
)
def test_what_cannot_be_timed_is_one_line(flags, told):
    answer = ask("flops", "gpt2", *flags)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(told)
    assert answer.err.count("\n") == 1


def test_the_ranks_of_a_plan_may_be_said_as_devices():
    assert ask("flops", "gpt2", "--tp", "2", "--device", "l4", "--devices", "2").code == 0
