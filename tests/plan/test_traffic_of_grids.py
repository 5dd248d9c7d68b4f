"""Grids of plans send what each plan sends by itself."""

import pytest

import archcalc
from archcalc.counts.collectives import traffic
from archcalc.plan.description import Plan
from archcalc.tape.precision import Keeping
from archcalc.tape.run import Run

plans = pytest.importorskip("archcalc.shapes.plans")
pytest.importorskip("numpy")

GRIDS = {
    "gpt3-175b": {"tp": [1, 8], "pp": [1, 8], "dp": [1, 4], "accumulation": [8, 16], "zero": [0, 1, 2, 3]},
    "llama3-8b": {
        "tp": [2, 16],
        "cp": [1, 2],
        "micro_batch": [1, 3],
        "sequence_parallel": [False, True],
        "dp": [2, 3],
    },
    "mixtral-8x7b": {"dp": [2, 8], "ep": [1, 2, 8], "accumulation": [1, 4], "zero": [0, 1]},
}


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_row_sends_what_its_plan_sends(name, recompute):
    model, run, keeping = archcalc.load(name), Run(sequence=2_048), Keeping("mixed-18", recompute=recompute)
    grid = plans.sweep_plans(model, GRIDS[name], Plan(), run, keeping)
    assert len(grid) > 10
    for i in range(0, len(grid), 3):
        fields = {
            key: column[i].item() if hasattr(column[i], "item") else column[i] for key, column in grid.fields.items()
        }
        assert grid.sent[i] == traffic(model, Plan(**fields), run, keeping).busiest.sent, fields
