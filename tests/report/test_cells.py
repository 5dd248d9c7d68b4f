"""Places of a terminal: what the live view draws over must never be wrapped by the terminal itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archcalc.report.cells import bar, cells, fitted, wrapped


# Widths of Unicode's own table (UAX 11, EastAsianWidth.txt) and of its emoji: 2 for wide ones, 0 for what is joined.
@pytest.mark.parametrize(
    ("character", "places"),
    [("a", 1), ("é", 1), ("模", 2), ("😀", 2), ("\U0001f3fd", 2), ("\u0301", 0), ("\u200d", 0), ("\uff21", 2)],
)
def test_a_character_takes_its_places(character, places):
    assert cells(character) == places


def test_lines_are_cut_for_the_widest_terminal():
    assert wrapped("abcdef", 3) == ["abc", "def"]
    assert wrapped("ééé", 3) == ["é", "é", "é"]  # two places each in some terminals
    assert wrapped("模型x", 4) == ["模型", "x"]
    assert wrapped("👍🏽👍🏽", 8) == ["👍🏽👍🏽"]
    assert wrapped("a\n\nb", 9) == ["a", "", "b"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(2, 30))
def test_no_line_is_too_long_and_nothing_is_lost(text, width):
    lines = wrapped(text, width)
    assert all(sum(cells(c, ambiguous=2) for c in line) <= width for line in lines)
    assert "".join(lines) == text.replace("\n", "")
    assert len(lines) >= text.count("\n") + 1


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.integers(4, 30))
def test_what_is_fitted_takes_its_width(text, width):
    found = fitted(text, width)
    assert sum(map(cells, found)) == width
    assert found.rstrip(" ").startswith(text.rstrip(" ")) or "…" in found


def test_a_bar_is_full_at_one_and_seen_above_nothing():
    assert [bar(part, 4) for part in (0, 1e-9, 1 / 32, 0.25, 0.5 + 1 / 32, 1)] == ["", "▏", "▏", "█", "██▏", "████"]
