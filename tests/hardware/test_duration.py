"""How long and how much: FLOPs over a peak and a utilisation, by arithmetic that stands here."""

import json

import pytest
from command import ask

import archcalc
from archcalc.counts.leastread import least_read
from archcalc.hardware.devices import device_names, find_device
from archcalc.hardware.duration import Price, duration, peak_of
from archcalc.tape.run import Run

DAY = 86_400
# Model FLOPs of GPT-2 XL on 10B tokens: three times PyTorch's count of a forward pass over 1,024 tokens, a token.
XL_10B = 3 * 3_506_703_564_800 * 10**10 // 1024


def asked(*arguments):
    answer = ask("flops", *arguments, "-f", "json")
    assert answer.code == 0, answer.err
    return answer.json["time"]


def test_days_and_dollars_for_gpt2_xl_on_10b_tokens():
    seconds = XL_10B / (0.4 * 312e12)
    told = asked("gpt2-xl", "--tokens", "10B", "--device", "a100-80gb", "--mfu", "40%", "--price", "2/h")
    assert (told["device"], told["precision"], told["peak"], told["devices"]) == ("a100-80gb", "bf16", 312 * 10**12, 1)
    assert told["model_flops"] == told["hardware_flops"] == XL_10B
    assert told["seconds"] == told["device_seconds"] == pytest.approx(seconds)
    assert (told["mfu"], told["hfu"], told["lower_bound"]) == (pytest.approx(0.4), pytest.approx(0.4), False)
    assert told["money"] == pytest.approx(2 * seconds / 3600)
    out = ask("flops", "gpt2-xl", "--tokens", "10b", "--device", "A100 80GB", "--mfu", "0.4", "--price", "$2/h").out
    assert f"Time       {seconds / DAY:.3f} days on one a100-80gb: {seconds / 3600:.1f} GPU-hours" in out
    assert "at 40% MFU of a peak of 312 TFLOP/s (bf16, dense)" in out
    assert f"Cost       ${seconds / 1800:.2f} at $2.00 per GPU-hour" in out


def test_many_devices_share_the_work_and_cost_as_much():
    one = asked("gpt2-xl", "--tokens", "10B", "--device", "a100-80gb", "--mfu", "40%", "--price", "2")
    many = asked(
        "gpt2-xl", "--tokens", "10B", "--device", "a100-80gb", "--mfu", "40", "--price", "2", "--devices", "64"
    )
    assert many["seconds"] == pytest.approx(one["seconds"] / 64)
    assert (many["device_seconds"], many["money"]) == (one["device_seconds"], one["money"])
    out = ask("flops", "gpt2-xl", "--tokens", "10B", "--device", "tpu-v5p", "--mfu", "40%", "--devices", "1k").out
    assert "on 1,000 tpu-v5p, work divided evenly: " in out
    assert "device-hours" in out


def test_a_utilisation_that_was_not_given_is_not_invented():
    told = asked("gpt2-xl", "--tokens", "10B", "--device", "h100-sxm", "--price", "2")
    assert told["lower_bound"] is True
    assert told["seconds"] == pytest.approx(XL_10B / 989e12)
    out = ask("flops", "gpt2-xl", "--tokens", "10B", "--device", "h100-sxm", "--price", "2").out
    assert f"at least {XL_10B / 989e12 / DAY:.3f} days on one h100-sxm" in out
    assert "at the peak of 989 TFLOP/s (bf16, dense), a lower bound" in out
    assert "Cost       at least " in out


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_raises_hfu_and_leaves_mfu_and_time_alone(recompute):
    arguments = ("gpt2-xl", "--tokens", "10B", "--device", "a100-80gb", "--mfu", "40%")
    plain, again = asked(*arguments), asked(*arguments, "--recompute", recompute)
    assert again["model_flops"] == plain["model_flops"] < again["hardware_flops"]
    assert again["hfu"] == pytest.approx(0.4 * again["hardware_flops"] / again["model_flops"])
    assert again["mfu"] == pytest.approx(0.4)
    assert again["seconds"] == pytest.approx(plain["seconds"])
    bound = asked(*arguments[:5], "--recompute", recompute)
    assert bound["seconds"] == pytest.approx(again["hardware_flops"] / 312e12)
    assert (bound["hfu"], bound["lower_bound"]) == (1, True)
    assert f"{100 * again['hfu']:.4g}% HFU" in ask("flops", *arguments, "--recompute", recompute).out


def test_flash_attention_s_own_scores_are_run_and_count_for_nothing():
    told = asked("gpt2", "--attention", "flash", "--device", "a100-80gb", "--mfu", "50%")
    repeated = 12 * 2 * 1024 * 1024 * 768
    assert told["hardware_flops"] - told["model_flops"] == repeated
    assert told["model_flops"] == 3 * 291_648_307_200


def test_a_utilisation_at_which_the_hardware_would_exceed_its_peak_is_refused():
    answer = ask("flops", "gpt2", "--device", "a100-80gb", "--mfu", "90%", "--recompute", "full")
    assert answer.code == 2
    assert answer.err.startswith("--mfu: is more than a100-80gb can do: the hardware would run at 10")
    assert answer.err.count("\n") == 1
    assert ask("flops", "gpt2", "--device", "a100-80gb", "--mfu", "100%").code == 0


@pytest.mark.parametrize(
    ("device", "precision", "chosen", "peak"),
    [
        ("a100-80gb", None, "bf16", 312e12), ("v100-16gb", None, "fp16", 125e12), ("t4", None, "fp16", 65e12),
        ("h100-sxm", "fp8", "fp8", 1979e12), ("h100-sxm", "tf32", "tf32", 494.5e12), ("l40s", "int8", "int8", 733e12),
        ("tpu-v5p", None, "bf16", 459e12), ("b200", "fp4", "fp4", 9000e12), ("rtx-6000-ada", "fp32", "fp32", 91.1e12),
    ],
)  # fmt: skip
def test_the_precision_decides_the_peak_and_is_said(device, precision, chosen, peak):
    assert peak_of(find_device(device), precision) == (chosen, round(peak))
    arguments = () if precision is None else ("--precision", precision)
    assert f"({chosen}, dense)" in ask("flops", "gpt2", "--device", device, "--mfu", "40%", *arguments).out


@pytest.mark.parametrize("name", device_names())
def test_every_device_answers_or_says_which_peaks_it_has(name):
    answer = ask("flops", "gpt2", "--tokens", "1B", "--device", name, "--mfu", "40%", "-f", "json")
    device = find_device(name)
    peak = device.peak("bf16") or device.peak("fp16")
    if peak:
        assert answer.json["time"]["seconds"] == pytest.approx(3 * 291_648_307_200 * 10**9 / 1024 / (0.4 * peak))
    else:
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert f"no peak of {name}" in answer.err


def test_decoding_takes_at_least_the_time_to_read_weights_and_cache():
    model, gpt2 = archcalc.load("gpt2"), 124_439_808
    d, layers, context = 768, 12, 1000
    weights = 2 * (gpt2 - 1024 * d)  # the tied table is read whole, a position's row is looked up
    cache = 16 * layers * 2 * context * d * 2
    reading = least_read(model, Run("decode", 16, context=context), 16, 2039 * 10**9)
    assert (reading.weights, reading.cache) == (weights, cache)
    assert reading.seconds == pytest.approx((weights + cache) / 2039e9)
    arguments = ("gpt2", "--phase", "decode", "--batch", "16", "--context", "1000", "--device", "a100-80gb")
    told = asked(*arguments)["reading"]
    assert (told["weights"], told["cache"], told["total"]) == (weights, cache, weights + cache)
    out = " ".join(ask("flops", *arguments).out.split())
    assert "of cache once, at 2,039 GB/s, longer than the computation; at most " in out
    assert asked("gpt2", "--phase", "prefill", "--device", "a100-80gb")["reading"]["cache"] == 0
    assert asked("gpt2", "--device", "a100-80gb")["reading"] is None
    untied = least_read(archcalc.load("gpt2@tied=false"), Run("prefill", 1, 8), 32, 10**9, devices=4)
    assert untied.weights == 4 * (gpt2 - 1024 * d)
    assert untied.seconds == pytest.approx(untied.weights / 4e9)


ALONE = {
    "--mfu": "40%",
    "--price": "2/h",
    "--devices": "8",
    "--precision": "bf16",
}


@pytest.mark.parametrize(("flag", "value"), ALONE.items())
def test_a_flag_that_makes_no_sense_alone_is_refused_in_one_line(flag, value):
    answer = ask("flops", "gpt2", "--tokens", "10B", flag, value)
    line = f"{flag}: needs a --device; such as --device a100-80gb\n"
    assert (answer.code, answer.out, answer.err) == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--mfu", "0"], "--mfu: must be a percentage from above 0% to 100%, such as 40% or 0.4; got '0'"),
        (["--mfu", "1"], "--mfu: must be a percentage from above 0% to 100%, such as 40% or 0.4; got '1'"),
        (["--mfu", "140%"], "--mfu: must be a percentage from above 0% to 100%, such as 40% or 0.4; got '140%'"),
        (["--mfu", "nan"], "--mfu: must be a percentage from above 0% to 100%, such as 40% or 0.4; got 'nan'"),
        (["--price", "free"], "--price: must be the price of one device per hour, such as 2/h; got 'free'"),
        (["--price", "0"], "--price: must be the price of one device per hour, such as 2/h; got '0'"),
        (["--price", "2/day"], "--price: must be the price of one device per hour, such as 2/h; got '2/day'"),
        (["--devices", "0"], "--devices: must be from 1 to 10,000,000; got 0"),
        (["--devices", "some"], "--devices: must be an integer; 300B is 300,000,000,000; got 'some'"),
        (["--precision", "int8"], "--precision: no peak of rtx-3090 in int8 is known; choose one of fp32, bf16, fp16"),
        (["--precision", "fp64"], "--precision: 'fp64' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments, line):
    answer = ask("flops", "gpt2", "--tokens", "10B", "--device", "rtx-3090", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(line)
    assert answer.err.count("\n") == 1


def test_a_device_of_several_or_without_a_peak_is_one_line():
    assert ask("flops", "gpt2", "--device", "a100").err == (
        "--device: 'a100' matches several devices; choose one of a100-40gb, a100-80gb\n"
    )
    assert ask("flops", "gpt2", "--device", "m4 max").err == (
        "--device: no peak of apple-m4-max is known; a YAML file of the device can give one\n"
    )


def test_a_device_of_ones_own_is_timed_as_well(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        'schema: 0\nname: mine\ntitle: "My own"\ncapacity: {label: "24 GiB"}\ndense_peak: {fp16: "1 PFLOP/s"}\n'
        'bandwidth: "1 TB/s"\nsources: {capacity: s, dense_peak: s, bandwidth: s}\n'
    )
    told = asked("gpt2", "--tokens", "1B", "--device", str(path), "--mfu", "50%")
    assert (told["device"], told["peak"], told["precision"]) == (f"mine ({path})", 10**15, "fp16")
    out = " ".join(ask("flops", "gpt2", "--phase", "decode", "--device", str(path), "--price", "2").out.split())
    assert "at 1,000 GB/s" in out
    assert "device-hour" in out


def test_the_library_takes_the_same():
    device = find_device("a100-80gb")
    found = duration(XL_10B, XL_10B, device, mfu=0.4, devices=8, price=Price(1.5, "EUR"))
    assert found.money == pytest.approx(1.5 * XL_10B / (0.4 * 312e12) / 3600)
    with pytest.raises(archcalc.Invalid):
        duration(1, 2, device, mfu=0.6)


def test_json_has_base_units_and_no_text_where_numbers_are():
    told = asked("gpt2", "--tokens", "1T", "--device", "h200", "--mfu", "0.4", "--price", "2 USD/h")
    assert told["price"] == {"per_hour": 2, "currency": "USD"}
    ints = ("devices", "peak", "model_flops", "hardware_flops")
    assert {type(told[name]) for name in ints} == {int}
    assert {type(told[name]) for name in ("mfu", "hfu", "seconds", "device_seconds", "money")} == {float}
    assert json.loads(json.dumps(told)) == told
