"""Accelerators: the figures collected for each, the units they are written in, and finding one by what was typed."""

import re
from pathlib import Path

import pytest
from command import ask

import archcalc
from archcalc.hardware.devices import Device, Sources, device_names, find_device
from archcalc.spec.catalogue import specs_folder
from archcalc.spec.schema import schema_text
from archcalc.units import parse_quantity, quantity_pattern

FOLDER = Path(specs_folder()) / "hardware"
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4")

# As collected, TPU links apart: label GB; dense peaks in TFLOP/s or TOP/s in the order of PRECISIONS; GB/s of memory;
# GB/s of links, one way; watts. A TPU's links are half of what Google prints for both ways.
FACTS = {
    "v100-16gb": (16, (15.7, None, None, 125, None, None, None), 900, 150, 300),
    "v100-32gb": (32, (15.7, None, None, 125, None, None, None), 900, 150, 300),
    "a100-40gb": (40, (19.5, 156, 312, 312, None, 624, None), 1555, 300, 400),
    "a100-80gb": (80, (19.5, 156, 312, 312, None, 624, None), 2039, 300, 400),
    "h100-sxm": (80, (67, 494.5, 989, 989, 1979, 1979, None), 3350, 450, 700),
    "h100-pcie": (80, (51, 378, 756.5, 756.5, 1513, 1513, None), 2000, 64, 350),
    "h200": (141, (67, 494.5, 989, 989, 1979, 1979, None), 4800, 450, 700),
    "b200": (180, (80, 1125, 2250, 2250, 4500, 4500, 9000), 7672, 900, 1000),  # 7680 bits x 3996 MHz x 2
    "h20": (96, (44, 74, 148, 148, 296, 296, None), 4000, 450, 400),
    "h100-nvl": (94, (None, None, 835, 835, None, None, None), 3930, 300, 400),
    "gh200": (96, (67, 494.5, 989, 989, 1979, 1979, None), 4000, 450, None),
    "gb200": (186, (80, 1250, 2500, 2500, 5000, 5000, 10000), 8000, 900, 1200),
    "gb300": (288, (80, 1250, 2500, 2500, 5000, None, 15000), 8000, 900, 1400),
    "b300": (288, (80, 1125, 2250, 2250, 4500, None, None), 8000, 900, None),
    "a10": (24, (31.2, 62.5, 125, 125, None, 250, None), 600, 32, None),
    "a6000": (48, (38.7, None, 154.8, 154.8, None, 309.7, None), 768, 112.5 / 2, 300),
    "rtx-6000-ada": (48, (91.1, None, None, None, None, None, None), 960, 32, 300),
    "rtx-pro-6000": (96, (125.95, 251.9, 503.8, 503.8, 1010, 1010, 2020), 1792, 64, 600),
    "t4": (16, (8.1, None, None, 65, None, 130, None), 320, 16, 70),
    "mi355x": (288, (157.3, None, 2500, 2500, 5000, 5000, 10100), 8000, 7 * 76.5, 1400),
    "tpu-v4": (32 * 1.024**3, (None, None, 275, None, None, 275, None), 1200, 6 * 45, None),
    "gaudi3": (128, (None, None, 1835, None, 1835, None, None), 3670, 1200 / 2, 900),
    "trainium2": (96 * 1.024**3, (181, 667, 667, 667, 1299, None, None), 2900, None, None),
    "apple-m1-ultra": (128, (None,) * 7, 800, None, None),
    "apple-m2-ultra": (192, (None,) * 7, 800, None, None),
    "apple-m3-ultra": (512, (None,) * 7, 819.2, None, None),
    "apple-m4-max": (128, (None,) * 7, 546, None, None),
    "apple-m4-pro": (64, (None,) * 7, 273, None, None),
    "mi300x": (192, (163.4, 653.7, 1307.4, 1307.4, 2614.9, 2614.9, None), 5300, 448, 750),
    "mi325x": (256, (163.4, 653.7, 1307.4, 1307.4, 2614.9, 2614.9, None), 6000, 448, 1000),
    "l4": (24, (30.3, 60, 121, 121, 242, 242, None), 300, 32, 72),
    "l40s": (48, (91.6, 183, 362.05, 362.05, 733, 733, None), 864, 32, 350),
    "rtx-3090": (24, (35.6, None, 71.2, 71.2, None, None, None), 936, None, None),
    "rtx-4090": (24, (82.6, None, 165.2, 165.2, 330.3, 660.6, None), 1008, None, None),
    "rtx-5090": (32, (None, None, 209.5, 209.5, 419, None, 1676), 1792, 64, 575),
    "tpu-v5e": (16, (None, None, 197, None, None, 393, None), 819, 400 / 2, None),
    "tpu-v5p": (95, (None, None, 459, None, None, 918, None), 2765, 1200 / 2, None),
    "tpu-v6e": (32, (None, None, 918, None, None, 1836, None), 1600, 800 / 2, None),
}


# GiB that PyTorch reports ("GPU 0 has a total capacity of ..."), the lowest of the public reports that were read.
VISIBLE = {
    "h100-sxm": 79.10, "h100-pcie": 79.10, "h200": 139.80, "b200": 178.35, "a100-80gb": 79.14, "a100-40gb": 39.38,
    "v100-32gb": 31.73, "l40s": 44.34, "l4": 22.03, "a10": 22.03, "t4": 14.56, "rtx-3090": 23.68, "rtx-4090": 23.64,
    "rtx-5090": 31.36, "mi300x": 191.69, "mi325x": 255.69, "mi355x": 287.98, "gb200": 184.31, "b300": 267.69,
    "h100-nvl": 93.00, "rtx-pro-6000": 94.97, "rtx-6000-ada": 44.43,
}  # fmt: skip


def scaled(figure, unit):
    return None if figure is None else round(figure * unit)


def test_the_devices_are_those_of_the_facts():
    assert device_names() == tuple(sorted(FACTS))


@pytest.mark.parametrize("name", FACTS)
def test_a_device_has_the_figures_collected_for_it(name):
    label, peaks, bandwidth, link, watts = FACTS[name]
    device = find_device(name)
    assert device.label_bytes == round(label * 10**9)
    assert [device.peak(p) for p in PRECISIONS] == [scaled(peak, 10**12) for peak in peaks]
    assert device.bandwidth_bytes == round(bandwidth * 10**9)
    assert device.link_bytes == scaled(link, 10**9)
    assert device.watts == watts


@pytest.mark.parametrize("name", device_names())
def test_a_file_is_named_as_its_device_and_points_to_the_schema(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schema/draft-07/device.json\n")
    assert find_device(name).name == name


@pytest.mark.parametrize("name", device_names())
def test_every_figure_has_a_source_and_every_source_a_figure(name):
    device = find_device(name)
    figures = {field: getattr(device, field, None) for field in Sources.model_fields}
    figures["visible"] = device.capacity.visible
    sourced = {field for field in Sources.model_fields if getattr(device.sources, field)}
    assert sourced == {field for field, figure in figures.items() if figure is not None}


ALIKE = {"gaudi3", "trainium2"}  # with one rate for two precisions


@pytest.mark.parametrize("name", [name for name in device_names() if name not in ALIKE])
def test_dense_peaks_keep_their_proportions(name):
    device = find_device(name)
    tf32, bf16, fp16, fp8 = (device.peak(p) for p in ("tf32", "bf16", "fp16", "fp8"))
    assert bf16 is None or fp16 is None or bf16 == fp16
    assert fp8 is None or fp8 / bf16 == pytest.approx(2, rel=0.02)  # 733 beside 362.05 is what NVIDIA prints
    assert tf32 is None or bf16 / tf32 == pytest.approx(2, rel=0.02)  # sparse figures mixed in would be 1 or 4


def test_what_is_visible_is_the_lowest_that_programs_report_in_whole_mib():
    for device in map(find_device, device_names()):
        seen = VISIBLE.get(device.name)
        assert device.visible_bytes == (None if seen is None else int(seen * 1024 + 1e-9) * 2**20), device.name


def test_no_device_has_more_than_its_label_in_gib():
    """A lower bound on the number of devices rests on it."""
    for device in map(find_device, device_names()):
        assert 0.97 * device.label_bytes < (device.visible_bytes or device.label_bytes) <= device.largest_bytes
        number, unit = device.capacity.label.split()
        assert device.largest_bytes == int(number) * 2**30, unit


def test_the_most_memory_of_a_device_takes_gb_for_gib(tmp_path):
    for label, most in (("80 GB", 80 * 2**30), ("80GB", 80 * 2**30), ("24 GiB", 24 * 2**30), ("512 kB", 512 * 2**10)):
        path = tmp_path / "d.yaml"
        path.write_text(GOOD.replace("24 GiB", label))
        assert find_device(str(path)).largest_bytes == most


def test_no_name_or_alias_means_two_devices():
    said = [name for device in map(find_device, device_names()) for name in (device.name, *device.aliases)]
    assert len(said) == len(set(said))


def test_names_and_aliases_are_found_in_letters_of_any_case():
    for device in map(find_device, device_names()):
        for name in (device.name, *device.aliases):
            assert find_device(f" {name.upper()} ") == device
            assert find_device(name.title()) == device


# As people and drivers write them (nvidia-smi's names among them).
TYPED = {
    "h100-80gb": "h100-sxm", "H100 SXM": "h100-sxm", "h100_sxm5": "h100-sxm", "NVIDIA H100 80GB HBM3": "h100-sxm",
    "H100-SXM5-80G": "h100-sxm", "h100 pcie": "h100-pcie", "NVIDIA H100 PCIe": "h100-pcie", "H100 NVL": "h100-nvl",
    "a100-80g": "a100-80gb", "A100 80 GB": "a100-80gb", "80gb a100": "a100-80gb", "A100-SXM4-80GB": "a100-80gb",
    "a100 40GiB": "a100-40gb", "NVIDIA A100-SXM4-40GB": "a100-40gb", "4090": "rtx-4090", "rtx4090": "rtx-4090",
    "RTX 4090": "rtx-4090", "NVIDIA GeForce RTX 4090": "rtx-4090", "4090 24gb": "rtx-4090", "3090": "rtx-3090",
    "5090": "rtx-5090", "Tesla T4": "t4", "Tesla V100-SXM2-16GB": "v100-16gb", "v100 32g": "v100-32gb",
    "NVIDIA RTX A6000": "a6000", "a6000": "a6000", "NVIDIA RTX 6000 Ada Generation": "rtx-6000-ada",
    "rtx6000ada": "rtx-6000-ada", "rtx pro 6000": "rtx-pro-6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "rtx-pro-6000", "NVIDIA GH200 480GB": "gh200", "b200": "b200",
    "GB200": "gb200", "gb300 nvl72": "gb300", "H20": "h20", "H20 96GB": "h20", "AMD Instinct MI300X": "mi300x",
    "mi-355x": "mi355x", "MI300X 192GB": "mi300x", "tpuv4": "tpu-v4", "TPU v5p": "tpu-v5p", "v5e": "tpu-v5e",
    "Gaudi 3": "gaudi3", "trn2": "trainium2", "m4 max": "apple-m4-max", "Apple M3 Ultra": "apple-m3-ultra",
}  # fmt: skip


@pytest.mark.parametrize(("typed", "name"), TYPED.items())
def test_a_device_is_found_by_what_people_type(typed, name):
    assert find_device(typed).name == name


UNKNOWN = {
    "a100": "'a100' matches several devices; choose one of a100-40gb, a100-80gb",
    "H100": "'H100' matches several devices; choose one of h100-nvl, h100-pcie, h100-sxm",
    "v100": "'v100' matches several devices; choose one of v100-16gb, v100-32gb",
    "tpu": "'tpu' matches several devices; choose one of tpu-v4, tpu-v5e, tpu-v5p, tpu-v6e",
    "a100-sxm4": "'a100-sxm4' matches several devices; choose one of a100-40gb, a100-80gb",
    "rtx 6000": "'rtx 6000' matches several devices; choose one of rtx-6000-ada, rtx-pro-6000",
    "apple m4": "'apple m4' matches several devices; choose one of apple-m4-max, apple-m4-pro",
    "rtx-4080": "unknown device 'rtx-4080'; nearest: rtx-4090, rtx-5090, rtx-3090",
    "mi300": "unknown device 'mi300'; nearest: mi300x, b300, gb300",
    "a100-80gb-pcie": "unknown device 'a100-80gb-pcie'; nearest: a100-80gb, h100-pcie, a100-40gb",
    "h200-nvl": "unknown device 'h200-nvl'; nearest: h100-nvl, h200, gh200",
    "": "unknown device ''; `archcalc list devices` shows all; a path to a YAML file describes another",
    "\x1b": "unknown device '\\x1b'; `archcalc list devices` shows all; a path to a YAML file describes another",
}


@pytest.mark.parametrize(("name", "text"), UNKNOWN.items(), ids=repr)
def test_a_name_of_none_or_of_several_is_told_in_one_line(name, text):
    with pytest.raises(archcalc.Invalid) as error:
        find_device(name)
    assert str(error.value) == f"--device: {text}"


GOOD = """\
schema: 0
name: mine
title: "My own"
capacity: {label: "24 GiB", visible: null}
dense_peak: {bf16: "1.5 PFLOP/s", int8: "3 POP/s"}
bandwidth: "1.25 TB/s"
link: {kind: "a cable", per_direction: "10 GB/s"}
power: "0.3 kW"
sources: {capacity: s, dense_peak: s, bandwidth: s, link: s, power: s}
"""


def test_a_path_describes_a_device_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(GOOD)
    device = find_device("mine.yaml")
    assert (device.label_bytes, device.bandwidth_bytes, device.watts) == (24 * 2**30, 1_250_000_000_000, 300)
    assert (device.peak("bf16"), device.peak("int8"), device.peak("fp8")) == (15 * 10**14, 3 * 10**15, None)
    assert find_device("./mine.yaml") == device
    with pytest.raises(archcalc.Missing, match=r"^nope\.yaml: no such file$"):
        find_device("nope.yaml")


def test_a_file_with_the_name_of_a_known_device_is_told_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(re.sub("name: .*", "name: h100-sxm", GOOD, count=1))
    told = ask("memory", "gpt2", "--device", "mine.yaml").out
    assert "h100-sxm (mine.yaml)" in told
    assert "h100-sxm (" not in ask("memory", "gpt2", "--device", "h100-sxm").out


def test_only_the_file_of_the_device_is_read(monkeypatch):
    read = []
    real = archcalc.hardware.devices.read_source
    monkeypatch.setattr(
        "archcalc.hardware.devices.read_source", lambda path: read.append(Path(path).name) or real(path)
    )
    find_device("L40S")
    assert read == ["l40s.yaml"]


BAD = {
    "no unit": (('"1.25 TB/s"', '"1250"'), "6:12: bandwidth: must be an amount such as '3350 GB/s'; got '1250'"),
    "a number": (('"1.25 TB/s"', "1250"), "6:12: bandwidth: must be an amount such as '3350 GB/s'; got 1250"),
    "another unit": (("24 GiB", "24 GB/s"), "4:19: capacity.label: must be an amount such as '80 GB' or '80 GiB'; got '24 GB/s'"),
    "nothing": (('"0.3 kW"', '"0 W"'), "8:8: power: must be an amount such as '700 W'; got '0 W'"),
    "a part of a byte": (("24 GiB", "0.5 B"), "4:19: capacity.label: must be an amount such as '80 GB' or '80 GiB'; got '0.5 B'"),
    "floating operations of integers": (("3 POP/s", "3 PFLOP/s"), "5:41: dense_peak.int8: must be an amount such as '1979 TOP/s'; got '3 PFLOP/s'"),
    "unknown field": (("bandwidth: \"", "bandwith: \""), "1:1: bandwidth: is missing\nd.yaml:6:1: bandwith: unknown field; did you mean 'bandwidth'?"),
    "unknown precision": (("{bf16:", "{bf61:"), "5:14: dense_peak.bf61: unknown field; did you mean 'bf16'?"),
    "unknown field of the link": (("kind:", "kin:"), "7:7: link.kind: is missing\nd.yaml:7:8: link.kin: unknown field; did you mean 'kind'?"),
    "no peak": (('{bf16: "1.5 PFLOP/s", int8: "3 POP/s"}', "{}"), "5:13: dense_peak: must have at least one precision"),
    "no source": ((", power: s}", "}"), "9:10: sources: must give the source of power"),
    "visible without a source": (("visible: null", 'visible: "23 GiB"'), "9:10: sources: must give the source of visible"),
    "more visible than there is": (("visible: null", 'visible: "24.5 GiB"'), "4:38: capacity.visible: must be at most the label, 24 GiB, a GB taken for a GiB; got '24.5 GiB'"),
    "a source of nothing": (('power: "0.3 kW"\n', ""), "8:10: sources: has a source of power, which is not given"),
    "no sources": (("sources: {capacity: s, dense_peak: s, bandwidth: s, link: s, power: s}\n", ""), "1:1: sources: is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "text"), BAD.values(), ids=BAD)
def test_a_malformed_device_is_told_where_and_what(edit, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert edit[0] in GOOD
    Path("d.yaml").write_text(GOOD.replace(*edit))
    with pytest.raises(archcalc.Invalid) as error:
        find_device("d.yaml")
    assert str(error.value) == f"d.yaml:{text}"


@pytest.mark.parametrize(
    ("text", "unit", "amount"),
    [
        ("80 GB", "B", 80_000_000_000), ("80 GiB", "B", 85_899_345_920), ("1 B", "B", 1), ("1.5 KiB", "B", 1_536),
        ("989.4 TFLOP/s", "FLOP/s", 989_400_000_000_000), ("494.5TFLOP/s", "FLOP/s", 494_500_000_000_000),
        ("0.1 GB/s", "B/s", 100_000_000), ("800 GiB/s", "B/s", 858_993_459_200), ("2 POP/s", "OP/s", 2 * 10**15),
        ("1.000 W", "W", 1),
    ],
)  # fmt: skip
def test_an_amount_is_read_exactly(text, unit, amount):
    assert parse_quantity(text, unit) == amount
    assert re.search(quantity_pattern(unit), text)


@pytest.mark.parametrize(
    "text", ["", "80", "GB", "80 gb", "80  GB", "-80 GB", "1e3 GB", "8_0 GB", "80 GB\n", "٨ GB", "80. GB", ".5 GB", "80 KB"]
)  # fmt: skip
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="must be an amount such as '80 GB' or '80 GiB'"):
        parse_quantity(text, "B")


def test_the_schema_of_a_device_in_the_repository_is_fresh():
    text = (FOLDER.parent / "schema" / "device.json").read_text()
    hint = "run: archcalc schema --of device -o specs/schema/device.json"
    assert text == schema_text(Device) == ask("schema", "--of", "device").out, hint
    assert ask("schema", "--of", "model").out == ask("schema").out


@pytest.mark.parametrize(
    ("name", "unit"), [("h100-sxm", "GPU"), ("mi300x", "GPU"), ("tpu-v4", "device"), ("gaudi3", "device")]
)
def test_what_is_no_gpu_is_called_a_device(name, unit):
    assert find_device(name).unit == unit


def test_names_are_read_with_spaces_around_in_any_case_and_capacity():
    for typed in (" H100-SXM ", "A100 80G", "a100 80 GiB", "NVIDIA A100-80GB"):
        assert find_device(typed).name in ("h100-sxm", "a100-80gb")


def test_the_schema_tells_units():
    label = Device.model_json_schema()["$defs"]["Capacity"]["properties"]["label"]
    assert re.search(label["pattern"], "80 GB")
    assert not re.search(label["pattern"], "80 GB/s")
