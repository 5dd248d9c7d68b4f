"""Apply the safe fixes of what was found to the files themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence

from archcalc.checks.outcome import Outcome
from archcalc.errors import Edit
from archcalc.files.writing import write_file
from archcalc.spec.catalogue import is_path
from archcalc.spec.editing import edited
from archcalc.spec.source import parse, read_file


def mend(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Write the files anew whose problems have edits; how many edits each got, by its path.

    Comments, order and quotes stay. A file that was not read from the disk by its own path (a catalogue name, standard
    input, a question, a revision) is left as it is. Raises Invalid and Missing as reading and writing a file do.
    """
    done: dict[str, int] = {}
    for outcome in outcomes:
        edits: list[Edit] = [edit for problem in outcome.problems for edit in problem.edits]
        if not edits or outcome.kind != "model" or not is_path(outcome.file) or not os.path.isfile(outcome.file):
            continue
        before = read_file(outcome.file)
        after = edited(before, parse(before, outcome.file), edits)
        if after != before:
            write_file(outcome.file, [after.decode()])
            done[outcome.file] = len(edits)
    return done
