"""What is counted together: a model, the runs it is counted in, and what several quantities read, read once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from archcalc.counts import mtp
from archcalc.counts.flops import Flops, flops
from archcalc.counts.parameters import Parameters, Totals, params, totals
from archcalc.counts.touched import Touched, touched
from archcalc.spec.model import Model
from archcalc.tape.legend import Size
from archcalc.tape.passes import Once
from archcalc.tape.precision import DEFAULTS, Keeping, Purpose
from archcalc.tape.run import (
    FLOPS_KERNEL,
    MEMORY_KERNEL,
    ActivationKernel,
    AttentionKernel,
    Causal,
    Logits,
    Phase,
    Run,
)

if TYPE_CHECKING:
    from archcalc.counts.memory import Chosen  # which parameters and FLOPs have no use for, so that they start sooner
    from archcalc.plan.description import Plan


class Asked:
    """What is counted: a model by ints, many by arrays, or one in letters. What several quantities read is read once.

    `work` is the pass whose FLOPs are counted, `held` the one whose memory is; `chosen` are the moments of the peak,
    which a model in letters needs.
    """

    def __init__(self, model: Model, work: Run, held: Run, keeping: Keeping, chosen: Chosen | None = None) -> None:
        self.model = model
        self.work = work.by_default(FLOPS_KERNEL)
        self.held = held.by_default(MEMORY_KERNEL)
        self.keeping = keeping
        self.chosen = chosen
        self._once = Once(model)

    @property
    def plan(self) -> Plan | None:
        """The plan that divides the model, where it is counted as one rank has it."""
        return getattr(self.model, "plan", None)

    @property
    def purpose(self) -> Purpose:
        """What memory is held for."""
        return "training" if self.held.phase == "training" else "inference"

    @cached_property
    def counts(self) -> Parameters:
        return params(self._once.record(self.work))

    @property
    def totals(self) -> Totals:
        """The counts in all, of those that tell weights apart where these are known already."""
        return self.counts.totals if "counts" in vars(self) else self._totals

    @cached_property
    def _totals(self) -> Totals:
        return totals(self._once.record(self.work))

    @cached_property
    def flops(self) -> Flops:
        return flops(self._once.record(self.work), self.work)

    @cached_property
    def modules(self) -> mtp.Modules:
        """Those of multi-token prediction, in the pass whose FLOPs are counted."""
        return mtp.modules(self.model, self.work)

    @cached_property
    def touched(self) -> Touched:
        """Parameters that a decode step of the batch reads."""
        return touched(self._once.record(self.work), self.work.batch)

    @property
    def kernels(self) -> dict[str, str]:
        """Whose attention is counted: of FLOPs, and of memory."""
        return {"flops": self.work.kernel, "memory": self.held.kernel}

    @property
    def cache_width(self) -> int:
        """Bytes of a number in the cache: as activations where none is asked for."""
        return self.keeping.recipe.compute if self.purpose == "training" else self.keeping.kv_width

    def cache(self, batch: Size, sequence: Size, *, paged: bool = False) -> Size:
        from archcalc.counts.activations import cache

        run = Run("prefill", batch, sequence)
        return cache(self._once.record(self.held), run, self.cache_width, paged=paged)

    @property
    def recurrent(self) -> Size:
        from archcalc.counts.activations import recurrent_state
        from archcalc.tape.precision import compute_width
        from archcalc.tape.roles import widths

        trains, keeping = self.purpose == "training", self.keeping
        width = keeping.recipe.compute if trains else compute_width(keeping.precision)
        run = Run("prefill", self.held.batch)
        return recurrent_state(self._once.record(self.held), run, widths(width))

    @property
    def state(self) -> Size:
        from archcalc.counts.memory import state_bytes

        return state_bytes(self.counts, self.held, self.keeping, self._once.record(self.held).stage)

    @property
    def saved(self) -> Size:
        from archcalc.counts.activations import saved
        from archcalc.tape.roles import widths

        width = widths(self.keeping.recipe.compute, self.keeping.statistic)
        cast = self.keeping.recipe.autocast
        return saved(self._once.record(self.held), self.held, width, self.keeping.recompute, cast=cast).total

    @property
    def peak(self) -> Size:
        from archcalc.counts.memory import memory, peak_bytes

        if self.chosen is not None:
            return memory(self._once.record(self.held), self.held, self.keeping, self.chosen).total
        return peak_bytes(self._once.record(self.held), self.held, self.keeping)


def work_run(
    phase: Phase,
    batch: Size,
    most: Size,
    *,
    sequence: Size | None = None,
    context: Size | None = None,
    attention: AttentionKernel | None = None,
    causal: Causal = "full",
    logits: Logits | None = None,
) -> Run:
    """The run whose FLOPs are counted, of the `most` positions where no length is given.

    Raises Invalid for a context outside decode, and what else a Run cannot be.
    """
    decodes = phase == "decode"
    return Run(
        phase,
        batch,
        1 if decodes else most if sequence is None else sequence,
        most if decodes and context is None else context,
        attention=attention or FLOPS_KERNEL,
        causal=causal,
        logits=logits or "all",
    )


def held_run(
    purpose: Purpose,
    batch: Size,
    sequence: Size,
    *,
    attention: AttentionKernel | None = None,
    dropout: bool = False,
    activation: ActivationKernel = "fused",
) -> Run:
    """The run whose memory is counted: a step of training, or a prefill that makes the last logits alone."""
    trains = purpose == "training"
    return Run(
        "training" if trains else "prefill",
        batch,
        sequence,
        attention=attention or MEMORY_KERNEL,
        dropout=dropout,
        activation=activation,
        logits="all" if trains else "last",
    )


def one_pass(
    model: Model,
    batch: Size = 1,
    sequence: Size | None = None,
    attention: AttentionKernel | None = None,
    purpose: Purpose = "training",
    keeping: Keeping | None = None,
) -> Asked:
    """A pass of training for FLOPs, and the same batch held for a purpose; of the whole context if not given."""
    run = Run(batch=batch, sequence=model.context_length if sequence is None else sequence, attention=attention)
    held = run if purpose == "training" else run._replace(phase="prefill", logits="last")
    return Asked(model, run, held, keeping or Keeping(DEFAULTS[purpose]))
