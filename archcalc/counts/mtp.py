"""Modules of multi-token prediction: what they have and cost beside the model, of which they are no part."""

from __future__ import annotations

from typing import NamedTuple

from archcalc.counts.flops import flops
from archcalc.counts.parameters import params
from archcalc.spec.model import Model
from archcalc.spec.mtp import PREFIX
from archcalc.tape.legend import Size, add
from archcalc.tape.run import FLOPS_KERNEL, Run

CONVENTIONS = {
    "mtp": "parameters of the modules of multi-token prediction, which no other count includes; the token table and "
    "the head that they share with the model are not among them",
    "mtp_active": "the same, minus the experts that are not chosen for a token",
    "mtp_flops": "forward and backward in training of the modules of multi-token prediction, each with the head, at "
    "all positions; no other count includes them",
}


class Modules(NamedTuple):
    """Counts of all modules together; 0 where a model has none. See CONVENTIONS."""

    parameters: Size
    active: Size
    training: Size


def modules(model: Model, run: Run) -> Modules:
    """Count the modules of a model in a run."""
    taken = model.record_mtp(run.by_default(FLOPS_KERNEL))
    own = [weight for weight in params(taken).tensors if weight.name.startswith(PREFIX)]
    active = add(weight.parameters if weight.active is None else weight.active for weight in own)
    work = flops(taken, taken.run)
    return Modules(add(weight.parameters for weight in own), active, work.forward + work.backward)
