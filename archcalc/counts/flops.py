"""FLOPs, read off the tape: forward and backward, by category of weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from archcalc.arguments import instance, records
from archcalc.counts.parameters import Parameters, Stored
from archcalc.spec.model import Model
from archcalc.spec.shared import ROOT
from archcalc.tape.legend import CATEGORIES, Size, add, quotient, stem, volume
from archcalc.tape.ops import Op
from archcalc.tape.passes import Pass, Segment, recorded
from archcalc.tape.run import FLOPS_KERNEL, Run

SCAN = "scan"  # the span in which a recurrent mixer reads and writes its state
GRADIENTS = 2  # of a product of two: each gradient is one contraction over the same space

CONVENTIONS = {
    "FLOP": "a multiplication and an addition count as two",
    "forward": "contractions, as PyTorch's FLOP counter counts them; lookups do not count",
    "backward": "two contractions of the same size per forward one, plus what flash attention and scans recompute",
    "training": "forward and backward, with what flash attention and scans recompute; no activation recomputation",
    "vector": "all but contractions, modelled: one operation per number, exp too; all query-key pairs, causal or not",
}


class Terms(NamedTuple):
    """A sum of products of sizes in one segment: labels and their integer coefficient."""

    segment: Segment
    products: Counter[tuple[str, ...]]

    @property
    def value(self) -> Size:
        """The sum, over all layers of the segment."""
        return whole(self.each * self.segment.repeat)

    @property
    def each(self) -> Size:
        """The sum in one layer."""
        return add(volume(labels, self.segment.env) * coefficient for labels, coefficient in self.products.items())


def whole(n: Size) -> Size:
    """An int where pairs counted by halves came out whole again."""
    return n.numerator if getattr(n, "denominator", 0) == 1 else n


class Part(NamedTuple):
    """The contractions of one category of weights, or of the scores or the mixing of attention.

    `learned` says whether a weight is a factor; `repeated` is the share of `backward` that computes the forward pass
    anew.
    """

    category: str
    learned: bool
    forward: Size
    backward: Size
    repeated: Size


class Flops(NamedTuple):
    """FLOPs of one run; see CONVENTIONS for what counts.

    Without training, `backward` is 0 and `training` is None. `per_token` is forward plus backward, divided by the
    tokens of the batch and rounded down.
    """

    forward: Size
    backward: Size
    training: Size | None
    pointwise: Size
    categories: tuple[Part, ...]
    per_token: Size


def flops(model: Model | Pass, run: Run) -> Flops:
    """Count the FLOPs of a pass of a batch, and of its backward pass in training.

    Formula: 2 x the product of the sizes of all labels of each contraction (2mnk for a matrix product), as PyTorch's
    FlopCounterMode counts. Sizes are ints or arrays of one shape. Raises Invalid for a run that the model cannot take.
    """
    records("flops", model)
    instance("flops", "run", run, Run)
    run = run.by_default(FLOPS_KERNEL)
    segments = recorded(model, run).segments
    learns = run.phase == "training"
    parts = tuple(_parts(segments, learns=learns))
    forward = add(part.forward for part in parts)
    backward = add(part.backward for part in parts)
    vector = add(_terms(segment, _vector_ops(segment)).value for segment in segments)
    per_token = quotient(forward + backward, run.batch * run.positions)
    return Flops(forward, backward, forward + backward if learns else None, vector, parts, per_token)


class Step(NamedTuple):
    """A signed step from 6 N D to what is counted."""

    name: str
    short: str
    flops: Size


class TrainingRun(NamedTuple):
    """FLOPs of training on a number of tokens, and the bridge from 6 x parameters x tokens: it sums to `flops`."""

    tokens: Size
    flops: Size
    six_nd: Size
    bridge: tuple[Step, ...]


PF_DAY = 86_400 * 10**15  # a PFLOP/s for a day: Brown et al. 2020, Table D.1


def training_run(model: Model | Pass, counts: Parameters, run: Run, tokens: Size) -> TrainingRun:
    """Scale the FLOPs of a batch to `tokens`, whole batches or not.

    6 N D (Kaplan et al. 2020, arXiv:2001.08361, section 2.1) takes every parameter for a multiplication with each
    token, forward once and backward twice, and leaves attention's own products out.
    """
    batch = run.batch * run.positions
    work = flops(model, run)
    ops = [op for segment in recorded(model, run).segments for op in segment.ops if op.kind == "contraction"]
    multiplied = {weight.path for op in ops for weight in op.weights}
    idle: dict[str, Size] = {}
    for tensor in counts.tensors:
        if tensor.name not in multiplied:
            idle[tensor.part] = idle.get(tensor.part, 0) + tensor.parameters
    experts = [tensor for tensor in counts.tensors if tensor.active is not None and tensor.name in multiplied]
    repeated = add(part.repeated for part in work.categories)
    unlearned = [part for part in work.categories if not part.learned]
    bridge = [Step(f"{part} (not multiplied)", part, -6 * n * tokens) for part, n in idle.items()]
    if experts:
        unchosen = add(tensor.parameters - tensor.active for tensor in experts)
        bridge.append(Step("experts that are not chosen", "experts not chosen", -6 * unchosen * tokens))
    slots = _slots(model, run, experts)
    if slots is not None:
        beyond = slots * tokens // batch - 6 * add(tensor.active for tensor in experts) * tokens
        fewer = isinstance(beyond, int) and beyond < 0
        words = ("vectors that find no slot", "dropped") if fewer else ("slots that stay empty", "empty slots")
        bridge.append(Step(*words, beyond))
    again = _multiplied_again(recorded(model, run).segments)
    if again:
        bridge.append(Step("shared blocks that are used again", "used again", 6 * add(again) * tokens))
    untaught = [tensor.parameters for tensor in counts.tensors if not tensor.learns and tensor.name in multiplied]
    if untaught:
        bridge.append(
            Step("weights without a gradient (indexers)", "indexers (no gradient)", -4 * add(untaught) * tokens)
        )
    done = slots or 0  # rounded down together, as the total is
    for name, short, parts in (
        ("attention scores and mixing", "attention", [part for part in unlearned if part.category != SCAN]),
        ("scans of recurrent mixers", "scans", [part for part in unlearned if part.category == SCAN]),
    ):
        if parts:
            upto = done + add(part.forward + part.backward - part.repeated for part in parts)
            bridge.append(Step(name, short, upto * tokens // batch - done * tokens // batch))
            done = upto
    total = (work.forward + work.backward) * tokens // batch
    six_nd = 6 * counts.stored * tokens
    if repeated:
        rest = total - six_nd - add(step.flops for step in bridge)
        bridge.append(Step("recomputed inside kernels (flash attention, scans)", "recomputed in kernels", rest))
    return TrainingRun(tokens, total, six_nd, tuple(bridge))


def _slots(model: Model | Pass, run: Run, experts: list[Stored]) -> Size | None:
    """FLOPs of training of what experts compute of a batch, where that is slots of buffers; None where it is as much
    as tokens choose.
    """
    segments = recorded(model, run).segments
    if not any(stem(label) == "C" for segment in segments for label in segment.env):
        return None
    names = {tensor.name for tensor in experts}
    ops = [(s, [op for op in _products(s.ops) if any(w.path in names for w in op.weights)]) for s in segments]
    return (1 + GRADIENTS) * add(of_ops(segment, own) for segment, own in ops)


def _multiplied_again(segments: list[Segment]) -> list[Size]:
    """Parameters of the matrices of shared blocks, each as often as it is multiplied by beyond the first time."""
    found: dict[str, tuple[Size, Size]] = {}
    for segment in segments:
        for weight in [weight for op in _products(segment.ops) for weight in op.weights]:
            if weight.path.startswith(ROOT):
                _, times = found.get(weight.path, (0, 0))
                found[weight.path] = volume(weight.labels, segment.env), times + segment.repeat
    return [n * (times - 1 * (times > 0)) for n, times in found.values()]


def _parts(segments: list[Segment], *, learns: bool) -> Iterator[Part]:
    """In the order of the tally, attention's own contractions between value and output, where they happen."""
    found: dict[str, list[tuple[Segment, list[Op]]]] = {}
    for segment in segments:
        mine: dict[str, list[Op]] = {}
        for op in segment.ops:
            if op.kind == "contraction" or op.adjoint:
                mine.setdefault(op.weights[0].part if op.weights else op.spans[-1], []).append(op)
        for name, ops in mine.items():
            found.setdefault(name, []).append((segment, ops))
    for name in _in_order(found):
        pieces = found.get(name, [])
        learned = name in CATEGORIES or any(op.weights for _, ops in pieces for op in ops)
        forward = add(_terms(segment, _products(ops)).value for segment, ops in pieces)
        repeated = add(_terms(s, [op for op in ops for _ in range(op.repeats)]).value for s, ops in pieces)
        if learns:
            taught = add(_terms(segment, [op for op in _products(ops) if op.learns]).value for segment, ops in pieces)
            adjoint = add(_terms(s, [op._replace(per_point=op.adjoint) for op in ops]).value for s, ops in pieces)
            yield Part(name, learned, forward, GRADIENTS * taught + adjoint + repeated, repeated)
        else:
            yield Part(name, learned, forward, 0, 0)


def _in_order(found: dict[str, list[tuple[Segment, list[Op]]]]) -> Iterator[str]:
    inner = [name for name in found if name not in CATEGORIES]
    for name in CATEGORIES:
        if name == "output":
            yield from inner
        yield name


def of_ops(segment: Segment, ops: list[Op]) -> Size:
    """FLOPs of some ops of a segment, in all of its layers."""
    return _terms(segment, ops).value


def _products(ops: list[Op]) -> list[Op]:
    return [op for op in ops if op.kind == "contraction"]


def _vector_ops(segment: Segment) -> list[Op]:
    return [op for op in segment.ops if op.kind in ("pointwise", "reduction")]


def _terms(segment: Segment, ops: list[Op]) -> Terms:
    products: Counter[tuple[str, ...]] = Counter()
    for op in ops:
        products[tuple(sorted(op.space))] += op.per_point
    return Terms(segment, products)
