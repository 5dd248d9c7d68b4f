"""What lint looks at: a spec with its places, and what the project means to run it on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.blocks.base import parts
from archcalc.checks.audit import Counts
from archcalc.plan import rules
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.tape.run import Run

if TYPE_CHECKING:
    from pydantic import BaseModel

    from archcalc.errors import Where
    from archcalc.hardware.devices import Device
    from archcalc.plan.description import Plan


@cache
def _is_one(kind: type, kinds: tuple[type, ...]) -> bool:
    """Whether a class is one of some, or derives from one: pydantic's own test takes ten times as long."""
    return not {*kinds}.isdisjoint(kind.__mro__)


class Aim(NamedTuple):
    """What the project's configuration says that its specs are for: the devices and the parallel plans, by name."""

    devices: Sequence[Device] = ()
    plans: Sequence[tuple[str, Plan]] = ()


class Subject:
    """A spec that lint looks at; what several rules read is counted once, and only when it is read."""

    def __init__(self, found: Found, aim: Aim | None = None) -> None:
        self.found = found
        self.aim = aim or Aim()
        self._asked: dict[tuple[type[BaseModel], ...], list[tuple[Where, Any]]] = {}

    @property
    def model(self) -> Model:
        return self.found.model

    @cached_property
    def counts(self) -> Counts:
        return Counts(self.model, self.parts)

    @cached_property
    def parts(self) -> list[tuple[Where, BaseModel]]:
        """Every part of the model that has fields, with its place in the spec."""
        return parts(self.model)

    @cached_property
    def _by_kind(self) -> dict[type[BaseModel], list[tuple[Where, BaseModel]]]:
        found: dict[type[BaseModel], list[tuple[Where, BaseModel]]] = {}
        for one in self.parts:
            found.setdefault(type(one[1]), []).append(one)
        return found

    def each(self, *kinds: type[BaseModel]) -> list[tuple[Where, Any]]:
        """The parts that are of one of some classes; several rules ask for the same ones."""
        found = self._asked.get(kinds)
        if found is None:
            wanted = [kind for kind in self._by_kind if _is_one(kind, kinds)]
            if len(wanted) == 1:
                found = self._by_kind[wanted[0]]
            else:
                found = [(where, part) for where, part in self.parts if type(part) in wanted] if wanted else []
            self._asked[kinds] = found
        return found

    @cached_property
    def planned(self) -> list[Planned]:
        """What each plan breaks; one that pages a cache is of inference, others train."""
        found = []
        for name, plan in self.aim.plans:
            run = Run(
                "training" if plan.cache_block is None else "prefill", plan.micro_batch, self.model.context_length
            )
            held = rules.Subject(self.model, run)
            broken = dict.fromkeys(one for rule in rules.RULES for one in rule.find(plan, held))
            found.append(Planned(name, plan, tuple(broken)))
        return found


class Planned(NamedTuple):
    """A plan, and the rules of plans that it breaks for a spec."""

    name: str
    plan: Plan
    broken: tuple[rules.Broken, ...]
