"""A model whose sizes are letters: what any function counts of it is a formula."""

from __future__ import annotations

import re
from typing import NamedTuple, cast

from archcalc.spec.model import Model, Segment, stretches
from archcalc.spec.source import Where
from archcalc.tape.formula import Formula, Letter
from archcalc.tape.legend import LABELS
from archcalc.tape.run import Run

_SHARED = ("D", "V", "P")  # of the whole model; other sizes are a group of layers' own


class Meaning(NamedTuple):
    """What a letter stands for, and the fields of the spec that it comes from."""

    letter: Letter
    words: str
    fields: tuple[Where, ...]


class LetteredModel:
    """A model as the counting functions see one: its segments, with letters for the sizes that its spec states."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def segments(self, run: Run | None = None) -> list[Segment]:
        """The model's segments. Sizes that the run decides are as the run has them: see `lettered_run`."""
        run = run or Run()
        counted = stretches(self.model.layers)
        groups = iter(counted)
        found = []
        for segment in self.model.segments(run):
            own = segment.first is not None
            group = next(groups).start if own else 0
            index = str(group + 1) if own and len(counted) > 1 else ""
            env = {}
            for label, size in segment.env.items():
                name = label if label in _SHARED else label + index
                env[label] = Formula.letter(name, size) if isinstance(size, int) and label in self._stated else size
            repeat = Formula.letter(f"L{index}", segment.repeat) if own else segment.repeat
            found.append(segment._replace(env=env, repeat=repeat))
        return found

    @property
    def _stated(self) -> set[str]:
        """Labels whose sizes the spec states, not the run."""
        return set(LABELS) - set(Run().sizes())


def lettered(model: Model) -> Model:
    """The model with letters for its sizes, for functions that read nothing but its segments."""
    return cast("Model", LetteredModel(model))


def lettered_run(run: Run) -> Run:
    """The run with letters for its sizes."""
    sequence = Formula.letter("S", run.sequence)
    context = None if run.context is None else Formula.letter("T", run.context)
    return run._replace(batch=Formula.letter("B", run.batch), sequence=sequence, context=context)


def meaning(letter: Letter, model: Model) -> Meaning:
    """What a letter means, and where the spec states it."""
    stem, index = letter.stem, letter.name[len(letter.stem) :]
    group = int(index) - 1 if index else 0
    own = {"L": "layers of this kind" if index else "layers", "tokens": "to train on", "S": "positions of a sequence"}
    words = own.get(stem) or LABELS[stem].partition(" (")[0]
    names = ["repeat"] if stem == "L" else re.findall(r"[a-z]+(?:_[a-z]+)+", LABELS.get(stem, ""))
    data = model.model_dump()
    alike = [group]
    if stem == "L":  # of all groups that are counted as one
        alike = next(list(stretch) for stretch in stretches(model.layers) if group in stretch)
    return Meaning(letter, words, tuple(where for name in names for i in alike for where in _fields(data, name, i)))


def _fields(data: dict[str, object], name: str, group: int) -> list[Where]:
    """The places of a field: at the top, or in one group of layers."""
    if name in data:
        return [(name,)]
    layer = data["layers"][group]  # type: ignore[index]  # a dump of a model has groups of layers
    if name in layer:
        return [("layers", group, name)]
    return [
        ("layers", group, part, name) for part, fields in layer.items() if isinstance(fields, dict) and name in fields
    ]
