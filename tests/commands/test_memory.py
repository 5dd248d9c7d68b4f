"""The command of memory: what it prints, its JSON, devices, and what cannot be asked."""

import pytest
from command import ask
from examples import one_of_each

# GPT-2 at its loss on 1,024 positions: bf16 weights, fp32 master weights and two moments, a counter for each of 196
# tensors; of each layer 32 sbh, a sum a head and the statistics of two norms; positions; the head's log-probabilities,
# two inputs and statistics; two gradients of fp32 logits; tokens, targets, the loss and its gradient.
GPT2 = (
    (2 + 4 + 4 + 4) * 124_439_808
    + 4 * 196
    + 12 * 1024 * (32 * 768 + 4 * 12 + 16)
    + 8 * 1024
    + 1024 * (4 * 50_257 + 2 * 2 * 768 + 8)
    + 2 * 4 * 1024 * 50_257
    + 16 * 1024
    + 8
)


def lines(*arguments):
    done = ask("memory", *arguments)
    assert done.code == 0
    return [" ".join(line.split()) for line in done.out.splitlines()]


def test_training_is_the_default():
    told = ask("memory", "gpt3-175b", "--format", "json").json
    assert told["schema"] == 0
    assert told["memory"]["for"] == "training"
    assert told["device"] is None
    assert told["fits"] is None
    assert told["conventions"] == {
        "phase": "training",
        "batch": 1,
        "sequence": 2048,
        "attention": "flash",
        "dropout": False,
        "precision": "mixed-16",
        "activation_kernel": "fused",
        "optimizer": "adamw-fused",
        "recompute": "none",
        "accumulate": False,
        "kv_precision": None,
        "statistic": 4,
        "offload": False,
    }
    terms = {term["name"]: term for term in told["memory"]["terms"]}
    assert terms["master weights"]["bytes"] == 4 * 174_604_259_328
    assert terms["master weights"]["kind"] == "exact"
    assert terms["weights"]["formula"].startswith("4 L D F + 2 L G R K D")
    assert [phase["phase"] for phase in told["memory"]["phases"]] == ["forward", "loss", "backward", "step"]


def test_the_table_says_what_is_alive_at_the_peak():
    shown = lines("gpt2")
    assert shown[0] == f"gpt2: {GPT2:,} bytes to train on 1,024 tokens (2.483 GiB)"
    assert "temporaries 411,705,344 392.6 MiB modelled autograd's rules, exact on small steps" in shown
    assert "Peak loss, loss.log_probabilities" in shown
    assert "State 1,991,037,712 bytes between steps, 16 per parameter" in shown


def test_inference_tells_the_cache_of_a_token():
    shown = lines("gpt3-175b", "--for", "inference")
    assert "Cache 4,718,592 bytes per token (4.500 MiB): keys and values of all layers" in shown
    told = ask("memory", "gpt3-175b", "--for", "inference", "-f", "json").json
    assert told["cache"]["per_token"] == 2 * 96 * 96 * 128 * 2
    assert told["conventions"]["precision"] == "bf16"


def test_a_device_says_what_it_used_and_which_reserve():
    seen = 24_207 * 2**20  # 23.64 GiB in whole MiB
    shown = lines("gpt2", "--device", "rtx-4090")
    assert "Device rtx-4090: fits, 19.98 GiB left; 22.46 GiB usable" in shown
    assert any("23.64 GiB (visible to programs) less a 5% reserve" in line for line in shown)
    label = lines("gpt2", "--device", "v100-16gb", "--reserve", "0%")
    assert any("14.90 GiB (by its label, 1 GB = 10^9 bytes) less a 0% reserve" in line for line in label)
    assert any("less a 7% reserve" in line for line in lines("gpt2", "--device", "a100-40gb", "--reserve", "7"))
    told = ask("memory", "gpt2", "--device", "RTX 4090", "-f", "json").json
    assert told["fits"] is True
    assert told["device"]["reserve"] == seen - (seen - seen * 5 // 100) == seen * 5 // 100
    assert told["device"]["left"] == seen - seen * 5 // 100 - GPT2
    most = told["device"]["largest_batch"]
    for batch, fits in ((most, True), (most + 1, False)):
        assert ask("memory", "gpt2", "--batch", str(batch), "--device", "rtx-4090", "-f", "json").json["fits"] is fits


def test_how_many_devices_serve_gpt3_at_batch_16_is_answered():
    """2 bytes a weight, and keys and values of 96 layers of 12,288: whatever the plan, the devices must hold them."""
    held = 2 * 174_604_259_328 + 16 * 2_048 * 96 * 2 * 12_288 * 2
    told = ask("memory", "gpt3-175b", "--for", "inference", "--batch", "16", "--device", "h100-sxm", "-f", "json").json
    assert told["device"]["devices_at_least"] == -(-held // (80 * 2**30)) == 6
    assert told["device"]["devices_if_even"] == -(-told["memory"]["total"] // told["device"]["usable"]) == 7
    shown = " ".join(lines("gpt3-175b", "--for", "inference", "--batch", "16", "--device", "h100-sxm"))
    assert (
        "weights and cache alone need at least 6 devices without a reserve; 7 if the whole peak divides evenly (modelled)"
        in shown
    )
    assert "devices" not in " ".join(lines("gpt2", "--device", "h100-sxm"))


def test_what_must_fit_and_does_not_ends_with_1_and_by_how_much():
    done = ask("memory", "gpt3-175b", "--device", "h100-sxm", "--must-fit")
    assert done.code == 1
    # 16 bytes a parameter, a counter for each tensor, two more gradients of the tied table, the batch and the loss
    total = 16 * 174_604_259_328 + 4 * 1_540 + 2 * 2 * 50_257 * 12_288 + 16 * 2_048 + 8
    seen = 80_998 * 2**20  # 79.10 GiB in whole MiB
    missing = total - (seen - seen * 5 // 100)
    assert done.err == f"gpt3-175b: does not fit on h100-sxm; {missing:,} bytes are missing\n"
    assert "does NOT fit" in done.out
    assert ask("memory", "gpt3-175b", "--device", "h100-sxm").code == 0
    assert ask("memory", "gpt2", "--device", "h100-sxm", "--must-fit").code == 0


def test_what_is_recomputed_held_or_dropped_changes_the_count():
    totals = {
        flags: ask("memory", "gpt2", "--batch", "8", *flags, "-f", "json").json["memory"]["total"]
        for flags in [
            (),
            ("--recompute", "full"),
            ("--recompute", "selective", "--attention", "math"),
            ("--attention", "math"),
            ("--dropout",),
            ("--accumulate",),
            ("--optimizer", "sgd"),
            ("--precision", "fp32"),
            ("--precision", "amp"),
            ("--activation-kernel", "eager"),
        ]
    }
    base = totals[()]
    assert totals["--recompute", "full"] < base
    assert totals["--recompute", "selective", "--attention", "math"] < totals["--attention", "math"]
    assert totals["--dropout",] > base
    assert totals["--accumulate",] == base + 2 * 124_439_808
    assert totals["--optimizer", "sgd"] == base - 4 * 124_439_808 - 4 * (2 + 12 * 16 + 2)  # a moment, the counters
    assert base < totals["--precision", "amp"] < totals["--precision", "fp32"]
    # x^3's tanh, 1 + tanh and half of x: three tensors a layer in bf16, as wide as the MLP
    assert totals["--activation-kernel", "eager"] == base + 12 * 3 * 2 * 8 * 1024 * 3072


@pytest.mark.parametrize(
    "name",
    # Some thirty counts each, of the longest context that fits; a part of them here, and all in `make prove`.
    [name if i % 5 == 0 else pytest.param(name, marks=pytest.mark.prove) for i, name in enumerate(one_of_each())],
)
def test_every_spec_can_be_held_against_a_device(name):
    told = ask("memory", name, "--device", "b200", "-f", "json").json
    assert told["fits"] is (told["memory"]["total"] <= told["device"]["usable"])
    assert told["device"]["devices_at_least"] == -(-told["memory"]["state"] // (180 * 2**30))
    assert told["device"]["devices_at_least"] <= told["device"]["devices_if_even"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--for", "fun"], "--for: 'fun' is not one of 'training', 'inference'"),
        (["--batch", "0"], "--batch: must be from 1 to 4,294,967,296; got 0"),
        (["--seq", "1025"], "--seq: must be from 1 to 1,024; got 1,025"),
        (["--precision", "fp64"], "--precision: 'fp64' is not one of"),
        (
            ["--precision", "int8"],
            "--precision: for training must be one of mixed-16, mixed-18, mixed-20, fp8-13, amp, fsdp-bf16, bf16, fp32; got 'int8'",
        ),
        (
            ["--optimizer", "lion"],
            "--optimizer: 'lion' is not one of 'adamw-fused', 'adamw', 'adamw-foreach', 'adamw-8bit', 'adafactor', 'muon', 'sgd', 'sgd-plain'",
        ),
        (["--recompute", "some"], "--recompute: 'some' is not one of 'none', 'selective', 'full'"),
        (["--attention", "fast"], "--attention: 'fast' is not one of 'math', 'flash'"),
        (["--kv-precision", "bf16"], "--kv-precision: applies only to inference; use --for inference"),
        (["--kv-precision", "int2"], "--kv-precision: 'int2' is not one of"),
        (["--for", "inference", "--recompute", "full"], "--recompute: applies only to training; use --for training"),
        (["--for", "inference", "--optimizer", "sgd"], "--optimizer: applies only to training; use --for training"),
        (["--for", "inference", "--dropout"], "--dropout: applies only to training; use --for training"),
        (["--for", "inference", "--accumulate"], "--accumulate: applies only to training; use --for training"),
        (["--device", "a100"], "--device: 'a100' matches several devices; choose one of a100-40gb, a100-80gb"),
        (["--device", "h1000"], "--device: unknown device 'h1000'; nearest: "),
        (["--must-fit"], "--must-fit: needs a --device"),
        (["--reserve", "5"], "--reserve: needs a --device"),
        (["--device", "l4", "--reserve", "100"], "--reserve: must be a whole percentage from 0 to 99; got '100'"),
        (["--device", "l4", "--reserve", "-1"], "--reserve: must be a whole percentage from 0 to 99; got '-1'"),
        (["--format", "latex"], "--format: 'latex' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments, line):
    done = ask("memory", "gpt2", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


def test_where_nothing_fits_that_is_said():
    shown = " ".join(ask("memory", "gpt2-xl", "--batch", "4", "--device", "rtx-4090").out.split())
    assert "not even batch 1 at this context fits" in shown
    assert "largest batch" not in shown
