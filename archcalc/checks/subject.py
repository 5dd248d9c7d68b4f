"""What lint looks at: a spec with its places, and what the project means to run it on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from archcalc.counts.parameters import Parameters, params
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model

if TYPE_CHECKING:
    from archcalc.hardware.devices import Device
    from archcalc.plan.description import Plan


class Aim(NamedTuple):
    """What the project's configuration says that its specs are for: the devices and the parallel plans, by name."""

    devices: Sequence[Device] = ()
    plans: Sequence[tuple[str, Plan]] = ()


class Subject:
    """A spec that lint looks at; what several rules read is counted once, and only when it is read."""

    def __init__(self, found: Found, aim: Aim | None = None) -> None:
        self.found = found
        self.aim = aim or Aim()

    @property
    def model(self) -> Model:
        return self.found.model

    @cached_property
    def counts(self) -> Parameters:
        return params(self.model)
