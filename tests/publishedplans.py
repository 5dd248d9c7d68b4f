"""Memory of ranks as others printed it, and as it is counted here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import archcalc
from archcalc.counts.activations import saved
from archcalc.counts.rankwise import ranks
from archcalc.plan.description import Plan
from archcalc.plan.local import local
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import Run

DATA = yaml.safe_load((Path(__file__).parent / "plan" / "published.yaml").read_text())
_UNITS = {"GiB": 2**30, "GB": 10**9, "B": 1}


class Figure(NamedTuple):
    """A printed figure and ours, in bytes."""

    kind: str
    what: str
    source: str
    note: str
    printed: str
    theirs: float
    ours: int

    @property
    def error(self) -> float:
        """How far ours is from theirs."""
        return self.ours / self.theirs - 1


def figures() -> Iterator[Figure]:
    """Every figure, formulas first."""
    for kind, entries in DATA.items():
        for one in entries:
            number, unit = one["printed"].split()
            theirs = float(number) * _UNITS[unit]
            yield Figure(kind, one["what"], one["source"], one.get("note", ""), one["printed"], theirs, _ours(one))


def _ours(one: dict[str, Any]) -> int:
    model, plan = archcalc.load(one["spec"]), Plan(**one["plan"])
    keeping = Keeping(one.get("precision", "mixed-16"), recompute=one.get("recompute", "none"))
    run = Run(sequence=one.get("seq", model.context_length))
    if one.get("counts") == "activations":  # of layers, as the paper counts: math attention, dropout, no statistics
        run = run._replace(batch=plan.micro_batch, attention="math", dropout=True)
        taken = local(model.record(run), plan)
        return saved(taken, run, {**widths(2), "statistic": 0}, keeping.recompute).layers
    found = ranks(model, plan, run, keeping).fullest.memory
    return found.state if one.get("counts") == "state" else found.total
