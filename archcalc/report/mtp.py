"""What a report says of modules of multi-token prediction: a line of their parameters, and one of their FLOPs."""

from __future__ import annotations

from archcalc.counts.quantities import Asked
from archcalc.spec.model import Model
from archcalc.units import grouped, several, short

Lines = tuple[tuple[str, tuple[str, ...]], ...]


def modules_line(model: Model, asked: Asked) -> Lines:
    """Their parameters, in one sentence; nothing where there are none."""
    if model.mtp is None:
        return ()
    found = asked.modules
    of = f"{grouped(found.parameters)} more in {several(model.mtp.n_modules, 'module')} of multi-token prediction"
    active = f", {grouped(found.active)} of them active" if found.active != found.parameters else ""
    return (("MTP", (f"{of}{active}; no other count includes them",)),)


def work_line(model: Model, asked: Asked) -> Lines:
    """Their FLOPs in training, in one sentence."""
    if model.mtp is None or asked.work.phase != "training":
        return ()
    more = asked.modules.training
    each = f"{grouped(more)} FLOPs more in {several(model.mtp.n_modules, 'module')} of multi-token prediction"
    return (("MTP", (f"{each} ({short(more)}), each with the head; no other count includes them",)),)
