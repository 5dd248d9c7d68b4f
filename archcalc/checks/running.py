"""Check files one by one, or several at a time, always in the same order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from archcalc.checks.audit import audit
from archcalc.checks.budgets import hold_budgets
from archcalc.checks.collecting import Target, sorted_out
from archcalc.checks.files import broken_promises
from archcalc.checks.linting import excused, looked, looking
from archcalc.checks.outcome import Kind, Outcome
from archcalc.checks.project import NAME, Project, find_project
from archcalc.checks.rules import FIGURE, INVALID, WEIGHTS, Stored, chosen
from archcalc.checks.subject import Subject
from archcalc.errors import ArchcalcError, Problem
from archcalc.hardware.devices import find_device
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.headers import read_header
from archcalc.plan.reading import find_plan
from archcalc.spec.catalogue import Found, find, is_readable, read_spec
from archcalc.spec.configs import GGUF
from archcalc.spec.source import is_stdin

FEW = 64
"""Files below which further processes are not worth their start."""


Beside = Callable[[Target, Found], "Stored | None"]
"""What the weights beside a spec say, None where there are none."""


def check_target(target: Target, project: Project, beside: Beside | None = None) -> Outcome:
    """Everything that is wrong with a file, and what holds. Never raises what is wrong with it.

    `beside` looks at the weights of a folder, which this room knows no names of.
    """
    kind, data = sorted_out(target)
    if kind == "unknown":
        return Outcome(target.path, kind, target.path)
    try:
        if kind in ("model", "config"):
            found = find(target.path) if data is None else read_spec(data, target.path)
            return _of_a_spec(target, found, kind, project, beside)
        return Outcome(target.path, kind, _READERS[kind](target.path))
    except ArchcalcError as error:
        problems = tuple(_of(target, problem).under(INVALID.id, INVALID.level) for problem in error.problems)
        is_file = target.found or (is_readable(target.path) and not is_stdin(target.path))
        code = 1 if is_file else error.exit_code  # what a pipe or a device brings is a question, as standard input is
        return Outcome(target.path, kind, target.path, problems, code=code)


def _of(target: Target, problem: Problem) -> Problem:
    """What is wrong with a name, which its reader tells as of a flag."""
    return replace(problem, file=target.path) if problem.file in ("--plan", "--device") else problem


def _plan(path: str) -> str:
    return find_plan(path, {}).name


def _device(path: str) -> str:
    return find_device(path).name


def _configuration(path: str) -> str:
    project = find_project(path)
    _ = project.aim  # which reads what it names
    return os.path.basename(path) or NAME


def _weights(path: str) -> str:
    (read_gguf if path.endswith(GGUF) else read_header)(path)
    return os.path.basename(path)


_READERS: dict[Kind, Callable[[str], str]] = {
    "plan": _plan,
    "device": _device,
    "configuration": _configuration,
    "weights": _weights,
}
"""Reads a file that is no spec, and gives its name."""


def _of_a_spec(target: Target, found: Found, kind: Kind, project: Project, beside: Beside | None) -> Outcome:
    lint = project.configuration.lint
    subject = Subject(found, project.aim)
    rules = looking(subject.aim, lint.select, lint.ignore)
    verdict = audit(found.model, subject.counts)
    verdict = verdict._replace(spec=found.name, warnings=found.warnings)
    promises = broken_promises(found, verdict) if FIGURE in rules else []
    told = [*promises, *looked(subject, rules)]
    if beside is not None and any(chosen((WEIGHTS,), lint.select, lint.ignore)) and (said := beside(target, found)):
        told += [problem if problem.rule else problem.under(WEIGHTS.id, WEIGHTS.level) for problem in said.problems]
        rules = (*rules, WEIGHTS)
        verdict = verdict._replace(
            checks=(*verdict.checks, *(() if said.problems else said.checks)),
            not_compared=(*verdict.not_compared, *said.not_compared),
            warnings=(*verdict.warnings, *said.warnings),
        )
    problems, allowed = excused(subject, told, rules)
    kept = hold_budgets(project, found)  # which no spec excuses: they are the project's
    every = sorted((*problems, *kept.problems))
    return Outcome(found.typed, kind, found.name, tuple(every), tuple(allowed), kept.bounds, verdict)


def check_all(
    targets: Sequence[Target], project: Project, jobs: int = 1, beside: Beside | None = None
) -> Iterator[Outcome]:
    """The outcomes in the order of the targets, `jobs` processes working at them."""
    if jobs <= 1 or len(targets) < FEW:
        for target in targets:
            yield check_target(target, project, beside)
        return
    from concurrent.futures import ProcessPoolExecutor

    size = max(1, min(FEW, len(targets) // (4 * jobs)))
    with ProcessPoolExecutor(jobs, initializer=_begin, initargs=(project, beside)) as pool:
        try:
            yield from pool.map(_check_here, targets, chunksize=size)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_project_here: list[tuple[Project, Beside | None]] = []
"""Of a process that works at files: the project, whose plans, devices and specs it reads once."""


def _begin(project: Project, beside: Beside | None) -> None:
    _project_here[:] = [(project, beside)]


def _check_here(target: Target) -> Outcome:
    return check_target(target, *_project_here[0])


def ours(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes without files that are none of archcalc's."""
    return [outcome for outcome in outcomes if outcome.kind != "unknown"]
