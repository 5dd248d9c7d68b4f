"""Every collective of a step, as a rank of each sort takes part in it.

Counted are those of the model: activations, gradients, weights and what a pipeline sends. Left out are a few numbers a
step: the norm of all gradients, the loss that is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from archcalc.arguments import instance, size
from archcalc.counts.exchanged import Collective, of_activations
from archcalc.counts.parameters import Stored, tensors
from archcalc.counts.pipelined import message_bytes, sends, ties
from archcalc.counts.reduced import of_weights
from archcalc.counts.stack import AXES
from archcalc.plan.description import Plan
from archcalc.plan.local import Exchanges, exchanging
from archcalc.plan.placing import GPUS_PER_NODE
from archcalc.plan.rules import refuse
from archcalc.plan.stages import alike
from archcalc.spec.model import Model
from archcalc.tape.legend import Size, add, alongside
from archcalc.tape.passes import Pass
from archcalc.tape.precision import Keeping, Recompute
from archcalc.tape.run import MEMORY_KERNEL, Run


class Sender(NamedTuple):
    """One sort of rank: the stages whose ranks are alike, and what one of them exchanges in a step."""

    stages: tuple[int, ...]
    collectives: tuple[Collective, ...]

    @property
    def bytes(self) -> Size:
        """What is exchanged, each tensor whole."""
        return add(one.count * one.bytes for one in self.collectives)

    @property
    def sent(self) -> Size:
        """What the rank sends."""
        return add(one.count * one.sent for one in self.collectives)


class Traffic(NamedTuple):
    """Every sort of rank of a plan, the one that sends the most first. `run` is one micro-batch of a rank."""

    plan: Plan
    run: Run
    keeping: Keeping
    gpus_per_node: int
    each: tuple[Sender, ...]

    @property
    def busiest(self) -> Sender:
        """The rank that sends the most."""
        return self.each[0]


def traffic(
    model: Model, plan: Plan, run: Run, keeping: Keeping, gpus_per_node: int = GPUS_PER_NODE, where: str = "plan"
) -> Traffic:
    """Count the collectives of a step, or of an inference pass, for every sort of rank.

    `run.batch` is replaced by the plan's micro_batch. Raises Invalid for a plan that breaks a rule; the message is
    placed `where`.
    """
    instance("traffic", "plan", plan, Plan)
    gpus_per_node = size("traffic", "gpus_per_node", gpus_per_node)
    run = run.by_default(MEMORY_KERNEL)._replace(batch=plan.micro_batch)
    refuse(plan, model, run, where, keeping)
    whole = model.record(run)
    sorts: dict[tuple[Collective, ...], tuple[int, ...]] = {}
    for stages in alike(plan, whole.segments):
        told = collectives(whole, plan, keeping, stages[0], gpus_per_node)
        sorts[told] = (*sorts.get(told, ()), *stages)
    found = [Sender(tuple(sorted(stages)), told) for told, stages in sorts.items()]
    found.sort(key=lambda sender: -int(sender.sent))
    return Traffic(plan, run, keeping, gpus_per_node, tuple(found))


def collectives(
    whole: Pass, plan: Plan, keeping: Keeping, stage: int = 0, gpus_per_node: int = GPUS_PER_NODE
) -> tuple[Collective, ...]:
    """The collectives of a step, or of an inference pass, in which a rank of a stage takes part.

    `whole` is the pass of the model over one micro-batch of a rank. Sizes are ints, or arrays.
    """
    taken, exchanges = exchanging(whole, plan, stage)
    found = [*of_activations(taken, exchanges, plan, keeping, gpus_per_node)]
    found += sends(whole, plan, stage, keeping, gpus_per_node)
    if whole.run.phase == "training":
        found += of_weights(taken, tensors(taken), exchanges, plan, keeping, gpus_per_node)
        found += ties(whole, plan, stage, keeping, gpus_per_node)
    return tuple(_merged(found))


class Sent(NamedTuple):
    """Bytes that a rank sends in a step: for each micro-batch, and once."""

    each: Size
    once: Size


def sent_in_passes(
    taken: Pass,
    exchanges: list[Exchanges],
    plan: Plan,
    keeping: Keeping,
    messages: Size,
    recompute: Sequence[Recompute],
) -> Size:
    """Bytes that a rank sends for one micro-batch, gradients of weights left out; `messages` to other stages.

    It is an array along a first axis where `recompute` names several kinds.
    """
    plan = plan.model_copy(update={"accumulation": 1})
    told = of_activations(taken, exchanges, plan, keeping, GPUS_PER_NODE, recompute)
    return add(one.count * one.sent for one in told) + messages * message_bytes(taken, taken.segments[0], keeping)


def sent_for_weights(
    taken: Pass, every: Sequence[Stored], exchanges: list[Exchanges], plan: Plan, keeping: Keeping
) -> Sent:
    """Bytes that a rank sends for gradients and weights; what stages send each other is left out."""
    accumulation = alongside([0, 1], AXES)
    plan = plan.model_copy(update={"accumulation": accumulation})
    told = add(one.count * one.sent for one in of_weights(taken, every, exchanges, plan, keeping, GPUS_PER_NODE))
    once, with_one = told + 0 * accumulation
    return Sent(with_one - once if plan.zero > 1 else 0, once)  # below ZeRO-2 all is sent once a step


def _merged(found: list[Collective]) -> list[Collective]:
    """The same with like ones of several kinds of layers in one; arrays are not compared."""
    rows: dict[object, Collective] = {}
    for one in found:
        plain = not any(hasattr(part, "dtype") for part in one)
        key = one._replace(count=0) if plain else len(rows)
        known = rows.get(key)
        rows[key] = one if known is None else known._replace(count=known.count + one.count)
    return list(rows.values())
