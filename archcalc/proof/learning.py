"""What a step of training should do and hold by the count, and what the device that it runs on promises."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.counts.flops import flops
from archcalc.counts.memory import Memory, memory
from archcalc.counts.parameters import params
from archcalc.errors import Invalid
from archcalc.hardware.devices import find_device
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run


class Expected(NamedTuple):
    """One step by the count.

    `flops` are those that are run; `model_flops` leave out what flash attention computes anew, and are what MFU is of
    (Chowdhery et al. 2022, arXiv:2204.02311, appendix B); both pair all positions. `tokens` are those of one step.
    """

    parameters: int
    tokens: int
    flops: int
    model_flops: int
    memory: Memory


def expected(model: Model, settings: Any, device: str) -> Expected:
    """What the calculator says of a step with these settings of the reference's trainer."""
    run = Run(batch=settings.part, sequence=settings.sequence, attention=settings.attention)
    keeping = Keeping(
        settings.precision,
        "adamw-fused" if device == "cuda" else "adamw",  # as the trainer has it
        accumulate=settings.accumulate > 1,
        statistic=2 if (device, settings.precision) == ("cpu", "bf16") else 4,
    )
    work = flops(model, run)
    repeated = sum(part.repeated for part in work.categories)
    return Expected(
        params(model).stored,
        settings.batch * settings.sequence,
        settings.accumulate * (work.forward + work.backward),
        settings.accumulate * (work.forward + work.backward - repeated),
        memory(model, run, keeping),
    )


def promised(name: str, precision: str) -> int | None:
    """The FLOP/s that a device promises by the name that its driver tells; None where no spec is known by it."""
    slug = name.lower().removeprefix("nvidia ").removeprefix("tesla ").strip().replace(" ", "-")
    try:
        return find_device(slug).peak("bf16" if precision == "bf16" else "fp32")
    except Invalid:
        return None
