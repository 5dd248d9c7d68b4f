"""Screens of 80 columns, whole, are what tests/goldens/ has.

They guard words and layout; that the numbers are right is proven elsewhere.
"""

import pytest
from screens import COMMANDS, FOLDER, screen


@pytest.mark.parametrize("name", COMMANDS)
def test_a_screen_is_exactly_this(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = screen(COMMANDS[name])
    assert shown == (FOLDER / f"{name}.txt").read_text()
    if name != "explain-latex":
        assert max(map(len, shown.splitlines()[1:])) <= 80


def test_no_screen_is_left_from_before():
    assert {path.stem for path in FOLDER.iterdir()} == set(COMMANDS)
