"""A pass as one rank of a plan makes it: sizes are cut, and views on which ranks exchange something are ops.

A pass of a rank is read by every function that counts: its batch is that of one micro-batch of the rank, its positions
are those of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from archcalc.plan.description import Plan
from archcalc.plan.exchange import Exchange, divide
from archcalc.plan.holding import gathering, parameters_held
from archcalc.plan.mesh import PADDED, VECTORS, Mesh, mesh
from archcalc.plan.stages import chunks_of, in_flight, parts_of
from archcalc.tape.legend import Size, stem
from archcalc.tape.ops import Op, Tensor
from archcalc.tape.passes import Pass, Recorder, Segment, Stage
from archcalc.tape.recording import Tape
from archcalc.tape.roles import Role
from archcalc.tape.run import Run
from archcalc.tape.views import as_made, resolve


class Exchanges(NamedTuple):
    """The collectives of a segment, over axes of its mesh."""

    mesh: Mesh
    each: list[Exchange]


class Rank:
    """A recorder of the passes of one rank: of a model, under a plan, in one stage of its pipeline."""

    def __init__(self, source: Recorder, plan: Plan, stage: int = 0) -> None:
        self.source, self.plan, self.stage = source, plan, stage

    def record(self, run: Run) -> Pass:
        """A pass of a micro-batch of the rank."""
        return local(self.source.record(run), self.plan, self.stage)


class RankModel:
    """A model as one rank has it, for functions that read its passes and the fields of its spec."""

    def __init__(self, model: Any, plan: Plan, stage: int) -> None:
        self._model, self._rank = model, Rank(model, plan, stage)
        self.plan, self.stage = plan, stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def record(self, run: Run | None = None) -> Pass:
        """A pass of a micro-batch of the rank."""
        return self._rank.record(run or Run())


def local(taken: Pass, plan: Plan, stage: int = 0) -> Pass:
    """The pass of one rank of a plan, in one stage of its pipeline."""
    return exchanging(taken, plan, stage)[0]


def exchanging(taken: Pass, plan: Plan, stage: int = 0) -> tuple[Pass, list[Exchanges]]:
    """The pass of one rank, and what it exchanges in each of its segments."""
    held = in_flight(plan, stage) if plan.pp > 1 else (1,)
    return with_parts(taken, plan, parts_of(taken, plan, stage), held, stage)


def with_parts(
    taken: Pass, plan: Plan, parts: list[list[Segment]], held: Sequence[Size] = (1,), stage: int = 0
) -> tuple[Pass, list[Exchanges]]:
    """The pass of a rank that has some parts of the model, and what it exchanges in each segment.

    `held` are the micro-batches of which it holds what each part saved.
    """
    both = [localized(segment, plan) for part in parts for segment in part]
    here = share(plan, chunks_of(parts, held))
    source = Rank(taken.source, plan, stage)
    return Pass(taken.run, [segment for segment, _ in both], source, here), [told for _, told in both]


def share(plan: Plan, chunks: tuple[tuple[int, Size], ...]) -> Stage:
    """What a rank has of a pass and of a step, where `chunks` are its parts of the model."""
    return Stage(
        chunks,
        partial(parameters_held, plan),
        flat=plan.zero > 0 and plan.sharding == "flat",
        gathering=gathering(plan),
        block=plan.cache_block or 1,
        planned=plan.cuts_the_model,
    )


def localize(segment: Segment, plan: Plan) -> Segment:
    """A segment as one rank computes it. What is derived is cut too, as what it follows from."""
    return localized(segment, plan)[0]


def localized(segment: Segment, plan: Plan) -> tuple[Segment, Exchanges]:
    """A segment as one rank computes it, and what it exchanges there."""
    found = mesh(segment, plan)
    stated = {label: _cut(label, n, found, plan) for label, n in segment.stated.items()}
    derived = {label: _cut(label, n, found, plan) for label, n in segment.env.items()}
    tape, exchanges = _divided(segment, found, plan)
    return segment.replace(stated=stated, tape=tape, derive=lambda _: derived), Exchanges(found, exchanges)


_KNOWN: WeakKeyDictionary[Tape, dict[object, tuple[Tape, list[Exchange]]]] = WeakKeyDictionary()


def _divided(segment: Segment, found: Mesh, plan: Plan) -> tuple[Tape, list[Exchange]]:
    """A segment's tape as one rank has it, and what is exchanged: made once for all plans that cut the same labels."""
    structure = found.structure
    key = tuple(structure.axes.items()), tuple(structure.ranks), plan.gathered_inputs
    known = _KNOWN.setdefault(segment.tape, {})
    if key not in known:
        tape = Tape(segment.tape.run)
        divided = divide(segment, found)
        tape.result, tape.handed_on = as_made(divided.ops, segment.tape.result), segment.tape.handed_on
        tape.ops = _settled(divided.ops, plan)
        known[key] = tape, divided.exchanges
    return known[key]


def _cut(label: str, size: Size, found: Mesh, plan: Plan) -> Size:
    """The size of a label on one rank; rows of experts are rounded up."""
    if label in PADDED and plan.vocab_divisible_by is not None:
        multiple = plan.vocab_divisible_by * found.parts(label)
        size = -(-size // multiple) * multiple
    parts = found.parts(label)
    if isinstance(parts, int) and parts == 1:
        return size
    if stem(label) in (*PADDED, *VECTORS):
        return -(-size // parts)
    return size // parts if isinstance(size, int) and isinstance(parts, int) and size % parts == 0 else size / parts


def _settled(ops: list[Op], plan: Plan) -> list[Op]:
    """The ops without views that move nothing; what is exchanged leaves its kernel."""
    ops = [_stored(op) if op.kind == "exchange" else op for op in resolve(ops)]
    leave: dict[str, Role] = {
        x.name: x.role for op in ops if op.kind == "exchange" for x in op.inputs if isinstance(x, Tensor)
    }
    ops = [_leaving(op, leave[op.output.name]) if op.output.name in leave else op for op in ops]
    if plan.gathered_inputs == "kept":
        return ops
    gathered = {op.output.name: op.inputs[0] for op in ops if gathers_positions(op)}
    return [op._replace(saves=tuple(gathered.get(x.name, x) for x in op.saves)) for op in ops]  # type: ignore[misc]


def _stored(op: Op) -> Op:
    """An exchange of what was made, not of what its kernel has inside."""
    x = op.inputs[0]
    inside = isinstance(x, Tensor) and x.role == "fused"
    return op._replace(inputs=(x._replace(role="activation"),)) if inside and isinstance(x, Tensor) else op


def _leaving(op: Op, role: Role) -> Op:
    return op._replace(output=op.output._replace(role=role))


def gathers_positions(op: Op) -> bool:
    """Whether it is an exchange that gathers the positions of the residual stream."""
    x = op.inputs[0]
    return op.kind == "exchange" and isinstance(x, Tensor) and "N" in x.labels and "S" in op.output.labels
