"""What the rules of lint find in a spec, and what of it the spec's own `allow` excuses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache

from archcalc.arguments import instance
from archcalc.checks.lint.every import LINT, RULES
from archcalc.checks.outcome import Excused
from archcalc.checks.rules import FIGURE, NEVER_ALLOWED, UNUSED, Finding, Rule, chosen
from archcalc.checks.subject import Aim, Subject
from archcalc.errors import Edit, Invalid, Problem, did_you_mean, shown
from archcalc.spec.catalogue import Found, find, typed
from archcalc.spec.model import Model
from archcalc.spec.source import Document

ALL = ("AC",)


def lint(
    spec: str | os.PathLike[str] | Model | Subject,
    aim: Aim | None = None,
    select: Sequence[str] = ALL,
    ignore: Sequence[str] = (),
) -> list[Problem]:
    """Return what a valid spec may regret: problems with their rule, place, reason and fix, in order of their place.

    `spec` is a name, a path or a Model, which has no places. `aim` has devices and plans that it is meant for; rules
    that need them look only then. `select` and `ignore` are beginnings of identifiers, as AC11 of AC110. What the
    spec allows is left out, and an entry of `allow` that silences nothing is told. Figures that do not hold (AC101)
    are found by `check`.

    Raises Invalid for a spec that is not valid and for a beginning of no identifier, Missing for a path that leads
    nowhere.
    """
    for name, words in (("select", select), ("ignore", ignore)):
        _begin_rules(name, words)
    if aim is not None:
        instance("lint", "aim", aim, Aim)
    subject = spec if isinstance(spec, Subject) else Subject(_found(spec), aim)
    rules = [rule for rule in looking(subject.aim, select, ignore) if rule != FIGURE]
    return excused(subject, looked(subject, rules), rules)[0]


def _begin_rules(name: str, words: Sequence[str]) -> None:
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise Invalid(Problem("lint", "must be a list of identifiers, or of how they begin", name, value=shown(words)))
    for word in map(str, words):
        if not word or not any(rule.startswith(word) for rule in RULES):
            what, fix = "matches no rule", "`archcalc list rules` shows all"
            raise Invalid(Problem("lint", what, name, value=shown(word), suggestion=fix))


def _found(spec: str | os.PathLike[str] | Model) -> Found:
    if isinstance(spec, Model):
        nowhere = Document(spec.name)
        return Found(spec, nowhere, nowhere, {})
    return find(typed(spec))


def looking(aim: Aim, select: Iterable[str] = ALL, ignore: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of lint that are on, and have what they need: devices or plans of the aim."""
    needs = tuple(word for word, there in (("device", aim.devices), ("plan", aim.plans)) if there)
    return _looking(needs, tuple(select), tuple(ignore))


@lru_cache(16)
def _looking(there: tuple[str, ...], select: tuple[str, ...], ignore: tuple[str, ...]) -> tuple[Rule, ...]:
    rules = chosen((FIGURE, UNUSED, *LINT), select, ignore)
    return tuple(rule for rule in rules if {*rule.needs.split()} & {"device", "plan"} <= {*there})


def idle_choice(aim: Aim, select: Sequence[str], ignore: Sequence[str]) -> tuple[str, str, str | None] | None:
    """What is wrong with a choice of rules that would look at nothing, and pass: a field, what it is, and a fix.

    To ignore everything that is on by default, or what an unnamed beginning has, is a choice.
    """
    if tuple(select) != ALL and not any(chosen(RULES.values(), select, ignore)):
        return "ignore", f"leaves none of the rules that are selected ({', '.join(select)})", "select others"
    for word in select:
        rule = RULES.get(word)
        if rule and rule.needs and rule in chosen((rule,), select, ignore) and rule not in looking(aim, (word,)):
            fix = "name them in archcalc.yaml, such as lint: {devices: [a100-40gb], plans: [tp8]}"
            return (
                "select",
                f"has {word}, which looks only where a {rule.needs} that specs are meant for is named",
                fix,
            )
    return None


def looked(subject: Subject, rules: Iterable[Rule]) -> list[Problem]:
    """What these rules find, whatever the spec allows, in order of the place."""
    return sorted(_problem(subject, rule, found) for rule in rules for found in (rule.looks or _nothing)(subject))


def _nothing(_: Subject) -> tuple[Finding, ...]:
    return ()


def _problem(subject: Subject, rule: Rule, found: Finding) -> Problem:
    return subject.found.document.problem(
        found.message,
        found.path,
        value=found.value,
        suggestion=found.suggestion,
        rule=rule.id,
        level=rule.level,
        edits=found.edits,
    )


def excused(
    subject: Subject, problems: Iterable[Problem], rules: Iterable[Rule]
) -> tuple[list[Problem], list[Excused]]:
    """The problems that count, and those that the spec allows, each with its reason.

    `rules` are those that looked. To what counts AC102 adds the entries of `allow` that silence nothing: their rule
    looked and found nothing, does not exist, or is allowed by an entry before.
    """
    if not subject.model.allow:
        return sorted(problems), []
    here = {rule.id for rule in rules}
    whys: dict[str, str] = {}
    for entry in subject.model.allow:
        whys.setdefault(entry.rule, entry.why)
    left, silenced = [], []
    for problem in problems:
        if problem.rule in whys:
            silenced.append(Excused(problem, whys[problem.rule], "in the spec"))
        else:
            left.append(problem)
    if UNUSED.id in here and UNUSED.id not in whys:
        left += _unused(subject, {one.problem.rule for one in silenced}, here)
    return sorted(left), silenced


def _unused(subject: Subject, used: set[str], here: set[str]) -> Iterable[Problem]:
    seen: set[str] = set()
    for i, entry in enumerate(subject.model.allow):
        if entry.rule not in RULES:
            what = f"{entry.rule} is not a rule"
        elif entry.rule in NEVER_ALLOWED:
            what = f"a spec cannot excuse {entry.rule} ({RULES[entry.rule].name})"
        elif entry.rule in seen:
            what = f"{entry.rule} is allowed by an entry before"
        elif entry.rule in here and entry.rule not in used:
            what = f"the spec does not break {entry.rule} ({RULES[entry.rule].name})"
        else:
            seen.add(entry.rule)
            continue
        seen.add(entry.rule)
        fix = did_you_mean(entry.rule, list(RULES)) if entry.rule not in RULES else "remove the entry"
        found = Finding(what, ("allow", i), None, fix or "remove the entry", (Edit(("allow", i), None),))
        yield _problem(subject, UNUSED, found)
