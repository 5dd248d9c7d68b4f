"""Count what a transformer is made of, from one description, and prove it by running the model.

>>> import archcalc
>>> model = archcalc.load("gpt3-175b")
>>> archcalc.params(model).stored
174604259328
"""

from archcalc.catalogue import check, dump, load
from archcalc.count import Category, Matrices, Parameters, Stored, Tally, Term, params
from archcalc.errors import ArchcalcError, Invalid, Missing, Problem
from archcalc.run import Run
from archcalc.spec import Model

__version__ = "0.1.0"

__all__ = [
    "ArchcalcError",
    "Category",
    "Invalid",
    "Matrices",
    "Missing",
    "Model",
    "Parameters",
    "Problem",
    "Run",
    "Stored",
    "Tally",
    "Term",
    "check",
    "dump",
    "load",
    "params",
]
