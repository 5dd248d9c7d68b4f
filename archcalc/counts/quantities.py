"""Every quantity that archcalc counts, by its one name: how it is read, its unit, its meaning, what it depends on.

The name is the same in JSON and CSV, in `explain`, among the columns of `sweep`, in the rows of `diff` and in
`archcalc list quantities`. A new quantity is one entry of QUANTITIES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.counts import flops as work
from archcalc.counts import mtp
from archcalc.counts import parameters as count
from archcalc.counts.asked import Asked as Asked  # noqa: PLC0414  (as mypy reads an export)
from archcalc.counts.asked import one_pass as one_pass  # noqa: PLC0414  (the same)
from archcalc.tape.legend import Size

if TYPE_CHECKING:
    from archcalc.plan.description import Plan
    from archcalc.spec.model import Model


class Quantity(NamedTuple):
    """How a quantity is read, its unit, what it means, and the flags of the command line that change it.

    `only` is "learns" for what a pass without a backward pass has not, "trains" for memory that inference has not.
    `whole` is why there is no such number of one rank of a plan, by a name of WHOLE.
    `beside` is another quantity: tables for people leave this one out where it equals that one, and what is `rare`
    where it is 0.
    """

    of: Callable[[Asked], Size]
    unit: str
    meaning: str
    flags: tuple[str, ...] = ()
    only: str = ""
    beside: str = ""
    rare: bool = False
    whole: str = ""

    def refusal(self, asked: Asked) -> str | None:
        """Why the quantity does not exist for what is asked; None where it does."""
        if self.only == "learns" and asked.work.phase != "training":
            return f"is of training; {asked.work.phase} has no backward pass"
        if self.only == "trains" and asked.purpose != "training":
            return "is of training; inference keeps nothing for a backward pass"
        if asked.plan is not None and self.whole and WHOLE[self.whole].holds(asked.plan, asked.model):
            return WHOLE[self.whole].words
        return None


class Whole(NamedTuple):
    """Why a quantity cannot be told of one rank, and of which plans and models."""

    words: str
    holds: Callable[[Plan, Model], bool]


WHOLE = {
    "modules": Whole(
        "is of the whole model: no plan divides modules of multi-token prediction",
        lambda plan, model: plan.cuts_the_model and model.mtp is not None,
    ),
    "experts": Whole(
        "is of the whole model: the experts of one token are on several ranks", lambda plan, _: bool(plan.ep > 1)
    ),
}
"""Why a quantity cannot be told of one rank."""


_PASS = ("--phase", "--batch", "--seq", "--context", "--causal", "--attention", "--logits")
_LEARNING = ("--phase", "--batch", "--seq", "--causal", "--attention")
_STATE = ("--for", "--precision", "--optimizer")
_CACHE = ("--for", "--precision", "--kv-precision")
_HELD = (
    *_STATE,
    "--batch",
    "--seq",
    "--attention",
    "--activation-kernel",
    "--recompute",
    "--accumulate",
    "--dropout",
    "--kv-precision",
)

SECTIONS: dict[str, tuple[str, ...]] = {
    "parameters": (),
    "tally": (),
    "bridge": (),
    "layers": (),
    "tensors": (),
    "inference": (),
    "devices": (),
    "flops": _PASS,
    "run": (*_PASS, "--tokens"),
    "memory": _HELD,
}
"""The flags that change the numbers of each section of the JSON that are not quantities."""

QUANTITIES: dict[str, Quantity] = {
    "parameters.stored": Quantity(lambda asked: asked.totals.stored, "parameters", count.CONVENTIONS["stored"]),
    "parameters.active": Quantity(
        lambda asked: asked.totals.active, "parameters", count.CONVENTIONS["active"], whole="experts"
    ),
    "parameters.active_inner": Quantity(
        lambda asked: asked.totals.active_inner, "parameters", count.CONVENTIONS["active_inner"], whole="experts"
    ),
    "parameters.non_embedding": Quantity(
        lambda asked: asked.totals.non_embedding,
        "parameters",
        count.CONVENTIONS["non_embedding"],
    ),
    "parameters.tally": Quantity(
        lambda asked: asked.counts.tally.total,
        "parameters",
        count.CONVENTIONS["tally"],
    ),
    "parameters.mtp": Quantity(
        lambda asked: asked.modules.parameters, "parameters", mtp.CONVENTIONS["mtp"], rare=True, whole="modules"
    ),
    "parameters.mtp_active": Quantity(
        lambda asked: asked.modules.active, "parameters", mtp.CONVENTIONS["mtp_active"], rare=True, whole="modules"
    ),
    "matrices.tally": Quantity(
        lambda asked: asked.counts.tally.matrices,
        "matrices",
        count.CONVENTIONS["matrices"],
    ),
    "flops.forward": Quantity(lambda asked: asked.flops.forward, "FLOPs", work.CONVENTIONS["forward"], _PASS),
    "flops.backward": Quantity(
        lambda asked: asked.flops.backward,
        "FLOPs",
        work.CONVENTIONS["backward"],
        _LEARNING,
    ),
    "flops.training": Quantity(
        lambda asked: asked.flops.training,
        "FLOPs",
        work.CONVENTIONS["training"],
        _LEARNING,
        "learns",
    ),
    "flops.per_token": Quantity(
        lambda asked: asked.flops.per_token,
        "FLOPs",
        "FLOPs of the pass (in training forward and backward) divided by its tokens, rounded down",
        tuple(flag for flag in _PASS if flag != "--batch"),
    ),
    "flops.pointwise": Quantity(
        lambda asked: asked.flops.pointwise,
        "FLOPs",
        "pointwise operations and reductions of the forward pass, one per number; modelled",
        tuple(flag for flag in _PASS if flag != "--causal"),
    ),
    "flops.mtp": Quantity(
        lambda asked: asked.modules.training,
        "FLOPs",
        mtp.CONVENTIONS["mtp_flops"],
        _LEARNING,
        "learns",
        rare=True,
        whole="modules",
    ),
    "decode.parameters": Quantity(
        lambda asked: asked.touched.expected,
        "parameters",
        "parameters that a decode step of the batch reads: of experts those that are expected to be chosen for some "
        "of its tokens under balanced routing; modelled",
        ("--batch",),
        whole="experts",
    ),
    "decode.most_parameters": Quantity(
        lambda asked: asked.touched.most,
        "parameters",
        "parameters that a decode step of the batch reads at most: its tokens share no expert while there are others",
        ("--batch",),
        beside="decode.parameters",
        whole="experts",
    ),
    "activations.saved": Quantity(
        lambda asked: asked.saved,
        "bytes",
        "activations saved in the forward pass for the backward pass",
        ("--batch", "--seq", "--attention", "--activation-kernel", "--precision", "--recompute", "--dropout", "--for"),
        "trains",
    ),
    "cache.per_token": Quantity(
        lambda asked: asked.cache(1, 1),
        "bytes",
        "cache of one position in all layers: keys and values, or the latents and keys that are kept instead",
        _CACHE,
    ),
    "cache.total": Quantity(
        lambda asked: asked.cache(asked.held.batch, asked.held.sequence),
        "bytes",
        "cache of all positions in the batch; a layer with a window keeps no more than the window",
        (*_CACHE, "--batch", "--seq"),
    ),
    "cache.paged": Quantity(
        lambda asked: asked.cache(asked.held.batch, asked.held.sequence, paged=True),
        "bytes",
        "cache in an engine that pages all layers alike: each keeps every position, whatever its window",
        (*_CACHE, "--batch", "--seq"),
        beside="cache.total",
    ),
    "cache.state": Quantity(
        lambda asked: asked.recurrent,
        "bytes",
        "states of recurrent mixers for the batch, however long its sequences: in fp32, the positions that "
        "convolutions see as activations",
        ("--for", "--precision", "--batch"),
        rare=True,
    ),
    "memory.state": Quantity(
        lambda asked: asked.state,
        "bytes",
        "weights, and in training gradients and optimizer state: what persists between steps",
        _STATE,
    ),
    "memory.total": Quantity(
        lambda asked: asked.peak,
        "bytes",
        "peak memory of a training step, or of prefill and decode in inference",
        _HELD,
    ),
}


def values(
    asked: Asked, sections: Iterable[str], known: Mapping[str, Size] | None = None
) -> dict[str, dict[str, Any]]:
    """The quantities of some sections as JSON has them, `{"flops": {"forward": ...}}`; None for what is not asked.

    What is `known` by name is not counted again.
    """
    found: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for name, quantity in QUANTITIES.items():
        section, _, key = name.partition(".")
        if section not in found:
            continue
        if known and name in known:
            found[section][key] = known[name]
        else:
            found[section][key] = None if quantity.refusal(asked) else quantity.of(asked)
    return found


def depends_on(path: str) -> tuple[str, ...]:
    """The flags that may change the number at a path of the JSON."""
    if path in QUANTITIES:
        return QUANTITIES[path].flags
    return SECTIONS.get(path.partition(".")[0], ())
