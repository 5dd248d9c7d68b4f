"""One rank of a plan in letters: sizes are those of the model, and the ranks that cut them stand below the line.

The layers are those of the rank's stage, the sequences those of a micro-batch, and positions those of the whole
sequence: context-parallel ranks divide them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from archcalc.counts.lettered import Meaning, lettered, meanings, stated_in_letters
from archcalc.plan.description import Plan
from archcalc.plan.local import localize, share
from archcalc.plan.stages import chunks_of, in_flight, parts_of
from archcalc.spec.model import Model
from archcalc.tape.formula import Formula, Letter
from archcalc.tape.passes import Pass, Segment
from archcalc.tape.run import Run

_WAITING = "held"
DEGREES = {
    "dp": "data-parallel ranks",
    "tp": "tensor-parallel ranks",
    "cp": "context-parallel ranks",
    "ep": "expert-parallel ranks",
    _WAITING: "micro-batches whose activations the rank holds",
}
"""Letters of a plan, and what they mean."""


class LetteredRank:
    """A rank as the counting functions see one: its passes, with letters for the sizes that the spec states."""

    def __init__(self, model: Model, plan: Plan, stage: int) -> None:
        self._model, self._whole, self.stage = model, plan, stage
        self.plan = in_letters(plan)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def record(self, run: Run | None = None) -> Pass:
        """The rank's pass. Sizes that the run decides are as the run has them: see `lettered_run`."""
        run = run or Run()
        whole = self._model.record(run)
        plan, stage, alone = self._whole, self.stage, self._whole.pp == 1
        parts = parts_of(whole, plan, stage)
        kinds = [segment.places for segment in whole.segments if segment.layers is not None]
        found = [self._lettered(part, parts, kinds, run) for part in parts]
        waiting = [1] if alone else in_flight(plan, stage)
        held = [_waiting(n, i, len(parts)) for i, n in enumerate(waiting)]
        segments = [localize(segment, self.plan) for part in found for segment in part]
        return Pass(run, segments, self, share(self.plan, chunks_of(found, held)))

    def record_mtp(self, run: Run | None = None) -> Pass:
        """The pass of the modules of multi-token prediction, which no plan divides."""
        return lettered(self._model).record_mtp(run)

    def _lettered(
        self, part: list[Segment], parts: list[list[Segment]], kinds: Sequence[Any], run: Run
    ) -> list[Segment]:
        """A chunk of the rank's layers with letters, which each kind of layers has of its own."""
        found, starts = [], dict[int, Formula]()
        for segment in part:
            layers, mark = segment.layers, ""
            if layers is not None:
                mark = str(kinds.index(segment.places) + 1) if len(kinds) > 1 else ""
                alike = [[one for one in other if one.places == segment.places] for other in parts]
                counts = {tuple(one.repeat for one in some) for some in alike if some}
                mine = next(some for some in alike if segment in some)
                name = "L" if len(mine) == 1 else [*_PARTS][mine.index(segment)]
                first = starts.setdefault(int(layers.first), Formula.of(layers.first))
                if len(counts) == 1:
                    layers = layers.lettered(Formula.letter(f"{name}{mark}", layers.count), first)
                else:  # chunks with more of them and with fewer have no one letter
                    layers = layers.lettered(Formula.of(layers.count), first)
            found.append(segment.replace(stated=stated_in_letters(segment, run, mark), layers=layers))
        return found


_PARTS = {"again": "layers that are computed again", "once": "layers that are not computed again"}
"""Letters of layers of one kind, of which the first are recomputed."""


def in_letters(plan: Plan) -> Plan:
    """A plan with a letter for each degree above 1 that cuts sizes."""
    degrees = {name: getattr(plan, name) for name in DEGREES if name != _WAITING}
    letters: dict[str, Any] = {name: Formula.letter(name, n, divides=True) for name, n in degrees.items() if n > 1}
    if plan.etp is not None and plan.etp == plan.tp and "tp" in letters:
        letters["etp"] = letters["tp"]
    return plan.model_copy(update=letters)


def _waiting(n: int, chunk: int, chunks: int) -> Any:
    """Micro-batches in flight: a letter where there are several."""
    return n if n == 1 else Formula.letter(_WAITING + (str(chunk + 1) if chunks > 1 else ""), n)


def lettered_rank(model: Model, plan: Plan, stage: int) -> Model:
    """A rank of a stage with letters for its sizes, for functions that read nothing but its passes."""
    return cast("Model", LetteredRank(model, plan, stage))


def meanings_in_a_rank(letters: Sequence[Letter], model: Model, plan: Plan) -> list[Meaning]:
    """What each letter means in a formula of a rank."""
    return [_meaning(letter, model, plan) for letter in letters]


def _meaning(letter: Letter, model: Model, plan: Plan) -> Meaning:
    if letter.stem in DEGREES:
        return Meaning(letter, DEGREES[letter.stem], (), "the plan")
    if letter.name == "B":
        return Meaning(letter, "sequences of a micro-batch", (), "the plan")
    counts = letter.stem in ("L", *_PARTS)
    (found,) = meanings(
        [letter._replace(name=f"L{letter.name.removeprefix(letter.stem)}") if counts else letter], model
    )
    if letter.stem in _PARTS:
        found = found._replace(letter=letter, words=found.words.replace("layers", _PARTS[letter.stem], 1))
    if counts and plan.pp > 1:
        of = "each chunk of the rank's stage" if plan.chunks > 1 else "the rank's stage"
        return found._replace(words=found.words.replace("layers", f"layers in {of}", 1))
    return found
