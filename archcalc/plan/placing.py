"""Who a collective is among: how many ranks, how far apart they are numbered, and whether they share a node.

Ranks are numbered as Megatron-LM does by default, "tp-cp-ep-dp-pp": tensor-parallel ranks are neighbours, context
parallelism comes next, then data parallelism, and pipeline stages are farthest apart. Of data-parallel ranks those
with different experts are neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

from archcalc.plan.description import Plan
from archcalc.plan.mesh import TP
from archcalc.tape.legend import Env, Mask, Size, anywhere, product

GPUS_PER_NODE = 8


class Group(NamedTuple):
    """The ranks that take part: `axis` is what the plan calls them, and `inside` whether all are in one node."""

    axis: str
    ranks: Size
    inside: Mask


def group(axes: tuple[str, ...], ranks: Env, plan: Plan, gpus_per_node: int) -> Group:
    """The ranks that differ along some axes of a mesh."""
    name, span = _named({*axes}, ranks, plan)
    n: Size = product(ranks[axis] for axis in axes)
    return Group(name, n, _inside(span, plan, gpus_per_node))


def data_group(plan: Plan, gpus_per_node: int, *, of_experts: bool) -> Group:
    """The ranks that have the same weights, and add up their gradients."""
    inside = _inside(plan.dp * plan.cp * plan.tp, plan, gpus_per_node)
    if of_experts:
        return Group("edp", plan.expert_dp, inside)
    names = [name for name, degree in (("dp", plan.dp), ("cp", plan.cp)) if anywhere(degree > 1)]
    return Group("+".join(names), plan.dp * plan.cp, inside)


def stages_inside(plan: Plan, one: int, other: int, gpus_per_node: int) -> Mask:
    """Whether the ranks of two stages are in one node."""
    each = plan.tp * plan.cp * plan.dp
    first, last = min(one, other) * each, (max(one, other) + 1) * each - 1
    return first // gpus_per_node == last // gpus_per_node


def _named(axes: set[str], ranks: Env, plan: Plan) -> tuple[str, Size]:
    """What a plan calls the axes, and the least ranks in a row that hold a group."""
    if axes <= {*TP}:
        return "tp", ranks["tp.rest"] if axes == {"tp.rest"} else plan.tp
    if axes == {"cp"}:
        return "cp", plan.tp * plan.cp
    if axes <= {"ep", *TP} and "ep" in axes:
        return "ep", plan.ep * plan.expert_tp
    return "+".join(sorted(axes)), plan.tp * plan.cp * plan.dp


def _inside(span: Size, plan: Plan, gpus_per_node: int) -> Mask:
    """Whether no group of that many ranks in a row is in two nodes."""
    return (plan.world <= gpus_per_node) | (gpus_per_node % span == 0)
