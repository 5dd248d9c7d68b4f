"""Count what a transformer is made of, from one description, and prove it by running the model.

    >>> import archcalc
    >>> model = archcalc.load("gpt3-175b")
    >>> archcalc.params(model).stored
    174604259328

Names are imported when they are first used, so that the command line chooses what it loads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archcalc.checks.files import check as check
    from archcalc.checks.linting import lint as lint
    from archcalc.checks.subject import Aim as Aim
    from archcalc.counts.collectives import Traffic as Traffic
    from archcalc.counts.collectives import traffic as traffic
    from archcalc.counts.flops import Flops as Flops
    from archcalc.counts.flops import flops as flops
    from archcalc.counts.memory import Memory as Memory
    from archcalc.counts.memory import memory as memory
    from archcalc.counts.parameters import Parameters as Parameters
    from archcalc.counts.parameters import params as params
    from archcalc.counts.rankwise import Ranks as Ranks
    from archcalc.counts.rankwise import ranks as ranks
    from archcalc.errors import ArchcalcError as ArchcalcError
    from archcalc.errors import Invalid as Invalid
    from archcalc.errors import Missing as Missing
    from archcalc.errors import Problem as Problem
    from archcalc.plan.description import Plan as Plan
    from archcalc.shapes.grid import Grid as Grid
    from archcalc.shapes.grid import sweep as sweep
    from archcalc.shapes.plans import PlanGrid as PlanGrid
    from archcalc.shapes.plans import sweep_plans as sweep_plans
    from archcalc.spec.catalogue import load as load
    from archcalc.spec.dumping import dump as dump
    from archcalc.spec.model import Model as Model
    from archcalc.tape.precision import Keeping as Keeping
    from archcalc.tape.run import Run as Run

    from . import strategies as strategies

__version__ = "0.1.0"

_HOMES = {
    "spec.catalogue": ("load",),
    "spec.dumping": ("dump",),
    "checks.files": ("check",),
    "checks.linting": ("lint",),
    "checks.subject": ("Aim",),
    "counts.parameters": ("Parameters", "params"),
    "errors": ("ArchcalcError", "Invalid", "Missing", "Problem"),
    "counts.memory": ("Memory", "memory"),
    "shapes.grid": ("Grid", "sweep"),
    "tape.precision": ("Keeping",),
    "tape.run": ("Run",),
    "spec.model": ("Model",),
    "strategies": ("strategies",),
    "counts.flops": ("Flops", "flops"),
    "plan.description": ("Plan",),
    "counts.rankwise": ("Ranks", "ranks"),
    "counts.collectives": ("Traffic", "traffic"),
    "shapes.plans": ("PlanGrid", "sweep_plans"),
}

__all__ = [name for names in _HOMES.values() for name in names if name != "strategies"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            try:
                module = import_module(f"archcalc.{home}")
            except ModuleNotFoundError as error:  # an extra that is not installed is an attribute that is not there
                from archcalc.packages import install_command

                raise AttributeError(f"archcalc.{name} needs {error.name}: {install_command(name)}") from error
            return module if name == home else getattr(module, name)
    raise AttributeError(f"module 'archcalc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
