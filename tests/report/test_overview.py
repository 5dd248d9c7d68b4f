"""The report is one screen: at most 100 columns and 40 lines, and exactly this at 80 and at 100."""

import pytest
from command import ask, spawn
from examples import a_third, one_of_each
from screens import FOLDER

import archcalc
from archcalc.report.overview import report_sheet
from archcalc.report.render import render
from archcalc.spec.catalogue import find

SCREEN = (FOLDER / "report.txt").read_text().partition("\n")[2]  # of 80 columns


def test_the_report_of_gpt3_has_at_most_34_lines():
    """README's first screen: a title, the shape, the tally, then a few lines."""
    assert render(report_sheet(find("gpt3-175b")), "table", 80) == SCREEN
    assert len(SCREEN.splitlines()) <= 34


@pytest.mark.parametrize("width", [80, 100])
def test_width_moves_words_and_changes_none(width):
    assert render(report_sheet(find("gpt3-175b")), "table", width).split() == SCREEN.split()


def test_a_pipe_is_100_wide_and_columns_is_obeyed(monkeypatch):
    wide = render(report_sheet(find("gpt3-175b")), "table", 100)
    assert wide != SCREEN
    assert ask("report", "gpt3-175b").out == wide
    assert spawn("report", "gpt3-175b", env={"COLUMNS": "80"}).out == SCREEN
    for columns, screen in (("20", SCREEN), ("500", wide)):
        monkeypatch.setenv("COLUMNS", columns)
        assert ask("report", "gpt3-175b").out == screen


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", a_third(one_of_each()))
def test_every_report_is_one_screen(name, width):
    found = find(name)
    lines = render(report_sheet(found), "table", width).splitlines()
    model = archcalc.load(name)
    kinds = sum(len(group.kinds_in()) for group in model.layers)
    assert len(lines) <= 40 + 4 * max(kinds - 2, 0) + archcalc.params(model).is_sparse  # a line of what is active
    assert max(map(len, lines)) <= width


def test_the_source_is_shown_once():
    assert ask("report", "tiny").out.count(archcalc.load("tiny").source[:30]) == 1


def test_the_report_s_json_has_the_flops_of_one_context():
    payload = ask("report", "gpt3-175b", "-f", "json").json
    assert payload["flops"]["training"] == 3 * 734_804_261_732_352
    assert payload["conventions"]["causal"] == "full"
    assert payload["conventions"]["stored"]
    assert payload["shape"]["layers"][0]["attention"]["n_heads"] == 96


def test_a_mixture_says_what_is_active_and_6_n_of_it():
    """Jiang et al. 2024, arXiv:2401.04088, section 1: each token has access to 47B parameters, and uses 13B."""
    active = archcalc.params(archcalc.load("mixtral-8x7b")).active
    assert round(active / 1e9) == 13
    told = " ".join(ask("report", "mixtral-8x7b").out.split())
    assert f"Active {active:,} parameters per token (12.88B, 27.58% of stored)" in told  # 12.879 / 46.703
    assert "(6 N: 280.2B, active 77.28B)" in told  # 6 x 46.70B and 6 x 12.88B
    assert "Active" not in ask("report", "gpt2").out


def test_what_a_kind_of_layers_has_in_common_with_the_one_above_is_told_once():
    told = " ".join(ask("report", "deepseek-v3").out.partition("Source")[0].split())
    assert told.count("over latents of 512") == 1
    assert "58 layers: the same attention; 256 experts" in told
