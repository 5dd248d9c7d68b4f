"""A plan is found by a name of the catalogue, a path or a folder's name, and changed by flags."""

import pytest

from archcalc.errors import Invalid, Missing
from archcalc.plan.description import Plan
from archcalc.plan.reading import find_plan, plan_names


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(name, changes=None, kind=Invalid):
    with pytest.raises(kind) as error:
        find_plan(name, changes or {})
    return str(error.value)


def test_names_are_those_of_the_files_in_order():
    assert list(plan_names()) == sorted(plan_names())
    assert {"fsdp8", "tp8", "zero1-dp8"} <= {*plan_names()}
    assert not any("." in name.removesuffix(".1-405b-torchtitan") for name in plan_names())
    assert find_plan("tp8", {}).tp == 8


def test_without_a_name_nothing_is_divided_but_what_is_asked():
    assert find_plan(None, {}) == Plan()
    assert find_plan(None, {"tp": 4}).tp == 4
    assert refused(None, {"tp": 0}) == "plan: tp: must be at least 1; got 0"


def test_a_file_and_flags_that_change_it(here):
    (here / "two.yaml").write_text("schema: 0\nname: two\nsource: this test\ntp: 2\n")
    assert (find_plan("two.yaml", {}).tp, find_plan("two.yaml", {"tp": 4}).tp) == (2, 4)
    assert find_plan("two.yaml", {"dp": 3}).tp == 2
    (here / "two").mkdir()
    assert "two: is a directory" in refused("two")
    assert refused("none.yaml", kind=Missing) == "none.yaml: no such file"
    (here / "list.yaml").write_text("- 1\n")
    assert refused("list.yaml", {"tp": 2}) == "list.yaml:1:1: must be a mapping; got [1]"
    (here / "bad.yaml").write_text("schema: 0\nname: bad\nsource: this test\ntp: no\n")
    assert refused("bad.yaml") == "bad.yaml:4:5: tp: must be an integer; got 'no'"
    assert refused("two.yaml", {"tp": -1}) == "two.yaml: tp: must be at least 1; got -1"


def test_of_how_many_layers_nothing_is_said_where_they_are_not_recomputed_any_more(here):
    (here / "some.yaml").write_text("schema: 0\nname: a\nsource: s\nrecompute: full\nrecompute_layers: 3\n")
    assert find_plan("some.yaml", {}).recompute_layers == 3
    assert find_plan("some.yaml", {"dp": 2}).recompute_layers == 3
    assert find_plan("some.yaml", {"recompute": "full"}).recompute_layers == 3
    for recompute in ("none", "selective"):
        changed = find_plan("some.yaml", {"recompute": recompute})
        assert (changed.recompute, changed.recompute_layers) == (recompute, None)


def test_a_name_of_none_is_told_with_the_nearest():
    assert refused("fsdp9").startswith("--plan: unknown plan 'fsdp9'; nearest: fsdp8")
    assert refused("%").startswith(
        "--plan: unknown plan '%'; `archcalc list plans` shows all; a path names a YAML file"
    )
