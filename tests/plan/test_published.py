"""Figures that others printed of ranks: formulas to their digits, measurements as far as they are from ours."""

import pytest
from publishedplans import figures

FIGURES = {figure.what: figure for figure in figures()}


@pytest.mark.parametrize("what", [what for what, one in FIGURES.items() if one.kind == "formulas"])
def test_formulas(what):
    """To the printed digits, but where the note says what is left out or how the shape differs."""
    figure = FIGURES[what]
    assert abs(figure.error) < (0.011 if figure.note else 1e-4)


@pytest.mark.parametrize(
    "what", [what for what, one in FIGURES.items() if "SimuMax" in one.source and "cp 8" not in what]
)
def test_peaks_that_were_measured_on_eight_devices(what):
    assert abs(FIGURES[what].error) < 0.035


def test_a_recomputation_between_two_of_ours_lies_between_them():
    """torchtitan's selective checkpointing keeps some products of a layer and computes others again."""
    none, full = (one for what, one in FIGURES.items() if what.startswith("Llama 3.1 8B"))
    assert full.ours < none.theirs < none.ours
