"""A pass, recorded once: what every quantity is read off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from archcalc.errors import Where as Where  # noqa: PLC0414  (as mypy reads an export)
from archcalc.tape.legend import Cuts, Env, Mask, Size, add
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.recording import Tape
from archcalc.tape.run import ONE, Run
from archcalc.tape.views import as_made

if TYPE_CHECKING:
    from typing import Self

RESIDUAL = Tensor("residual", ("B", "N", "D"))
"""What goes into a segment, whatever made it: a tape knows its own names only."""


class Layers(NamedTuple):
    """Layers of one kind in a group whose kinds repeat: those at `offsets` of every `period` layers.

    Attributes:
        first: the index of the group's first layer, whatever its kind.
        group: how many layers the group has, of all kinds.
        known: how many they are, where that is a letter.
    """

    first: Size
    group: Size
    period: int = 1
    offsets: tuple[int, ...] = (0,)
    known: Size | None = None

    @property
    def count(self) -> Size:
        """How many they are."""
        if self.known is not None:
            return self.known
        return self.group if self.period == 1 else add(self.of(offset) for offset in self.offsets)

    def of(self, offset: int) -> Size:
        """How many of them stand at one offset."""
        return self.group if self.period == 1 else -(-(self.group - offset) // self.period)

    def indices(self) -> list[int]:
        """The index of each, in order; of letters by what they stand for."""
        first = _value(self.first)
        turns = [(offset, range(_value(self.of(offset)))) for offset in self.offsets]
        return sorted(first + offset + self.period * i for offset, of in turns for i in of)

    def lettered(self, count: Size, first: Size) -> Layers:
        """The same layers where their number is a letter; how many stand at one place of a pattern stays as it is."""
        if self.period == 1:
            return self._replace(first=first, group=count)
        return self._replace(first=first, known=count)

    @property
    def start(self) -> Size:
        """The index of the first of them."""
        return self.first + self.offsets[0]

    def __str__(self) -> str:
        """As a report says it: `0-95`, `0, 2, ..., 40`, `0-4, 6-10, ..., 60-61`."""
        indices = self.indices()
        runs: list[list[int]] = []
        for index in indices:
            if runs and index == runs[-1][1] + 1:
                runs[-1][1] = index
            else:
                runs.append([index, index])
        texts = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs]
        return ", ".join(texts if len(texts) <= _RUNS else [*texts[:2], "...", texts[-1]])


_RUNS = 3


def _value(n: Size) -> int:
    """A number, or that which a letter stands for."""
    found: Any = getattr(n, "value", n)
    return int(found)


class Segment:
    """A part of the model that is recorded once: its tape, the sizes of its labels, and the layers that it stands for.

    Attributes:
        name: `embedding`, `layers` or `head`.
        layers: None outside the layers, where `repeat` is 1.
        stated: the sizes that the spec and the run state, by label.
        derive: the sizes that follow from these.
        places: where the spec describes it.
    """

    def __init__(
        self,
        name: str,
        tape: Tape,
        stated: Env,
        layers: Layers | None = None,
        derive: Callable[[Env], Env] | None = None,
        places: tuple[Where, ...] = (),
        cuts: Callable[[], Cuts | None] | None = None,
    ) -> None:
        self.name, self.tape, self.stated, self.layers, self.places = name, tape, stated, layers, places
        self._derive, self._cuts = derive, cuts
        self.env = self.whole_env()

    @cached_property
    def cuts(self) -> Cuts:
        """Labels that a parallel plan cuts."""
        return (self._cuts and self._cuts()) or {}

    @property
    def repeat(self) -> Size:
        """How many layers it stands for."""
        return 1 if self.layers is None else self.layers.count

    @property
    def result(self) -> str:
        """The name of what goes on to the next segment."""
        key = "result", self.tape.result
        return self.tape.once(key, lambda: as_made(self.tape.ops, self.tape.result) or self.ops[-1].output.name)

    @property
    def stays(self) -> tuple[str, ...]:
        """The names of all that goes on to segments behind."""
        return (self.result, *(x.name for x in self.tape.handed_on))

    @property
    def there(self) -> Mask:
        """Whether it stands for any layer at all: of arrays a pattern may be longer than the group in some rows."""
        return self.repeat > 0 if self.layers is not None and hasattr(self.layers.group, "dtype") else True

    @property
    def ops(self) -> list[Op]:
        """Its ops as one device does them."""
        return self.tape.resolved

    @property
    def weights(self) -> list[tuple[Op, Weight]]:
        """The weights that it reads, each with the op that does."""
        return self.tape.weights

    def replace(self, **changes: Any) -> Self:
        """Another with some of its attributes changed. What is derived is worked out again where it may be another."""
        found = copy(self)
        if "derive" in changes:
            changes["_derive"] = changes.pop("derive")
        vars(found).update(changes)
        if "stated" in changes or "_derive" in changes:
            found.env = found.whole_env()
        return found

    def whole_env(self) -> Env:
        """The sizes that are stated, and those that follow from them."""
        return {**self.stated, **self._derive(self.stated)} if self._derive else self.stated


class Recorder(Protocol):
    """What records passes: a model, or one in letters."""

    def record(self, run: Run) -> Pass:
        """A pass of a run."""


class Gathering(NamedTuple):
    """How a rank of a parallel plan sends and gets weights and gradients that it shares with others, layer by layer.

    Attributes:
        weights: whether it shares weights too, and not gradients alone.
        several: whether there are others, of arrays in which rows.
        copies: whether weights are gathered into one buffer and copied out of it.
        stays: whether weights that the forward pass gathered stay for the backward pass.
        prefetch: in which passes the weights of the next layer are gathered while one runs.
    """

    weights: bool
    several: Mask
    copies: bool = True
    stays: bool = False
    prefetch: Literal["backward", "both", "none"] = "backward"


class Stage(NamedTuple):
    """What a rank of a parallel plan has of a pass, and of a step.

    Attributes:
        chunks: how many of its segments belong to each part of the model that it has, in order, and of how many
            micro-batches it holds what that part saved at the peak.
        held: parameters that it keeps of some tensors, by what is kept: "weights", "gradients" or "optimizer"; and
            numbers that it sends or gets of them where they are "gathered" or "reduced".
        flat: whether the optimizer's state is one buffer, and not one for each tensor.
        gathering: how it gets what it shares; None where it shares neither weights nor gradients.
        block: positions of a block of the key-value cache: whole blocks are kept.
        planned: whether a plan cuts the model, and not only the batch.
    """

    chunks: tuple[tuple[int, Size], ...]
    held: Callable[[str, Sequence[Any]], Size] | None = None
    flat: bool = False
    gathering: Gathering | None = None
    block: Size = 1
    planned: bool = False


class Pass:
    """The forward pass of one run, in segments: the embedding, layers of each kind, and the head.

    In training the head ends with the loss. `source` records other runs of the same model. `stage` says what part of
    the model it is, where that is not all.
    """

    def __init__(self, run: Run, segments: list[Segment], source: Recorder, stage: Stage | None = None) -> None:
        self.run, self.segments, self.source = run, segments, source
        self.stage = stage or Stage(((len(segments), 1),))

    @property
    def ends(self) -> bool:
        """Whether it goes through to the loss, or to the logits."""
        return self.segments[-1].name == "head"

    def rerun(self, run: Run) -> Pass:
        """A pass of another run of the same model."""
        return self if _key(run) == _key(self.run) else self.source.record(run)

    @cached_property
    def groups(self) -> list[list[Segment]]:
        """Segments whose layers alternate stand together, in the order of the forward pass."""
        return grouped(self.segments)


def grouped(segments: list[Segment]) -> list[list[Segment]]:
    """Segments with those together whose layers alternate."""
    found: list[list[Segment]] = []
    for segment in segments:
        alike = found and segment.layers and found[-1][0].layers and found[-1][0].layers.first is segment.layers.first
        found[-1:] = [[*found[-1], segment]] if alike else [*found[-1:], [segment]]
    return found


def _key(run: Run) -> tuple[Any, ...]:
    """What tells runs apart: arrays have no equality of their own, and letters that of their value."""
    return tuple(id(n) if hasattr(type(n), "letters") or hasattr(n, "dtype") else n for n in run)


class Once:
    """A recorder that records each run once, for quantities that read the same passes."""

    def __init__(self, source: Recorder) -> None:
        self._source = source
        self._passes: dict[tuple[Any, ...], Pass] = {}

    def record(self, run: Run) -> Pass:
        """A pass of a run, as it was recorded where it was; it stays, and the run's sizes with it."""
        key = _key(run)
        if key not in self._passes:
            taken = self._source.record(run)
            self._passes[key] = Pass(taken.run, taken.segments, self, taken.stage)
        return self._passes[key]


def recorded(subject: Any, run: Run | None = None) -> Pass:
    """A pass as it is, or the pass of a model."""
    if isinstance(subject, Pass):
        return subject if run is None else subject.rerun(run)
    found: Pass = subject.record(run or ONE)
    return found


def sequence(group: list[Segment]) -> Iterator[Segment]:
    """The segments of a group in the order in which one period of its layers has them."""
    period = group[0].layers.period if group[0].layers else 1
    at = {offset: segment for segment in group for offset in (segment.layers.offsets if segment.layers else (0,))}
    return (at[offset] for offset in range(period) if offset in at)
