"""Precision: recipes of training and precisions of inference, in bytes a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from archcalc.arguments import boolean, checked, choice, size
from archcalc.errors import Invalid, Problem, shown
from archcalc.tape.optimizers import OPTIMIZERS, Method, Optimizer
from archcalc.tape.roles import Widths, widths

# fmt: off
Format = Literal[
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k",
    "mxfp4", "nvfp4", "fp8-block", "awq", "gptq", "nf4",
]
# fmt: on
# fmt: off
Precision = Literal[
    "mixed-16", "mixed-18", "mixed-20", "fp8-13", "amp", "fsdp-bf16",
    "fp32", "bf16", "fp16", "fp8", "int8", "int4", Format,
]
# fmt: on
Recompute = Literal["none", "selective", "full"]
CachePrecision = Literal["fp32", "bf16", "fp16", "fp8", "int8"]

BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4}

FORMATS: tuple[str, ...] = get_args(Format)
"""Formats with scales, in which some weights are packed and others stay wide: counts.formats has their rules."""


class Recipe(NamedTuple):
    """Bytes that training keeps of each parameter.

    `compute` is the width of activations and of a gradient as it is made. Where it `holds` gradients, they stay from
    step to step and new ones are added to them. `master` is 0 where the weights are their own. With `autocast` the
    weights are wider than what is computed, and are cast as torch.autocast does it. `gathered` is the width of the
    copies that are computed with, where weights are wider, and 0 where they are computed with as they are. `matrix` is
    the width of a weight of a layer's matrices, where that is another, and `sent` that of gradients as ranks reduce
    them. It was `measured` where PyTorch was run with it.
    """

    compute: int
    weight: int
    gradient: int
    master: int
    moment: int
    meaning: str
    holds: bool = False
    autocast: bool = False
    gathered: int = 0
    matrix: int = 0
    sent: int = 0
    measured: bool = True

    @property
    def reduced(self) -> int:
        """Bytes of a gradient as ranks reduce it."""
        return self.sent or self.gradient

    @property
    def arriving(self) -> int:
        """Bytes of a weight that is computed with, and of its gradient as it is made."""
        return self.gathered or self.weight


RECIPES: dict[str, Recipe] = {
    "mixed-16": Recipe(
        compute=2,
        weight=2,
        gradient=2,
        master=4,
        moment=4,
        meaning="bf16 weights and gradients, fp32 master weights and moments",
    ),
    "mixed-18": Recipe(
        compute=2,
        weight=2,
        gradient=4,
        master=4,
        moment=4,
        holds=True,
        meaning="bf16 weights, fp32 gradients kept between steps, fp32 master weights and moments",
    ),
    "mixed-20": Recipe(
        compute=2,
        weight=2,
        gradient=2 + 4,
        master=4,
        moment=4,
        holds=True,
        sent=2,
        measured=False,
        meaning="bf16 weights and gradients, fp32 copies of both and moments, all kept between steps",
    ),
    "fp8-13": Recipe(
        compute=2,
        weight=2,
        gradient=4,
        master=4,
        moment=2,
        holds=True,
        matrix=1,
        measured=False,
        meaning="fp8 matrices of layers (scales left out), all else bf16; fp32 gradients kept between steps, fp32 "
        "master weights, bf16 moments",
    ),
    "amp": Recipe(
        compute=2,
        weight=4,
        gradient=4,
        master=0,
        moment=4,
        autocast=True,
        meaning="fp32 weights, gradients and moments; torch.autocast runs matrix products in bf16",
    ),
    "fsdp-bf16": Recipe(
        compute=2,
        weight=4,
        gradient=4,
        master=0,
        moment=4,
        gathered=2,
        meaning="fp32 weights, gradients and moments; FSDP2 gathers bf16 weights and reduces fp32 gradients",
    ),
    "bf16": Recipe(compute=2, weight=2, gradient=2, master=0, moment=2, meaning="everything in bf16"),
    "fp32": Recipe(compute=4, weight=4, gradient=4, master=0, moment=4, meaning="everything in fp32"),
}
"""mixed-16, 18 and 20 are named by Adam's bytes a parameter: Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1,
count 2 + 2 + 12; Megatron-LM's main gradients in fp32 make 2 + 4 + 12 (Korthikanti et al. 2022, arXiv:2205.05198), and
beside bf16 gradients 20 (Smith et al. 2022, arXiv:2201.11990, section 2.1). fp8-13 is that of DeepSeek-V3
(arXiv:2412.19437, section 3.3), 1 + 4 + 4 + 2 + 2."""

DEFAULTS = {"training": "mixed-16", "inference": "bf16"}
"""What is taken where no precision is asked for."""


def compute_width(precision: str) -> int:
    """Bytes of an activation where the weights are kept in `precision`: of bf16 where they are narrower than that."""
    return max(BITS.get(precision, 16), 16) // 8


class _Fields(NamedTuple):
    precision: str = DEFAULTS["training"]
    optimizer: Optimizer = "adamw-fused"
    recompute: Recompute = "none"
    accumulate: bool = False
    kv_precision: CachePrecision | None = None
    statistic: Literal[2, 4] = 4
    offload: bool = False


def _checked(keeping: _Fields) -> _Fields:
    """The fields with numpy's numbers as Python's; Invalid where one cannot be."""
    kv = keeping.kv_precision
    statistic = size("Keeping", "statistic", keeping.statistic)
    if statistic not in (2, 4):
        raise Invalid(Problem("Keeping", "must be 2 or 4", "statistic", value=shown(statistic)))
    return _Fields(
        choice("Keeping", "precision", keeping.precision, get_args(Precision)),
        choice("Keeping", "optimizer", keeping.optimizer, get_args(Optimizer)),
        choice("Keeping", "recompute", keeping.recompute, get_args(Recompute)),
        boolean("Keeping", "accumulate", keeping.accumulate),
        None if kv is None else choice("Keeping", "kv_precision", kv, get_args(CachePrecision)),
        statistic,
        boolean("Keeping", "offload", keeping.offload),
    )


@checked(_Fields, _checked)
class Keeping(_Fields):
    """How numbers are stored in a run. Raises Invalid for any value that is not listed below.

    Attributes:
        precision: a training recipe (see precision.RECIPES), or the precision of the weights in inference.
        optimizer: the optimizer of training.
        recompute: activations that are recomputed in the backward pass instead of saved.
        accumulate: whether gradients are accumulated over micro-batches, and thus allocated before the forward pass.
        kv_precision: precision of the key-value cache in inference; default: that of the activations.
        statistic: bytes of a norm's statistic: 4, or 2 on a CPU in bf16.
        offload: whether master weights and the optimizer's state are in the host's memory, where it steps.
    """

    __slots__ = ()

    @property
    def recipe(self) -> Recipe:
        """Of training."""
        return RECIPES[self.precision]

    @property
    def widths(self) -> Widths:
        """Bytes of numbers in a training pass, by their roles."""
        return widths(self.recipe.compute, self.statistic, self.recipe.arriving)

    @property
    def method(self) -> Method:
        """Of the optimizer."""
        return OPTIMIZERS[self.optimizer]

    @property
    def kv_width(self) -> int:
        """Bytes of a number in the cache."""
        return BITS[self.kv_precision] // 8 if self.kv_precision else compute_width(self.precision)

    @property
    def holds(self) -> bool:
        """Whether gradients are there before the backward pass."""
        return self.accumulate or self.recipe.holds


Purpose = Literal["training", "inference"]


def precisions(purpose: Purpose) -> tuple[str, ...]:
    """The recipes of training, or the precisions of weights in inference."""
    return tuple(RECIPES) if purpose == "training" else (*BITS, *FORMATS)


def refuse_other_purpose(purpose: Purpose, keeping: Keeping, *, flags: bool = False) -> None:
    """Raises Invalid for what a Keeping says that training, or inference, has no use for.

    With `flags` it is told of the command line's flags.
    """
    other = "training" if purpose == "inference" else "inference"
    for field, message, value in _of_the_other(purpose, keeping):
        where, path = (f"--{field.replace('_', '-')}", "") if flags else ("Keeping", field)
        fix = f"use --for {other}" if flags and value is None else None
        raise Invalid(Problem(where, message, path, value=value, suggestion=fix))


def _of_the_other(purpose: Purpose, keeping: Keeping) -> Iterator[tuple[str, str, str | None]]:
    """A field, what is wrong with it, and its value where another one would do."""
    if purpose == "inference":
        for field in ("optimizer", "recompute", "accumulate", "offload"):
            if getattr(keeping, field) != _Fields._field_defaults[field]:
                yield field, "applies only to training", None
    elif keeping.kv_precision is not None:
        yield "kv_precision", "applies only to inference", None
    known = precisions(purpose)
    if keeping.precision not in known:
        yield "precision", f"for {purpose} must be one of {', '.join(known)}", shown(keeping.precision)
