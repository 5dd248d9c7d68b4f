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
    from archcalc.catalogue import check as check
    from archcalc.catalogue import dump as dump
    from archcalc.catalogue import load as load
    from archcalc.count import Parameters as Parameters
    from archcalc.count import params as params
    from archcalc.errors import ArchcalcError as ArchcalcError
    from archcalc.errors import Invalid as Invalid
    from archcalc.errors import Missing as Missing
    from archcalc.errors import Problem as Problem
    from archcalc.footprint import Memory as Memory
    from archcalc.footprint import memory as memory
    from archcalc.grid import Grid as Grid
    from archcalc.grid import sweep as sweep
    from archcalc.precision import Keeping as Keeping
    from archcalc.run import Run as Run
    from archcalc.spec import Model as Model
    from archcalc.work import Flops as Flops
    from archcalc.work import flops as flops

    from . import strategies as strategies

__version__ = "0.1.0"

_HOMES = {
    "catalogue": ("check", "dump", "load"),
    "count": ("Parameters", "params"),
    "errors": ("ArchcalcError", "Invalid", "Missing", "Problem"),
    "footprint": ("Memory", "memory"),
    "grid": ("Grid", "sweep"),
    "precision": ("Keeping",),
    "run": ("Run",),
    "spec": ("Model",),
    "strategies": ("strategies",),
    "work": ("Flops", "flops"),
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
