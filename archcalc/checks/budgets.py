"""Budgets: quantities of a spec held against the bounds that its project set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, cast

from archcalc.checks.amounts import Ratio, in_words, read_amount
from archcalc.checks.configuration import Budget, When
from archcalc.checks.outcome import Bound, Outcome
from archcalc.checks.project import Project
from archcalc.checks.rules import BUDGET, UNKNOWN
from archcalc.counts.asked import held_run, work_run
from archcalc.counts.memory import NOT_OP_BY_OP, runs_op_by_op
from archcalc.counts.onerank import of_a_rank, sections_of
from archcalc.counts.quantities import QUANTITIES, Asked
from archcalc.errors import ArchcalcError, Invalid, Problem, shown
from archcalc.hardware.fitting import RESERVE, missing, usable
from archcalc.plan.batches import of_batch
from archcalc.plan.description import Plan
from archcalc.plan.recipes import keeping_of
from archcalc.spec.catalogue import Found, is_path
from archcalc.spec.model import Model
from archcalc.spec.question import split
from archcalc.spec.revisions import on_disk
from archcalc.spec.source import dotted
from archcalc.tape.precision import refuse_other_purpose
from archcalc.units import grouped, percent

Side = Literal["most", "least", "fits"]
_SIDES: tuple[Side, ...] = ("most", "least", "fits")


class Kept(NamedTuple):
    """What the budgets of a project say of one spec: each bound, and what is wrong."""

    bounds: tuple[Bound, ...] = ()
    problems: tuple[Problem, ...] = ()


def hold_budgets(project: Project, found: Found) -> Kept:
    """Hold a spec against every budget that is for it. A budget that cannot be evaluated is a problem too."""
    bounds: list[Bound] = []
    problems: list[Problem] = []
    count = Counted(found.model, project)
    for index, budget in enumerate(project.configuration.budgets):
        if not is_for(budget, project, found.model.name, found.typed):
            continue
        sides = [side for side in _SIDES if getattr(budget, side) is not None]
        try:
            figure = count.of(budget.that, budget.when)
            when = budget.when.in_words()
            held = [_bound(project, budget, side, found, figure)._replace(when=when) for side in sides]
        except ArchcalcError as error:
            problems.append(_not_evaluated(project, index, found, error))
            continue
        problems += _against_itself(project, index, found)
        for bound in held:
            problem = _exceeded(project, index, found, bound) if bound.left < 0 else None
            problems += [problem] if problem else []
            bounds.append(bound._replace(problem=problem))
    return Kept(tuple(bounds), tuple(problems))


def is_for(budget: Budget, project: Project, spec: str, path: str) -> bool:
    """Whether a budget is for a spec: all are, unless it names some by name, path or pattern."""
    if not budget.specs:
        return True
    words = (spec, os.path.relpath(on_disk(path), project.folder or ".").replace(os.sep, "/"))
    return any(fnmatchcase(word, pattern.removeprefix("./")) for pattern in budget.specs for word in words)


class Counted:
    """A model counted under conditions; budgets with the same ones read what was recorded once."""

    def __init__(self, model: Model, project: Project) -> None:
        self._model, self._project = model, project
        self._asked: dict[object, Asked] = {}

    def of(self, that: str, when: When) -> int:
        """A quantity under conditions; with a plan that of the rank that has the most.

        Raises Invalid for conditions that contradict each other or do not go with the model, Missing where a plan is
        not there.
        """
        quantity = QUANTITIES[that]
        sections = () if when.plan is None else sections_of(that.partition(".")[0])
        if (when, sections) not in self._asked:
            self._asked[when, sections] = self._ask(when, sections)
        asked = self._asked[when, sections]
        if refused := quantity.refusal(asked):
            raise Invalid(Problem("", f"{that} {refused}"))
        return int(quantity.of(asked))

    def _ask(self, when: When, sections: tuple[str, ...]) -> Asked:
        if when.plan is None:
            return asked_when(self._model, when)[0]
        asked, plan = asked_when(self._model, when, self._project.plan(when.plan))
        return of_a_rank(asked, cast("Plan", plan), sections, when.plan)[0]


def asked_when(model: Model, when: When, plan: Plan | None = None) -> tuple[Asked, Plan | None]:
    """What is asked of a model under conditions, and the plan with the batch of a step.

    Raises Invalid for conditions that contradict each other or do not go with the model.
    """
    keeping = keeping_of(
        plan,
        when.purpose,
        precision=when.precision,
        optimizer=when.optimizer,
        recompute=when.recompute,
        kv_precision=when.kv_precision,
        accumulate=when.accumulate,
    )
    refuse_other_purpose(when.purpose, keeping)
    if when.activation_kernel == "eager" and not runs_op_by_op(model):
        raise Invalid(Problem("", f"activation_kernel: eager {NOT_OP_BY_OP}"))
    batch = 1 if plan is not None or when.batch is None else when.batch
    most = model.context_length
    if when.phase == "decode" and when.seq is not None:
        raise Invalid(Problem("", "seq does not apply to decode", suggestion="use context"))
    work = work_run(
        when.phase,
        batch,
        most,
        sequence=when.seq,
        context=when.context,
        attention=when.attention,
        causal=when.causal,
        logits=when.logits,
    )
    held = held_run(
        when.purpose,
        batch,
        most if when.seq is None else when.seq,
        attention=when.attention,
        dropout=when.dropout,
        activation=when.activation_kernel,
    )
    if plan is not None and when.batch is not None:
        plan = of_batch(plan, when.batch, trains=when.purpose == "training")
    return Asked(model, work, held, keeping), plan


def _bound(project: Project, budget: Budget, side: Side, found: Found, figure: int) -> Bound:
    """One side of a budget, held against what was counted."""
    unit = QUANTITIES[budget.that].unit
    if side == "fits":
        device = project.device(budget.fits or "")
        room = usable(device, RESERVE if budget.reserve is None else budget.reserve)
        return Bound(budget.that, device.name, unit, figure, room, device=device.name)
    written = getattr(budget, side)
    amount = read_amount(written, unit)
    if isinstance(amount, Ratio):
        of = amount.of
        if of.endswith(":*"):  # of the revision the same file
            of = f"{of[:-1]}./{os.path.relpath(on_disk(found.typed))}".replace(os.sep, "/")
        other = Counted(project.spec(of).model, project).of(budget.that, budget.when)
        bound = amount.times * other
        whole = -(-bound.numerator // bound.denominator) if side == "least" else bound.numerator // bound.denominator
        return Bound(budget.that, written.strip(), unit, figure, whole, side == "least")
    return Bound(budget.that, in_words(amount, written, unit), unit, figure, amount, side == "least")


def _exceeded(project: Project, index: int, found: Found, bound: Bound) -> Problem:
    """A problem at the spec, which says the figure, the bound and by how much."""
    budget = project.configuration.budgets[index]
    if bound.device:
        what = f"{bound.that} is {grouped(bound.figure)} bytes: {missing(bound.device, -bound.left)}"
    else:
        short = (
            f"{grouped(-bound.left)} ({percent(-bound.left, bound.bound).lstrip('+')})"
            if bound.bound
            else grouped(-bound.left)
        )
        side, off = ("at least", "short by") if bound.at_least else ("at most", "exceeded by")
        allowed = f"{side} {grouped(bound.bound)} allowed ({bound.words})"
        what = f"{bound.that} is {grouped(bound.figure)} {bound.unit}; {allowed}, {off} {short}"
    problem = found.document.problem(f"{what}; {_place(project, index)}", suggestion=budget.why)
    return problem.under(BUDGET.id, BUDGET.level)


def _not_evaluated(project: Project, index: int, found: Found, error: ArchcalcError) -> Problem:
    budget = project.configuration.budgets[index]
    first = error.problems[0]
    subject = first.path or first.file
    why = f"{subject}: {first.words}" if subject else first.words
    what = f"the budget of {budget.that} cannot be evaluated: {why}; {_place(project, index)}"
    return found.document.problem(what).under(UNKNOWN.id, UNKNOWN.level)


def _against_itself(project: Project, index: int, found: Found) -> Iterator[Problem]:
    """A warning where a bound is so many times what the same file has, which says nothing of a change."""
    budget = project.configuration.budgets[index]
    unit = QUANTITIES[budget.that].unit
    for written in (budget.most, budget.least):
        amount = read_amount(written, unit) if isinstance(written, str) else None
        if isinstance(written, str) and isinstance(amount, Ratio) and _is_itself(project, amount.of, found.typed):
            what = (
                f"the budget of {budget.that} holds this file against itself, so that a change of it is on both sides"
            )
            times = written.partition("x")[0].strip()
            fix = f"`{times}x main:*` is this file on the branch main; else name the other specs as specs:"
            problem = found.document.problem(f"{what}; {_place(project, index)}", suggestion=fix)
            yield problem.under(UNKNOWN.id, "warning")


def _is_itself(project: Project, of: str, spec: str) -> bool:
    path = project.path(of)
    try:
        head, question = split(path)
        if question is not None and spec != path:  # the same file with a field changed holds that field alone
            path = head
        return path == spec or (is_path(of) and os.path.samefile(path, spec))
    except (OSError, ValueError):  # of a revision
        return False


def _place(project: Project, index: int) -> str:
    """Where a budget stands: archcalc.yaml:3, or tool.archcalc.budgets.0 of pyproject.toml."""
    document = project.document
    mark = document.values.get(("budgets", index))
    file = os.path.relpath(document.file) if project.folder else document.file
    return f"see {file}:{mark.line}" if mark else f"see {dotted((*document.within, 'budgets', index))} of {file}"


def unused_budgets(project: Project, every: Iterable[Outcome]) -> Iterator[Problem]:
    """A problem for each budget that is for none of the project's specs: what is never evaluated never fails."""
    specs = [(one.spec.partition("@")[0], one.file) for one in every if one.kind in ("model", "config")]
    for index, budget in enumerate(project.configuration.budgets):
        if not any(is_for(budget, project, *spec) for spec in specs):
            words = shown(", ".join(budget.specs)) if budget.specs else None
            problem = project.document.problem("is for no spec that was checked", ("budgets", index), value=words)
            yield problem.under(UNKNOWN.id, UNKNOWN.level)
