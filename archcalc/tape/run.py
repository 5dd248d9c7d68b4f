"""A run: what a pass computes, apart from the architecture (phase, batch, lengths, attention, conventions)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from archcalc.arguments import boolean, checked, choice, first, same_shape, size
from archcalc.errors import Invalid, Problem, shown
from archcalc.tape.legend import Env, Size, anywhere

Phase = Literal["training", "prefill", "decode"]
AttentionKernel = Literal["math", "flash"]
ActivationKernel = Literal["fused", "eager"]
Causal = Literal["full", "half", "exact"]
Logits = Literal["all", "last"]

FLOPS_KERNEL: AttentionKernel = "math"
MEMORY_KERNEL: AttentionKernel = "flash"
"""The attention that is counted where none is asked for, by every command and function: FLOPs are what a model
multiplies once, which is math attention; memory is what PyTorch's attention keeps by default, which is flash."""


class _Fields(NamedTuple):
    phase: Phase = "training"
    batch: Size = 1
    sequence: Size = 1
    context: Size | None = None
    attention: AttentionKernel | None = None
    causal: Causal = "full"
    logits: Logits = "all"
    dropout: bool = False
    activation: ActivationKernel = "fused"


def _checked(run: _Fields) -> _Fields:
    """The fields with numpy's numbers as Python's; Invalid where one cannot be, or contradicts another."""
    found = _Fields(
        choice("Run", "phase", run.phase, get_args(Phase)),
        size("Run", "batch", run.batch),
        size("Run", "sequence", run.sequence),
        None if run.context is None else size("Run", "context", run.context),
        None if run.attention is None else choice("Run", "attention", run.attention, get_args(AttentionKernel)),
        choice("Run", "causal", run.causal, get_args(Causal)),
        choice("Run", "logits", run.logits, get_args(Logits)),
        boolean("Run", "dropout", run.dropout),
        choice("Run", "activation", run.activation, get_args(ActivationKernel)),
    )
    same_shape("Run", [(name, getattr(found, name)) for name in ("batch", "sequence", "context")])
    for field, message, fix in _contradictions(found):
        value = getattr(found, field)
        if field == "sequence" and getattr(value, "ndim", False):
            value = int(first(value, value != 1))
        raise Invalid(Problem("Run", message, field, value=shown(value), suggestion=fix))
    return found


@checked(_Fields, _checked)
class Run(_Fields):
    """One pass of a batch through a model. Raises Invalid for a value that is not listed below.

    Attributes:
        phase: `training` includes the loss; `prefill` reads a prompt; `decode` adds one token to a cache of
            `context` - 1 positions.
        batch: sequences in the batch, B.
        sequence: positions in each sequence, N = S; 1 in decode.
        context: positions whose keys and values decode reads, T; default: `sequence`.
        attention: `math` stores the scores of all pairs of positions, `flash` computes them inside one kernel;
            default: math for FLOPs, flash for memory.
        causal: which pairs of positions count as FLOPs, see `pairs`; in decode all of them.
        logits: of `all` positions, or of the `last` of each sequence.
        activation: `fused` computes the activation function in one kernel; `eager` computes it op by op and stores
            each result, as transformers' GPT-2 does (NewGELUActivation).
        dropout: whether dropout is applied (to the attention probabilities and at the end of each branch).
    """

    __slots__ = ()

    @property
    def words(self) -> tuple[object, ...]:
        """All of it that is no size."""
        return (self.phase, self.attention, self.causal, self.logits, self.dropout, self.activation)

    def of_one(self) -> Run:
        """The same run of one sequence of one position."""
        return self._replace(batch=1, sequence=1, context=None if self.context is None else 1)

    @property
    def kernel(self) -> AttentionKernel:
        """The attention of the recording."""
        return self.attention or FLOPS_KERNEL

    def by_default(self, kernel: AttentionKernel) -> Run:
        """This run with an attention where it names none."""
        return self if self.attention else self._replace(attention=kernel)

    @property
    def positions(self) -> Size:
        """New positions of each sequence."""
        return 1 if self.phase == "decode" else self.sequence

    @property
    def read(self) -> Size:
        """Positions whose keys and values are read."""
        return self.sequence if self.context is None else self.context

    def sizes(self) -> Env:
        """The sizes of the labels that a run decides."""
        new = self.positions
        return {"B": self.batch, "N": new, "S": new, "T": self.read, "Q": pairs(new, self.read, self.causal)}

    def head_sizes(self) -> Env:
        """Those of them that differ at the head of the model."""
        return {"N": 1, "S": 1} if self.logits == "last" else {}


def _contradictions(run: _Fields) -> Iterable[tuple[str, str, str | None]]:
    """Fields that the phase has no use for: which, why, and what to say instead."""
    if run.phase == "decode":
        if not hasattr(type(run.sequence), "letters") and anywhere(run.sequence != 1):
            yield "sequence", "must be 1 for decode, which adds one position to each sequence", "set context instead"
        if run.causal != "full":
            yield "causal", ALL_PAIRS, None
    elif run.context is not None:
        yield "context", f"applies only to decode; {run.phase} reads the sequence alone", "set sequence instead"
    if run.phase == "training" and run.logits == "last":
        yield "logits", ALL_LOGITS, None
    if run.phase != "training" and run.dropout:
        yield "dropout", "applies only to training", None


ALL_PAIRS = "must be full for decode: its new position attends to all earlier ones"
ALL_LOGITS = "must be all for training, whose loss reads the logits of all positions"


def pairs(new: Size, read: Size, causal: Causal) -> Size:
    """Query-key pairs that are scored, of the last `new` among `read` positions.

    full: every one, as PyTorch's counter has it. exact: a query sees itself and what came before. half: full less half
    the square of the new ones, the literature's S*T/2.
    """
    full = new * read
    if causal == "full":
        return full
    return halved(2 * full - new * (new - (causal == "exact")))


def halved(twice: Size) -> Size:
    """A half, exactly: an int where that is whole."""
    if not isinstance(twice, int):
        return twice / 2
    if twice % 2 == 0:
        return twice // 2
    from fractions import Fraction

    return Fraction(twice, 2)


ONE = Run()
"""The run of whoever names none: a training step on one position."""
