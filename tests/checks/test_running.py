"""A file is read by its kind, and what is wrong with it never raises."""

import os
from pathlib import Path
from threading import Thread

import pytest
from command import ask
from goodspec import GOOD

from archcalc.checks.collecting import Target
from archcalc.checks.mending import mend
from archcalc.checks.outcome import Outcome
from archcalc.checks.project import find_project, no_project
from archcalc.checks.running import check_all, check_target, ours
from archcalc.errors import Edit, Problem
from archcalc.spec.catalogue import specs_folder

FIGURE = 'published: [{text: "1", parameters: 1, status: counted, source: "this test"}]\n'
FILES = {
    "x.yaml": GOOD,
    "plan.yaml": "schema: 0\nname: two\nsource: this test\ntp: 2\n",
    "archcalc.yaml": "schema: 0\nlint: {select: [AC101]}\n",
    "config.json": '{"model_type": "gpt2", "vocab_size": 10, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}',
    "m.safetensors": b"\2\0\0\0\0\0\0\0{}",
    "compose.yaml": "services: {}\n",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def checked(name, *, found=True):
    return check_target(Target(name, found), find_project())


@pytest.mark.parametrize(
    ("name", "kind", "spec"),
    [
        ("x.yaml", "model", "good"),
        ("plan.yaml", "plan", "two"),
        ("archcalc.yaml", "configuration", "archcalc.yaml"),
        ("config.json", "config", "gpt2"),
        ("m.safetensors", "weights", "m.safetensors"),
        ("compose.yaml", "unknown", "compose.yaml"),
    ],
)
@pytest.mark.usefixtures("here")
def test_each_kind_has_its_reader(name, kind, spec):
    outcome = checked(name)
    assert (outcome.kind, outcome.file, outcome.problems, outcome.code) == (kind, name, (), 0)
    assert outcome.spec == spec or kind == "config"
    assert (outcome.verdict is not None) == (kind in ("model", "config"))


def test_a_device_is_named_with_its_file(here):
    source = Path(specs_folder()) / "hardware" / "l4.yaml"
    (here / "d.yaml").write_text(source.read_text())
    assert checked("d.yaml")[:3] == ("d.yaml", "device", "l4 (d.yaml)")


@pytest.mark.parametrize(
    ("name", "found", "code"),
    [
        ("bad.yaml", False, 1),
        ("bad.yaml", True, 1),
        ("gone.yaml", False, 3),
        ("gone.yaml", True, 1),
        ("gpt9", False, 2),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_a_code(here, name, found, code):
    (here / "bad.yaml").write_text("schema: 0\nd_model: x\n")
    outcome = checked(name, found=found)
    assert {(one.rule, one.level) for one in outcome.problems} == {("AC001", "error")}
    assert (outcome.code, outcome.exit_code(), outcome.file) == (code, code, name)


@pytest.mark.parametrize(
    ("name", "kind", "spec"),
    [
        ("a100-40gb", "device", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "device", "a100-80gb"),
        ("fsdp8", "plan", "fsdp8"),
        ("gpt2", "model", "gpt2"),
    ],
)
@pytest.mark.usefixtures("here")
def test_whatever_the_catalogue_has_is_checked_by_its_name(name, kind, spec):
    assert checked(name, found=False)[:4] == (name, kind, spec, ())


@pytest.mark.usefixtures("here")
def test_a_name_of_several_devices_is_told_as_one():
    outcome = checked("a100", found=False)
    (one,) = outcome.problems
    assert outcome.code == 2
    assert str(one) == "a100: 'a100' matches several devices; choose one of a100-40gb, a100-80gb [AC001]"


@pytest.mark.parametrize("name", ["gone.yaml", "gone/", "gpt9"])
@pytest.mark.usefixtures("here")
def test_what_is_not_there_is_told_once(name):
    answer = ask("check", name)
    assert (answer.out, answer.err.count("\n")) == ("", 1)
    assert answer.err.startswith(f"{name}: ")
    assert ask("check", name, "-f", "json").json["passed"] is False


def test_whatever_brings_no_spec_has_one_exit_code(here):
    os.mkfifo(here / "pipe")
    for source in ("/dev/null", "/dev/zero"):
        assert ask("check", source).code == 2
    for content in (b"", b"a: 1\n", b"\0" * 5_000_000):
        assert ask("check", "-", stdin=content).code == 2
    for content in (b"", b"a: 1\n"):
        writer = Thread(target=(here / "pipe").write_bytes, args=[content], daemon=True)
        writer.start()
        assert ask("check", "./pipe").code == 2
        writer.join(5)


def test_a_figure_counts_only_where_its_rule_is_on(here):
    (here / "x.yaml").write_text(GOOD + FIGURE)
    assert [one.rule for one in checked("x.yaml").problems] == ["AC101"]
    (here / "archcalc.yaml").write_text("schema: 0\nlint: {select: [AC102]}\n")
    assert checked("x.yaml").problems == ()


@pytest.mark.usefixtures("here")
def test_outcomes_keep_the_order_and_leave_out_what_is_not_ours():
    targets = [Target(name, found=True) for name in ("plan.yaml", "compose.yaml", "x.yaml")]
    for jobs in (0, 1, 2):
        found = list(check_all(targets, no_project(), jobs))
        assert [one.file for one in found] == ["plan.yaml", "compose.yaml", "x.yaml"]
    assert [one.file for one in ours(found)] == ["plan.yaml", "x.yaml"]


def test_a_configuration_that_names_what_is_not_there_is_wrong(here):
    (here / "archcalc.yaml").write_text("schema: 0\nlint: {plans: [none.yaml]}\n")
    outcome = check_target(Target("archcalc.yaml"), no_project())
    assert [str(one) for one in outcome.problems] == [
        "archcalc.yaml:2:16: lint.plans.0: cannot be read: none.yaml: no such file; got 'none.yaml' [AC001]"
    ]


def test_only_specs_on_disk_are_mended(here):
    edit = Problem("x.yaml", "is wrong", edits=(Edit(("name",), "better"), Edit(("d_model",), 8)))
    plain = Problem("x.yaml", "is wrong too")
    before = (here / "x.yaml").read_text()

    def of(file, kind="model", *problems):
        return Outcome(file, kind, "good", problems or (edit, plain))

    others = [of("gpt2"), of("none.yaml"), of("x.yaml", "plan"), of("x.yaml@n_layers=2"), of("x.yaml", "model", plain)]
    assert mend(others) == ({}, [])
    assert mend([of("x.yaml", "model", Problem("x.yaml", "is so", edits=(Edit(("name",), "good"),)))]) == ({}, [])
    assert (here / "x.yaml").read_text() == before
    assert mend([*others, of("x.yaml")]) == ({"x.yaml": 2}, [])
    assert (here / "x.yaml").read_text() == before.replace("name: good", "name: better")
