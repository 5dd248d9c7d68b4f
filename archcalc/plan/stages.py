"""Stages of a pipeline: which layers each has, and of how many micro-batches it holds what was saved.

1F1B: Narayanan et al. 2021, arXiv:2104.04473, section 2.2: a stage holds as many micro-batches as there are stages
from it to the last. Interleaved: Megatron-LM warms up with 2 (pp - 1 - i) + (chunks - 1) pp chunks of micro-batches,
as PyTorch's ScheduleInterleaved1F1B does, and holds one more. GPipe: Huang et al. 2019, arXiv:1811.06965: all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

from archcalc.plan.description import Plan
from archcalc.tape.legend import Size
from archcalc.tape.passes import Pass, Segment, grouped
from archcalc.tape.recording import Tape
from archcalc.tape.scopes import LAYER


def layers_of(plan: Plan, n_layers: int) -> list[range]:
    """The layers of each stage, and of an interleaved schedule of each chunk, by their index in the model.

    What does not divide evenly must be given: see rules.
    """
    each = plan.stage_layers or (n_layers // plan.virtual_stages,) * plan.virtual_stages
    ends = [sum(each[: i + 1]) for i in range(len(each))]
    return [range(end - n, end) for end, n in zip(ends, each, strict=True)]


def in_flight(plan: Plan, stage: int) -> list[int]:
    """Micro-batches whose activations a stage holds at its peak, of each of its chunks."""
    if plan.schedule == "gpipe":
        return [plan.accumulation]
    if plan.schedule == "1f1b":
        return [min(plan.pp - stage, plan.accumulation)]
    held = [0] * plan.chunks
    warm = 2 * (plan.pp - 1 - stage) + (plan.chunks - 1) * plan.pp
    for i in range(min(warm + 1, plan.accumulation * plan.chunks)):
        held[i // plan.pp % plan.chunks] += 1
    return held


def of_stage(groups: list[list[Segment]], plan: Plan, stage: int) -> list[list[Segment]]:
    """The segments of a stage, by chunk."""
    n_layers = sum(int(segment.repeat) for group in groups for segment in group if segment.layers is not None)
    every = layers_of(plan, n_layers)
    found = []
    for chunk in range(plan.chunks):
        virtual = chunk * plan.pp + stage
        mine = [segment for group in groups for segment in _inside(group, every[virtual])]
        first = groups[0] if virtual == 0 else []
        last = groups[-1] if virtual == len(every) - 1 else []
        found.append([*first, *mine, *last])
    return found


def _inside(group: list[Segment], layers: range) -> Iterator[Segment]:
    """What a stage has of a group of layers that alternate. Its pattern begins where the stage does."""
    whole = group[0].layers
    if whole is None:
        return
    start, stop = max(layers.start, int(whole.first)), min(layers.stop, int(whole.first + whole.group))
    if start >= stop:
        return
    shift, count = start - int(whole.first), stop - start
    for segment in group:
        assert segment.layers is not None  # noqa: S101  (all of a group of layers have them)
        period = whole.period
        offsets = tuple(sorted((offset - shift) % period for offset in segment.layers.offsets))
        offsets = tuple(offset for offset in offsets if offset < count)
        if offsets:
            yield segment.replace(layers=segment.layers._replace(first=start, group=count, offsets=offsets))


def parts_of(taken: Pass, plan: Plan, stage: int) -> list[list[Segment]]:
    """The segments of a stage, by chunk, with those of layers apart of which nothing is computed again."""
    parts = [taken.segments] if plan.pp == 1 else of_stage(taken.groups, plan, stage)
    if plan.recompute_layers is None:
        return parts
    return [_first_again(part, plan.recompute_layers) for part in parts]


def _first_again(segments: list[Segment], count: int) -> list[Segment]:
    """The segments of a chunk with those of its layers after the first `count` apart: of these nothing is computed
    again, whatever is recomputed.
    """
    found: list[Segment] = []
    left = count
    for group in grouped(segments):
        whole = group[0].layers
        if whole is None:
            found += group
            continue
        start, stop = int(whole.first), int(whole.first + whole.group)
        middle = min(start + left, stop)
        left -= middle - start
        found += _inside(group, range(start, middle))
        found += [one.replace(tape=_kept(one.tape)) for one in _inside(group, range(middle, stop))]
    return found


_KEPT: WeakKeyDictionary[Tape, Tape] = WeakKeyDictionary()


def _kept(tape: Tape) -> Tape:
    """The same ops in a span of another name, which nothing recomputes."""
    if tape not in _KEPT:
        other = Tape(tape.run)
        other.result, other.handed_on = tape.result, tape.handed_on
        other.ops = [
            op._replace(spans=tuple(_ONCE if span == LAYER else span for span in op.spans)) for op in tape.ops
        ]
        _KEPT[tape] = other
    return _KEPT[tape]


_ONCE = "layers.{i}, once"


def alike(plan: Plan, segments: list[Segment]) -> list[tuple[int, ...]]:
    """The stages by sort: the first, the last, and between them those of the same layers and as many micro-batches."""
    kinds: dict[int, int] = {}
    for kind, segment in enumerate(segments):
        kinds |= dict.fromkeys(segment.layers.indices() if segment.layers else (), kind)
    every = layers_of(plan, len(kinds))
    found: dict[object, list[int]] = {}
    for stage in range(plan.pp):
        layers = [tuple(kinds[i] for i in every[chunk * plan.pp + stage]) for chunk in range(plan.chunks)]
        sort = stage if stage in (0, plan.pp - 1) else (tuple(layers), tuple(in_flight(plan, stage)))
        found.setdefault(sort, []).append(stage)
    return [tuple(stages) for stages in found.values()]


def chunks_of(parts: list[list[Segment]], held: Sequence[Size]) -> tuple[tuple[int, Size], ...]:
    """The number of segments of each chunk, with the micro-batches that are held of it."""
    return tuple((len(part), n) for part, n in zip(parts, held, strict=True))
