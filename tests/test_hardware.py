"""Accelerators: the figures collected for each, the units they are written in, and finding one by what was typed."""

import re
from pathlib import Path

import pytest
from command import ask

import archcalc
from archcalc.catalogue import specs_folder
from archcalc.hardware import Device, Sources, device_names, find_device
from archcalc.schema import schema_text
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
    "b200": (180, (80, 1125, 2250, 2250, 4500, 4500, 9000), 8000, 900, 1000),
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


def scaled(figure, unit):
    return None if figure is None else round(figure * unit)


def test_the_devices_are_those_of_the_facts():
    assert device_names() == tuple(sorted(FACTS))


@pytest.mark.parametrize("name", FACTS)
def test_a_device_has_the_figures_collected_for_it(name):
    label, peaks, bandwidth, link, watts = FACTS[name]
    device = find_device(name)
    assert device.label_bytes == label * 10**9
    assert [device.peak(p) for p in PRECISIONS] == [scaled(peak, 10**12) for peak in peaks]
    assert device.bandwidth_bytes == bandwidth * 10**9
    assert device.link_bytes == scaled(link, 10**9)
    assert device.watts == watts


@pytest.mark.parametrize("name", device_names())
def test_a_file_is_named_as_its_device_and_points_to_the_schema(name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../schema/device.json\n")
    assert find_device(name).name == name


@pytest.mark.parametrize("name", device_names())
def test_every_figure_has_a_source_and_every_source_a_figure(name):
    device = find_device(name)
    figures = {field: getattr(device, field, None) for field in Sources.model_fields}
    figures["visible"] = device.capacity.visible
    sourced = {field for field in Sources.model_fields if getattr(device.sources, field)}
    assert sourced == {field for field, figure in figures.items() if figure is not None}


@pytest.mark.parametrize("name", device_names())
def test_dense_peaks_keep_their_proportions(name):
    device = find_device(name)
    tf32, bf16, fp16, fp8 = (device.peak(p) for p in ("tf32", "bf16", "fp16", "fp8"))
    assert bf16 is None or fp16 is None or bf16 == fp16
    assert fp8 is None or fp8 / bf16 == pytest.approx(2, rel=0.02)  # 733 beside 362.05 is what NVIDIA prints
    assert tf32 is None or bf16 / tf32 == pytest.approx(2, rel=0.02)  # sparse figures mixed in would be 1 or 4


def test_what_is_visible_lies_near_the_label():
    for device in map(find_device, device_names()):
        if device.visible_bytes is not None:
            assert device.label_bytes < device.visible_bytes < device.label_bytes * 2**30 // 10**9, device.name


def test_no_name_or_alias_means_two_devices():
    said = [name for device in map(find_device, device_names()) for name in (device.name, *device.aliases)]
    assert len(said) == len(set(said))


def test_names_and_aliases_are_found_in_letters_of_any_case():
    for device in map(find_device, device_names()):
        for name in (device.name, *device.aliases):
            assert find_device(f" {name.upper()} ") == device
            assert find_device(name.title()) == device


UNKNOWN = {
    "a100": "'a100' is several devices; say one: a100-40gb, a100-80gb",
    "H100": "'H100' is several devices; say one: h100-pcie, h100-sxm",
    "v100": "'v100' is several devices; say one: v100-16gb, v100-32gb",
    "tpu": "'tpu' is several devices; say one: tpu-v5e, tpu-v5p, tpu-v6e",
    "a100-sxm4": "'a100-sxm4' is several devices; say one: a100-40gb, a100-80gb",
    "rtx-4080": "'rtx-4080' is no device; nearest: rtx-4090, rtx-5090, rtx-3090",
    "mi300": "'mi300' is no device; nearest: mi300x",
    "": "'' is no device; a path to a YAML file describes one",
    "\x1b": "'\\x1b' is no device; a path to a YAML file describes one",
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


def test_only_the_file_of_the_device_is_read(monkeypatch):
    read = []
    real = archcalc.hardware.read_file
    monkeypatch.setattr("archcalc.hardware.read_file", lambda path: read.append(Path(path).name) or real(path))
    find_device("L40S")
    assert read == ["l40s.yaml"]


BAD = {
    "no unit": (('"1.25 TB/s"', '"1250"'), "6:12: bandwidth: must be an amount such as '3350 GB/s'; got '1250'"),
    "a number": (('"1.25 TB/s"', "1250"), "6:12: bandwidth: must be an amount such as '3350 GB/s'; got 1250"),
    "another unit": (("24 GiB", "24 GB/s"), "4:19: capacity.label: must be an amount such as '80 GB' or '80 GiB'; got '24 GB/s'"),
    "nothing": (('"0.3 kW"', '"0 W"'), "8:8: power: must be an amount such as '700 W'; got '0 W'"),
    "a part of a byte": (("24 GiB", "0.5 B"), "4:19: capacity.label: must be an amount such as '80 GB' or '80 GiB'; got '0.5 B'"),
    "floating operations of integers": (("3 POP/s", "3 PFLOP/s"), "5:41: dense_peak.int8: must be an amount such as '1979 TOP/s'; got '3 PFLOP/s'"),
    "unknown field": (("bandwidth: \"", "bandwith: \""), "1:1: bandwidth: is missing\nd.yaml:6:1: bandwith: is no field here; did you mean 'bandwidth'?"),
    "unknown precision": (("{bf16:", "{bf61:"), "5:14: dense_peak.bf61: is no field here; did you mean 'bf16'?"),
    "unknown field of the link": (("kind:", "kin:"), "7:7: link.kind: is missing\nd.yaml:7:8: link.kin: is no field here; did you mean 'kind'?"),
    "no peak": (('{bf16: "1.5 PFLOP/s", int8: "3 POP/s"}', "{}"), "5:13: dense_peak: must have at least one precision"),
    "no source": ((", power: s}", "}"), "9:10: sources: must say where power is from"),
    "visible without a source": (("visible: null", 'visible: "23 GiB"'), "9:10: sources: must say where visible is from"),
    "a source of nothing": (('power: "0.3 kW"\n', ""), "8:10: sources: names a source of power, not given"),
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
    assert text == schema_text("device") == ask("schema", "--of", "device").out, hint
    assert ask("schema", "--of", "model").out == ask("schema").out


def test_the_schema_tells_units():
    label = Device.model_json_schema()["$defs"]["Capacity"]["properties"]["label"]
    assert re.search(label["pattern"], "80 GB")
    assert not re.search(label["pattern"], "80 GB/s")
