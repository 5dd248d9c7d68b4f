"""Specs as tests of pytest, which runs in a folder of its own."""

import os
import subprocess
import sys

import pytest
from goodspec import GOOD

import archcalc
from archcalc.testing import archcalc_check

FILE = 'from archcalc.testing import archcalc_check\n\ntest_specs = archcalc_check("specs/*.yaml")\n'
FIGURE = 'published: [{text: "1", parameters: 1, status: counted, source: "this test"}]\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "good.yaml").write_text(GOOD)
    (tmp_path / "specs" / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "test_specs.py").write_text(FILE)
    return tmp_path


def cases(*arguments):
    """What pytest says: the outcome of each case, and all of its output."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "-q", *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    return done.returncode, done.stdout


def test_each_file_is_a_case_that_fails_with_its_problems_and_no_traceback(here):
    (here / "specs" / "broken.yaml").write_text(GOOD.replace("d_model: 8", "d_model: eight"))
    (here / "specs" / "figure.yaml").write_text(GOOD + FIGURE)
    code, out = cases()
    assert code == 1
    assert "PASSED test_specs.py::test_specs[specs/good.yaml]\n" in out
    assert "FAILED test_specs.py::test_specs[specs/broken.yaml] - " in out
    assert "\nspecs/broken.yaml:6:10: d_model: must be an integer; got 'eight' [AC001]\n" in out
    assert "\nspecs/figure.yaml:15:13: published.0: parameters 1 does not hold; got " in out
    assert "2 failed, 1 passed" in out
    assert "compose" not in out
    assert "Traceback" not in out


def verdict(*paths, **more):
    """Runs the cases here: None, or what the first that fails says."""
    test = archcalc_check(*paths, **more)
    (mark,) = test.pytestmark
    for case in mark.args[1]:
        try:
            test(*case.values)
        except pytest.fail.Exception as failed:
            return str(failed)
    return None


def test_budgets_rules_and_the_baseline_of_the_project_hold(here):
    assert verdict("specs") is None
    (here / "other.yaml").write_text("budgets: [{that: parameters.stored, most: 1}]\nspecs: [specs]\n")
    assert "at most 1 allowed" in verdict("specs/good.yaml", config=here / "other.yaml")
    assert "at most 1 allowed" in verdict(config="other.yaml")
    assert verdict("specs") is None
    warned = GOOD.replace("vocab_size: 10", "vocab_size: 10007")
    (here / "specs" / "good.yaml").write_text(warned)
    assert verdict("specs") is None
    (here / "archcalc.yaml").write_text("lint: {select: [AC101, AC110], fail_on: warning}\n")
    assert "vocab_size: " in verdict("specs")
    (here / "specs" / "good.yaml").write_text(GOOD + FIGURE)
    known = '{"schema": 0, "problems": [{"file": "specs/good.yaml", "rule": "AC101", "path": "published.0"}]}'
    (here / "known.json").write_text(known)
    assert "does not hold" in verdict("specs")
    (here / "archcalc.yaml").write_text("lint: {select: [AC101]}\nbaseline: known.json\n")
    assert verdict("specs") is None


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        (("none/*.yaml",), "none/*.yaml: matches no file"),
        (("specs/c*.yaml",), "archcalc_check: has no file to check"),
        ((), "archcalc_check: has no file to check"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_test_of_nothing_is_refused(paths, line):
    with pytest.raises(archcalc.Missing) as error:
        archcalc_check(*paths)
    assert str(error.value).startswith(line)
