"""Bytes in use at each moment of a pass, read off the tape: forward and backward through one segment.

The rules are those by which PyTorch's autograd keeps and drops tensors:

- An op makes its output. What no backward pass needs is dropped when the calls that got it have returned, see
  `lifetimes`.
- Backward, an op makes a gradient for each input and each weight, beside its output's gradient and what it saved; then
  both of these are dropped. The gradient of a sum is its output's own.
- A second gradient of the same tensor is added out of place: for a moment there are three.
- A recomputed span runs forward again, as far as its last saved tensor, when the backward pass asks for one of them.

What a kernel needs inside is not on the tape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from archcalc.counts.activations import is_alias
from archcalc.counts.courses import Course, Forward
from archcalc.counts.holding import Holding
from archcalc.counts.moments import Gradients, Moment, Storage, parts_read
from archcalc.counts.sharing import Turn
from archcalc.counts.uses import Uses
from archcalc.tape.kernels import Node
from archcalc.tape.legend import Size, add, least, volume
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.passes import RESIDUAL, Segment
from archcalc.tape.roles import ROLES, TOKENS, Widths


class Walk(Holding):
    """The way through one segment: `forward()` and then `backward()`, each of which yields its moments.

    `span` is recomputed.
    """

    def __init__(
        self,
        segment: Segment,
        width: Widths,
        span: str | None = None,
        *,
        gradients: Gradients | None = None,
        uses: Uses | None = None,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(segment, width)
        self.weights = gradients or Gradients(0, 0)
        self.uses = uses or Uses([segment])
        self.course = segment.tape.once((Course, span, segment.stays), lambda: Course(segment, span))
        self.nodes, self.again, self.keeps = self.course.nodes, self.course.again, self.course.keeps
        self.copies, self.unlearned = self.course.copies, self.course.unlearned
        self.copied: Size = 0
        self.leaves: Size = 0
        self.gradients: Size = 0
        self._gradients: dict[tuple[str, ...], Size] = {}
        self.pending: dict[str, Storage] = {}
        self.past_parts = False
        self.entry = Moment("backward", "", 0, 0, 0, 0)
        self.turn = turn

    def forward(self) -> Iterator[Moment]:
        """From the segment's input to its output, which is left to the next segment."""
        yield from self._run(self.course.forward, self.keeps)
        self.copied = add(self._bytes(x) for node in self.nodes for x in node.outputs if x.name in self.copies)
        self.copied = self.copied - add(n for name, n in self.held.items() if name in self.copies)
        self.transient, self.leaves = 0, self.saved

    def _run(self, run: Forward, keeps: dict[str, Tensor], *, again: bool = False) -> Iterator[Moment]:
        loose: dict[str, Size] = {}
        until, stays = {**run.until}, run.stays
        for tensor in run.enters:
            self._make(tensor, keeps, loose, again=again)
        for i, node in enumerate(run.nodes):
            for tensor in node.outputs:
                source = node.inputs[0].name if is_alias(node.ops[0], self.width) else None
                if source in self.held and tensor.name in keeps:
                    self.held[tensor.name] = 0
                elif source in loose and tensor.name in keeps:
                    self.transient = self.transient - loose.pop(source)
                    self._make(tensor, keeps, loose, again=again)
                elif source in loose:
                    loose[tensor.name] = loose.pop(source)
                    until[tensor.name] = max(until.get(tensor.name, i), until[source])
                else:
                    self._make(tensor, keeps, loose, again=again)
            yield self._moment(node, "backward" if again else "forward")
            for name in [name for name in loose if until.get(name, i) <= i and name not in stays]:
                self.transient = self.transient - loose.pop(name)

    def backward(self) -> Iterator[Moment]:
        """From the gradient of the segment's output to that of its input."""
        made = {x.name: x for node in self.nodes for x in node.outputs}
        output = made[self.segment.result]
        self.transient = self._bytes(output) if output.labels else 0  # the loss's own is held by who asked for it
        self.pending = {output.name: Storage(self.transient)}
        if self.turn is not None and self.turn.waits:
            waiting = Storage(volume(RESIDUAL.labels, self.segment.env) * self.width[RESIDUAL.role])
            self.pending[RESIDUAL.name if self.turn.first else TOKENS] = waiting
            self.transient = self.transient + waiting.size
        self.entry = Moment("backward", output.name, self.saved, 0, 0, self.transient)
        yield from self._gather()
        readers = Counter(x.name for node in self.nodes for x in node.saves)
        recomputing = self.again
        asks = next((node for node in reversed(recomputing) if node.saves), None)
        for node in reversed(self.nodes):
            if node is asks:
                again = {x.name: x for n in recomputing for x in n.saves}
                before = self.transient
                yield from self._run(self.course.recomputed, again, again=True)
                self.transient = before
            yield from self._back(node, readers)
            self.past_parts = self.past_parts or bool(self.course.parts and parts_read([node]))

    def _gather(self) -> Iterator[Moment]:
        """What layers read in parts is gone when the last is done, and their gradients are put together to one."""
        for x in self.segment.tape.handed_on:
            size = self._bytes(x)
            self.saved = self.saved - self.held.pop(x.name)
            self.pending[x.name] = Storage(size)
            self.transient = self.transient + 2 * size
            yield Moment("backward", x.name, self.saved, self.recomputed, self.gradients, self.transient)
            self.transient = self.transient - size

    @property
    def handed_back(self) -> Size:
        """Bytes of the gradients of its parts, which wait for those of all other layers."""
        return add(map(self._bytes, self.course.parts))

    def _back(self, node: Node, readers: Counter[str]) -> Iterator[Moment]:
        """One kernel's backward pass."""
        outputs = [self.pending.pop(x.name) for x in node.outputs if x.name in self.pending]
        if not outputs:  # a statistic, which a later kernel's gradient takes care of
            self._release(node, readers, again=True)
            self._release(node, readers, again=False)
            return
        joins: list[tuple[Storage, Tensor]] = []
        for late in (False, True):  # a sum's gradient of what it added to all rows is summed up last
            joins += self._make_gradients(node, outputs[0], late=late)
            scratch = add(op.scratch * self._bytes(op.output) for op in node.ops if op.scratch and not late)
            cast = None if late else self._cast(node)
            wide, narrow = cast or (0, 0)
            spared = (
                self._summed_later(node, readers) if any(op.scratch for op in node.ops) and not (late or cast) else 0
            )
            self.transient = self.transient + scratch + wide - narrow - spared
            yield self._moment(node, "backward")
            self.transient = self.transient + spared
            if cast and any(op.scratch for op in node.ops):  # what is cast stands beside what is then summed up
                summed = add(self._bytes(x) for x in self._broadcast(node.ops[0]))
                self.transient = self.transient + narrow - summed
                yield self._moment(node, "backward")
                self.transient = self.transient - narrow + summed
            self._release(node, readers, again=not late)
            self.transient = self.transient - scratch + narrow
            if cast:
                yield self._moment(node, "backward")
            self.transient = self.transient - wide
        for storage in outputs:
            self._drop(storage)
        weights = [weight for op in node.ops for weight in op.weights]
        linear = any(op.kind == "contraction" for op in node.ops)
        # A matrix takes its gradient before that of the data goes on; a norm hands both on at once.
        for weight in weights if linear else ():
            yield from self._settle(weight, node)
        for second, x in joins:
            total = Storage(self._bytes(x))
            self.transient = self.transient + total.size
            yield self._moment(node, "backward")
            self._drop(self.pending[self._goes_to(x)])
            self._drop(second)
            self.pending[self._goes_to(x)] = total
        for weight in () if linear else weights:
            yield from self._settle(weight, node)

    def _make_gradients(self, node: Node, output: Storage, *, late: bool) -> list[tuple[Storage, Tensor]]:
        """Those of the weights and inputs that it is time for; pairs where an input has one from elsewhere already."""
        made: dict[str, Storage] = {}
        joins = []
        for op in reversed(node.ops):
            if op.passes == late:
                for weight in op.weights:
                    self._weight(weight)
            for x in op.inputs:
                if isinstance(x, Weight) or not self._learns(x) or x.name in made:
                    continue
                if storage := self._gradient(op, x, output, late=late):
                    made[x.name] = storage
                    name = self._goes_to(x)
                    if name in self.pending:
                        joins.append((storage, x))
                    else:
                        self.pending[name] = storage
        return joins

    def _goes_to(self, x: Tensor) -> str:
        """Whose gradient a gradient is: the tokens' own vectors are what enters the first layer."""
        return RESIDUAL.name if self.turn is not None and self.turn.first and x.role == "token" else x.name

    def _learns(self, x: Tensor) -> bool:
        """Whether a gradient goes back to it."""
        return ROLES[x.role].learns and x.name not in self.unlearned

    def _gradient(self, op: Op, x: Tensor, output: Storage, *, late: bool) -> Storage | None:
        """A gradient for an input, new or its output's own; None where it is the other time's turn."""
        if (
            op.passes
            and (x.labels == op.output.labels or op.kind == "reduction")
            and self.width[x.role] == self.width[op.output.role]
        ):
            if late:
                return None
            output.holders += 1
            return output
        if op.passes != late:
            return None
        self.transient = self.transient + self._bytes(x)
        return Storage(self._bytes(x))

    def _cast(self, node: Node) -> tuple[Size, Size] | None:
        """Bytes of gradients that are made as wide as the output's, and of what those of narrower data are cast to."""
        op = node.ops[0]
        data = [x for x in op.inputs if isinstance(x, Tensor) and self._learns(x)]
        if op.kind != "pointwise" or op.passes or len(data) < 2 or len(node.ops) > 1:
            return None
        wide = self.width[op.output.role]
        narrow = [x for x in data if self.width[x.role] < wide]
        if not narrow:
            return None
        return add(volume(x.labels, self.segment.env) * wide for x in narrow), add(map(self._bytes, narrow))

    def _summed_later(self, node: Node, readers: Counter[str]) -> Size:
        """Bytes that are not there yet while products are made whose sums are gradients of what was broadcast: what
        was computed again, and nothing else reads, is dropped before they are summed up.
        """
        summed = add(self._bytes(x) for op in node.ops if op.scratch for x in self._broadcast(op))
        again = (x.name for x in node.saves if x.name in self.made_again and readers[x.name] == 1)
        return least(summed, add(self.held.get(name, 0) for name in again))

    def _broadcast(self, op: Op) -> Iterator[Tensor]:
        """The data whose gradient is summed up over what it was broadcast to."""
        for x in op.inputs:
            if isinstance(x, Tensor) and self._learns(x) and x.labels != op.output.labels:
                yield x

    def _weight(self, weight: Weight) -> None:
        """A weight's gradient appears. The first stays until the step; a further one waits for `_settle`."""
        key, size = Uses.key(weight, self.segment), self._gradient_bytes(weight)
        self.uses.left[key] -= 1
        if self.weights.stays and key in self.uses.met:
            self.transient = self.transient + size
        else:
            self.gradients = self.gradients + size

    def _settle(self, weight: Weight, node: Node) -> Iterator[Moment]:
        """A further gradient of the same weight is added to the one before, and a sum takes the place of both."""
        size, key = self._gradient_bytes(weight), Uses.key(weight, self.segment)
        further = key in self.uses.met
        self.uses.met.add(key)
        if further:
            self.transient = self.transient + size
            yield self._moment(node, "backward")
            self.transient = self.transient - size
            if self.weights.stays:
                self.transient = self.transient - size
            else:
                self.gradients = self.gradients - size
        if not (self.weights.stays or self.uses.left[key]):
            self.gradients = self.gradients - size  # added to the one that is held

    def _gradient_bytes(self, weight: Weight) -> Size:
        if weight.labels not in self._gradients:  # asked for when it appears, and when it is settled
            width = self.weights.stays or self.weights.passing
            self._gradients[weight.labels] = volume(weight.labels, self.segment.env) * width
        return self._gradients[weight.labels]

    def _stays(self, tensor: Tensor) -> bool:
        first = self.turn is not None and self.turn.first and bool(self.again)
        return first and tensor.name == RESIDUAL.name

    def _moment(self, node: Node, phase: str) -> Moment:
        phase = "loss" if node.is_loss else phase
        now = self.saved, self.recomputed, self.gradients, self.transient
        return Moment(phase, node.name, *now, past_parts=self.past_parts)
