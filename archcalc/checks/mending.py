"""Apply the safe fixes of what was found to the files themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

from archcalc.checks.outcome import Outcome
from archcalc.errors import ArchcalcError, Edit, Problem
from archcalc.files.writing import write_file
from archcalc.spec.catalogue import is_path
from archcalc.spec.editing import edited
from archcalc.spec.source import parse, read_file


def is_mendable(outcome: Outcome) -> bool:
    """Whether a file is one that may be written: a spec that was read from the disk by its own path."""
    return outcome.kind == "model" and is_path(outcome.file) and os.path.isfile(outcome.file)


def mended(outcome: Outcome, edits: Sequence[Edit]) -> tuple[str, str] | None:
    """The text of a file before and after some edits; None where it is not one to write, or cannot be changed so."""
    if not edits or not is_mendable(outcome):
        return None
    try:
        before = read_file(outcome.file)
        after = edited(before, parse(before, outcome.file), edits)
    except ArchcalcError:
        return None
    return before.decode("utf-8-sig"), after.decode("utf-8-sig")


def mend(outcomes: Sequence[Outcome]) -> tuple[dict[str, int], list[Problem]]:
    """Write the files anew whose problems have edits: how many edits each got, by its path, and what went wrong.

    Comments, order and quotes stay. A file that was not read from the disk by its own path (a catalogue name, standard
    input, a question, a revision) is left as it is. One that cannot be written keeps no other from being mended.
    """
    done: dict[str, int] = {}
    wrong: list[Problem] = []
    seen: set[str] = set()  # a file may have several names
    for outcome in outcomes:
        edits: list[Edit] = [edit for problem in outcome.problems for edit in problem.edits]
        if not edits or not is_mendable(outcome):
            continue
        if (file := os.path.realpath(outcome.file)) in seen:
            continue
        seen.add(file)
        try:
            before = read_file(outcome.file)
            after = edited(before, parse(before, outcome.file), edits)
            if after != before:
                write_file(outcome.file, [after.decode()])
                done[outcome.file] = len(edits)
        except ArchcalcError as error:
            wrong += error.problems
    return done, wrong
