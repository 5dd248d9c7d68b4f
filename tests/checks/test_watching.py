"""Which files were saved between two looks."""

import os

import pytest

from archcalc.checks import watching
from archcalc.checks.collecting import Target


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b.yaml", "archcalc.yaml"):
        (tmp_path / name).write_text("one")
    return tmp_path


def seen(monkeypatch, *actions, beside=("archcalc.yaml",)):
    """What is told, in turn, where each of these is done while it waits; then it is left."""
    left = [*actions, None]

    def wait(seconds):
        assert 0 < seconds <= 1
        if (action := left.pop(0)) is None:
            raise KeyboardInterrupt
        action()

    monkeypatch.setattr(watching.time, "sleep", wait)
    found = []

    def targets():
        return [Target(name) for name in sorted(os.listdir()) if name not in beside]

    with pytest.raises(KeyboardInterrupt):
        found.extend([one.path for one in each] for each in watching.saved(targets, beside))
    return found


def test_what_is_saved_is_told_once(here, monkeypatch):
    def nothing():
        pass

    assert seen(
        monkeypatch,
        nothing,
        lambda: (here / "b.yaml").write_text("longer"),
        nothing,
        lambda: (here / "c.yaml").write_text("new"),
        lambda: [(here / name).write_text("again and longer") for name in ("a.yaml", "c.yaml")],
    ) == [["b.yaml"], ["c.yaml"], ["a.yaml", "c.yaml"]]


def test_a_file_of_the_same_size_and_time_is_another_where_it_replaced_one(here, monkeypatch):
    before = (here / "a.yaml").stat()

    def replaced():
        (here / "new").write_text("two")
        os.utime(here / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(here / "new", here / "a.yaml")

    def touched():
        os.utime(here / "b.yaml", ns=(0, 0))

    assert seen(monkeypatch, replaced, touched) == [["a.yaml"], ["b.yaml"]]


def test_all_are_looked_at_again_where_the_configuration_was_saved(here, monkeypatch):
    assert seen(monkeypatch, lambda: (here / "archcalc.yaml").write_text("longer")) == [["a.yaml", "b.yaml"]]
    assert seen(monkeypatch, (here / "archcalc.yaml").unlink) == [["a.yaml", "b.yaml"]]


def test_one_of_several_files_beside_is_enough_and_one_that_is_gone_hides_no_other(here, monkeypatch):
    def both():
        (here / "archcalc.yaml").unlink()
        (here / "b.yaml").write_text("longer")

    beside = ("none.json", "archcalc.yaml")
    assert seen(monkeypatch, both, beside=beside) == [["a.yaml", "b.yaml"]]
    assert seen(monkeypatch, lambda: (here / "b.yaml").write_text("longer still"), beside=beside) == [["b.yaml"]]
