"""Specs as tests of pytest: each file is a case, which fails with what `archcalc check` would say of it.

from archcalc.testing import archcalc_check
test_specs = archcalc_check("specs/*.yaml")
"""

from __future__ import annotations

import os
from collections.abc import Callable

from archcalc.checks.baseline import read_baseline
from archcalc.checks.collecting import Target, collect, kind_of
from archcalc.checks.project import find_project
from archcalc.checks.running import check_target
from archcalc.errors import Missing, Problem
from archcalc.spec.catalogue import typed


def archcalc_check(
    *paths: str | os.PathLike[str], config: str | os.PathLike[str] | None = None
) -> Callable[[Target], None]:
    """Return a test with a case for each file, that fails with the errors in it, each a line.

    `paths` are what `archcalc check` takes: files, folders and patterns, from the current folder, or names of the
    catalogue; without any, `specs` of the configuration. `config` is the path of that, if it is not the archcalc.yaml
    or pyproject.toml here or above. Its budgets and rules hold, its baseline excuses, and warnings fail where it has
    `fail_on: warning`. That every budget is for some spec is for `archcalc check` to say.

    Raises Invalid for what is no path and for a malformed configuration, Missing where nothing is to be checked.
    """
    import pytest

    project = find_project(None if config is None else typed(config))
    _ = project.aim  # what is wrong with it is wrong with no spec
    asked = [typed(path) for path in paths] or [project.path(one) for one in project.configuration.specs]
    targets = [one for one in collect(asked, project.configuration.exclude) if kind_of(one) != "unknown"]
    if not targets:
        raise Missing(Problem("archcalc_check", "has no file to check", suggestion="name files, folders or patterns"))
    known = None if project.baseline is None else read_baseline(project.baseline)
    strict = project.configuration.lint.fail_on == "warning"

    @pytest.mark.parametrize("target", [pytest.param(target, id=target.path) for target in targets])
    def test(target: Target) -> None:
        outcome = check_target(target, project)
        if known is not None:
            (outcome,), _ = known.without([outcome], project.folder)
        if outcome.exit_code(strict=strict):
            failed = [problem for problem in outcome.problems if strict or problem.level == "error"]
            pytest.fail("\n".join(map(str, failed)), pytrace=False)

    return test
