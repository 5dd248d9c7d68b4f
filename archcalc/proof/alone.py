"""What one process learns that takes all steps by itself: the losses that ranks must learn together."""

from __future__ import annotations

from typing import Any

from archcalc.checks.verdict import Check
from archcalc.proof.allocator import make_optimizer
from archcalc.spec.model import Model
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

STEPS = 3
TOLERANCE = 1e-5


def texts_of(model: Model, run: Run, ranks: int) -> tuple[Any, Any]:
    """Tokens and targets of all ranks, the same for each who asks."""
    import torch

    drawn = torch.Generator().manual_seed(1)
    shape = (ranks * run.batch, run.sequence)
    known = model.n_logits
    tokens, targets = (torch.randint(known, shape, generator=drawn) for _ in range(2))
    return tokens, targets


def losses_alone(model: Model, run: Run, keeping: Keeping, texts: tuple[Any, Any]) -> list[float]:
    """The losses of the same steps where one process takes them with all sequences."""
    import torch

    from archcalc_reference import Transformer

    torch.manual_seed(0)
    reference = Transformer(model)
    optimizer = make_optimizer(keeping, dict(reference.named_parameters()))
    losses = []
    for _ in range(STEPS):
        loss = reference(*texts, run.kernel, recompute=keeping.recompute == "full").loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def compare_losses(together: list[float], alone: list[float]) -> Check:
    """The losses of all ranks together, and those of one process that has all sequences: how many are the same."""
    off = [abs(one - other) for one, other in zip(together, alone, strict=True)]
    close = sum(n <= TOLERANCE * max(1.0, *alone) for n in off)
    equal = close == len(off)
    reason = None if equal else f"DIFFERS by up to {max(off):.2g}"
    return Check("losses of all ranks", len(off), close, equal, reason, "one process that has all sequences")
