"""A model whose sizes are letters: what any function counts of it is a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from archcalc.spec.layers import Layer
from archcalc.spec.model import Model
from archcalc.spec.mtp import Recording
from archcalc.tape.formula import Formula, Letter
from archcalc.tape.legend import LABELS, MARK, stem
from archcalc.tape.passes import Pass, Segment, Where
from archcalc.tape.run import Run

THE_RUN = "the run"
_SHARED = ("D", "V", "P")  # of the whole model; other sizes are of a kind of layers


class Meaning(NamedTuple):
    """What a letter stands for, and the fields of the spec that it comes from, or what else decides it."""

    letter: Letter
    words: str
    fields: tuple[Where, ...]
    source: str = THE_RUN


class LetteredModel:
    """A model as the counting functions see one: its passes, with letters for the sizes that its spec states."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def record(self, run: Run | None = None) -> Pass:
        """The model's pass. Sizes that the run decides are as the run has them: see `lettered_run`."""
        run = run or Run()
        taken = self.model.record(run)
        kinds = sum(segment.layers is not None for segment in taken.segments)
        found: list[Segment] = []
        starts: dict[int, Formula] = {}
        index = 0
        for segment in taken.segments:
            mark = ""
            if segment.layers is not None:
                index += 1
                mark = str(index) if kinds > 1 else ""
            layers = segment.layers
            if layers is not None:
                first = starts.setdefault(id(layers.first), Formula.of(layers.first))
                layers = layers.lettered(Formula.letter(f"L{mark}", layers.count), first)
            found.append(segment.replace(stated=stated_in_letters(segment, run, mark), layers=layers))
        return Pass(run, found, self)

    def record_mtp(self, run: Run | None = None) -> Pass:
        """The pass of the modules of multi-token prediction; letters of their layer follow those of the model's."""
        run = run or Run()
        mark = str(len(_places(self.model)) + 1)
        found: list[Segment] = []
        for segment in self.model.record_mtp(run).segments:
            layers = segment.layers
            if layers is not None:
                layers = layers.lettered(Formula.letter(f"L{mark}", layers.count), Formula.of(0))
            stated = stated_in_letters(
                segment, run, "" if found else mark
            )  # the head's letters are those of the model's
            found.append(segment.replace(stated=stated, layers=layers))
        return Pass(run, found, Recording(self.record_mtp))


def stated_in_letters(segment: Segment, run: Run, mark: str) -> dict[str, Any]:
    """The sizes of a segment as letters; those that the run decides are as the run has them."""
    decided = {*run.sizes(), "unit"}
    return {
        label: Formula.letter(label if label in _SHARED else label + mark, size)
        if isinstance(size, int) and stem(label) not in decided
        else size
        for label, size in segment.stated.items()
    }


def _places(model: Model) -> list[tuple[Where, ...]]:
    """Where the spec describes each kind of layers."""
    return [segment.places for segment in model.record().segments if segment.layers is not None]


def lettered(model: Model) -> Model:
    """The model with letters for its sizes, for functions that read nothing but its passes."""
    return cast("Model", LetteredModel(model))


def lettered_run(run: Run) -> Run:
    """The run with letters for its sizes."""
    sequence = Formula.letter("S", run.sequence)
    context = None if run.context is None else Formula.letter("T", run.context)
    return run._replace(batch=Formula.letter("B", run.batch), sequence=sequence, context=context)


def meanings(letters: Iterable[Letter], model: Model) -> list[Meaning]:
    """What each letter means, and where the spec states it."""
    places = _places(model)
    modules = [segment.places for segment in model.record_mtp().segments[:1]]
    places, most = [*places, *modules], len(places)
    return [_meaning(letter, places, model, most) for letter in letters]


_COUNT_LAYERS = ("L", "layers")  # of a kind, and all


def _meaning(letter: Letter, kinds: list[tuple[Where, ...]], model: Model, most: int) -> Meaning:
    name = letter.stem
    index = int(letter.name[len(name) :] or 1) - 1
    if name == "L" and index == most:
        return Meaning(letter, "modules of multi-token prediction", (("mtp", "n_modules"),))
    own = {"tokens": "to train on", "S": "positions of a sequence"}
    if name == "L":
        own["L"] = "layers of this kind" if letter.name != "L" else "layers"
    label = stem(name)
    words = own.get(name) or LABELS[label].partition(" (")[0]
    names = (
        ["repeat"]
        if name in _COUNT_LAYERS
        else re.findall(r"[a-z]+(?:_[a-z]+)+|(?<=\()[a-z]+(?=\))", LABELS.get(label, ""))
    )
    places = kinds[index] if index < len(kinds) else ()
    places = tuple(dict.fromkeys(place for kind in kinds for place in kind)) if name == "layers" else places
    found = [where for one in names for where in _fields(model, one, name, places)]
    return Meaning(letter, words, tuple(dict.fromkeys(found)))


def _fields(model: Model, name: str, label: str, places: tuple[Where, ...]) -> list[Where]:
    """The places of a field that states the size of a label: at the top, or in the layers of a kind."""
    if name in type(model).model_fields:
        return [(name,)]
    found: list[Where] = []
    for place in places:
        inside = _in_layer(_at(model, place), name, label, place)
        found += inside or ([(*place[:2], name)] if name == "repeat" else [])
    tops = ((top, getattr(model, top)) for top in ("embedding", "unembedding"))
    return found or [where for top, part in tops for where in _below(part, name, stem(label), (top,))]


def _at(model: Model, place: Where) -> Any:
    """The part of a model at a place."""
    part: Any = model
    for step in place:
        part = getattr(part, str(step)) if isinstance(part, BaseModel) else part[step]
    return part


def _in_layer(layer: Layer, name: str, label: str, where: Where) -> list[Where]:
    """Where a field stands in the branch whose label it is: of two that have the label, the second's is marked."""
    plain = stem(label)
    having = [
        place
        for place, branch in layer.placed_mixers()
        if any(plain in (*block.sizes(), *block.derives) for block in branch.blocks)
    ]
    return [
        found
        for place in having[label.count(MARK) :][:1]
        for found in _below(_at(cast("Model", layer), place), name, plain, (*where, *place))
    ]


def _below(part: BaseModel, name: str, label: str, where: Where, *, owns: bool = False) -> list[Where]:
    """Where a field of a name stands in a block that declares the label, however deep; `owns`: one around it does."""
    declared = {one for kind in type(part).__mro__ for one in kind.__dict__.get("labels", ())}
    owns = label in declared if declared else owns
    found: list[Where] = []
    for key, inner in part:
        if isinstance(inner, BaseModel):
            found += _below(inner, name, label, (*where, key), owns=owns)
        elif owns and key == name and inner is not None:
            found.append((*where, key))
    return found
