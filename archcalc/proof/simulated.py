"""One rank of many, simulated: PyTorch's own FSDP2 and DTensor on tensors without numbers, by PyTorch's own tracker.

Collectives take place in name only, so that any rank of any number of them can be asked in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, NamedTuple

from archcalc.plan.description import Plan
from archcalc.proof.applied import Meshes
from archcalc.proof.private import shapes_only, simulated_group, tracker, with_numbers
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import MEMORY_KERNEL, Run

_ASKED: set[tuple[int, int, int, int]] = set()
"""The rank, and of how many, that this process has asked; one at most."""


class Tracked(NamedTuple):
    """Bytes of one rank at the peak of a step, all together and by PyTorch's kinds of tensors."""

    peak: int
    kinds: dict[str, int]


def simulate(model: Model, plan: Plan, run: Run, keeping: Keeping, rank: int = 0) -> Tracked:
    """Take a step as one rank of the plan.

    A step before it is not looked at: in the first DTensor works out layouts on tensors of whole sizes. It remembers
    them, and its groups, for the whole process: another rank is asked in a process of its own.
    """
    from archcalc_reference.parallel.applying import refuse_unrun

    refuse_unrun(plan, tensors=True, experts=True)
    asked = (rank, plan.dp, plan.tp, plan.ep)
    if _ASKED and {asked} != _ASKED:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            return apart.submit(simulate, model, plan, run, keeping, rank).result()
    _ASKED.add(asked)
    run = run.by_default(MEMORY_KERNEL)
    import torch

    from archcalc_reference import Transformer

    with simulated_group(rank, plan.dp * plan.tp):
        meshes = Meshes(plan)
        with shapes_only():
            with _made_in(torch.bfloat16 if keeping.recipe.weight == 2 else torch.float32):
                reference = Transformer(model)
            meshes.divide(reference, keeping, with_numbers)
            optimizer = _adamw(reference, keeping)
            texts = [torch.zeros((run.batch, run.sequence), dtype=torch.long) for _ in range(2)]
            _step(reference, optimizer, texts, run, keeping, meshes)
            seen = tracker(reference, optimizer, sharded=plan.zero > 0)
            if plan.zero:
                seen.track_inputs(tuple(texts))
            else:
                seen.track_external(*texts)
            with seen:
                _step(reference, optimizer, texts, run, keeping, meshes)
            found = seen.get_tracker_snapshot("peak")
    kinds = {str(getattr(kind, "value", kind)): n for kind, n in found[torch.device("cpu")].items()}
    return Tracked(kinds.pop("Total"), {kind: n for kind, n in kinds.items() if n})


def _step(reference: Any, optimizer: Any, texts: list[Any], run: Run, keeping: Keeping, meshes: Meshes) -> None:
    """Vectors without numbers choose no experts: all get as many."""
    from archcalc_reference.model.dealing import balanced
    from archcalc_reference.parallel.applying import cut_loss

    with cut_loss(meshes.plan), balanced(reference):
        reference(*texts, run.kernel, recompute=keeping.recompute == "full").loss.backward()
    meshes.end_backward(reference)
    optimizer.step()
    optimizer.zero_grad()


@contextmanager
def _made_in(kind: Any) -> Iterator[None]:
    """New weights are of this type: those without numbers cannot be turned into another."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _adamw(reference: Any, keeping: Keeping) -> Any:
    from archcalc.proof.allocator import make_optimizer

    return make_optimizer(keeping, dict(reference.named_parameters()))
