"""What data-parallel ranks share of weights, gradients and the optimizer's state: ZeRO, and FSDP.

Rajbhandari et al. 2020, arXiv:1910.02054: stage 1 shares the optimizer's state, 2 gradients too, 3 weights too. One
flat buffer is cut into equal parts, the last padded, as Megatron-LM's distributed optimizer and DeepSpeed do; FSDP2
cuts the rows of each tensor. Weights of experts are shared by those ranks alone that have the same experts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

from archcalc.plan.description import Plan
from archcalc.tape.legend import Size, add, product
from archcalc.tape.passes import Gathering

Kept = Literal["weights", "gradients", "optimizer"]
_FROM: dict[str, int] = {"optimizer": 1, "gradients": 2, "weights": 3}
"""The stage of ZeRO that shares each."""
_SENT: dict[str, str] = {"gathered": "weights", "reduced": "gradients"}
"""What is sent whole: weights when they are gathered, gradients when they are reduced."""


class Tensors(Protocol):
    """Weights of one name and shape, as a rank without ZeRO has them."""

    @property
    def shape(self) -> tuple[Size, ...]: ...
    @property
    def layers(self) -> Size: ...
    @property
    def parameters(self) -> Size: ...
    @property
    def of_experts(self) -> bool: ...


def parameters_held(plan: Plan, what: str, tensors: Iterable[Tensors]) -> Size:
    """Parameters of which a rank keeps `what`; of "gathered" and "reduced" the numbers that it sends or gets.

    These are as many parts as there are ranks, all as large as the largest.
    """
    every = list(tensors)
    kept = _SENT.get(what, what)
    if plan.zero < _FROM[kept]:
        return add(tensor.parameters for tensor in every)
    found: Size = 0
    for of_experts, ranks in ((False, plan.dp * plan.cp), (True, plan.expert_dp)):
        part = share(plan, [tensor for tensor in every if tensor.of_experts == of_experts], ranks)
        found = found + (part if what == kept else part * ranks)
    return found


def share(plan: Plan, tensors: Iterable[Tensors], ranks: Size) -> Size:
    """Parameters of which the rank with the most has a part, where several share some tensors."""
    if plan.sharding == "flat":
        return -(-add(tensor.parameters for tensor in tensors) // ranks)
    return add(_rows(tensor, ranks) * tensor.layers for tensor in tensors)


def lacking(plan: Plan, tensors: Iterable[Tensors], rank: int) -> int:
    """How many parameters fewer than the first a data-parallel rank has, where they share the rows of each tensor."""
    found = 0
    for tensor in tensors:
        rows, *rest = tensor.shape or (1,)
        most = -(-rows // plan.dp)
        mine = min(most, max(0, rows - rank * most))
        found += int((most - mine) * product(rest) * tensor.layers)
    return found


def gathering(plan: Plan) -> Gathering | None:
    """How ranks send each other weights and gradients in a step; None where each has all of both."""
    if plan.zero < _FROM["gradients"]:
        return None
    return Gathering(
        weights=plan.zero >= _FROM["weights"],
        several=plan.dp * plan.cp > 1,
        copies=plan.sharding == "per-tensor",
        stays=not plan.reshard_after_forward,
        prefetch=plan.prefetch,
    )


def _rows(tensor: Tensors, ranks: Size) -> Size:
    """The part of one tensor that the rank with the most rows keeps."""
    rows, *rest = tensor.shape or (1,)
    return -(-rows // ranks) * product(rest)
