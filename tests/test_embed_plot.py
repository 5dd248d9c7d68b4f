"""Slices of a space: what is drawn, on which axes, with plotly or with what stands in for it."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command import ask
from space import write

from archcalc.vectors import evaluate, project
from archcalc.wordfile import read_words


@pytest.fixture
def words(tmp_path):
    return write(tmp_path)


class Drawn:
    """What stands in for plotly: every object keeps what it was made of."""

    def __init__(self, **parts):
        vars(self).update(parts)

    def to_html(self, **flags):
        Drawn.last = self
        return f"<html>{flags}</html>"


@pytest.fixture
def plotly(monkeypatch):
    flat, deep = type("Scatter", (Drawn,), {}), type("Scatter3d", (Drawn,), {})
    objects = SimpleNamespace(Figure=Drawn, Scatter=flat, Scatter3d=deep)
    monkeypatch.setitem(sys.modules, "plotly", SimpleNamespace(graph_objects=objects))
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", objects)
    return objects


def test_a_slice_by_chosen_axes(words, tmp_path, plotly):
    page = str(tmp_path / "page.html")
    done = ask(
        "embed",
        words,
        "--along",
        "woman - man",
        "queen",
        "cats",
        "--plot",
        page,
        "--axes",
        "woman - man",
        "--axes",
        "king",
    )
    assert (done.code, done.err) == (0, f"wrote {page}\n")
    line, points = Drawn.last.data
    assert isinstance(points, plotly.Scatter)
    assert points.text == ["woman", "man", "queen", "cats", "king"]
    assert list(zip(points.x, points.y, strict=True)) == [(1, 1), (0, 1), (1, 2), (0, 0), (0, 2)]
    assert (line.x, line.y, line.mode) == ([0, 1], [1, 1], "lines")  # from man to woman
    assert Drawn.last.layout["xaxis"]["title"]["text"] == "woman - man"
    assert (tmp_path / "page.html").read_text() == "<html>{'include_plotlyjs': True}</html>"


def test_a_slice_by_principal_directions_has_three(words, tmp_path, plotly):
    done = ask("embed", words, "king - man + woman", "--plot", str(tmp_path / "page.html"))
    assert done.code == 0
    *lines, inputs, sums, others = Drawn.last.data
    assert isinstance(inputs, plotly.Scatter3d)
    assert [trace.name for trace in (inputs, sums, others)] == ["words", "sums", "neighbours"]
    assert sums.text == ["king - man + woman"]
    assert len(lines) == 1
    queen = others.text.index("queen")
    assert [others.x[queen], others.y[queen], others.z[queen]] == [sums.x[0], sums.y[0], sums.z[0]]
    axes = Drawn.last.layout["scene"]
    assert [axes[f"{letter}axis"]["title"]["text"] for letter in "xyz"] == [
        f"principal direction {n}" for n in (1, 2, 3)
    ]


@pytest.mark.usefixtures("plotly")
def test_words_are_no_tags_in_a_page(tmp_path):
    path = write(tmp_path, "<b>x</b> 1 0 0\ny 0 1 0\nz 0 0 1\n")
    assert ask("embed", path, "y", "--plot", str(tmp_path / "page.html")).code == 0
    assert "&lt;b&gt;x&lt;/b&gt;" in [text for trace in Drawn.last.data for text in trace.text]


def test_axes_are_at_right_angles_and_keep_what_a_slice_keeps(words):
    vectors = read_words(words)
    axes = [evaluate(vectors, text, "") for text in ("woman", "king + queen")]  # (1, 1, 0) and (1, 4, 0)
    found = project(np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]]), axes)
    assert np.hypot(*found.coordinates[0]) == pytest.approx(5)  # the plane of the first two numbers
    assert found.coordinates[0, 0] == pytest.approx(7 / math.sqrt(2))
    assert found.coordinates[1].tolist() == pytest.approx([0, 0])


def test_one_axis_is_joined_by_a_principal_direction(words):
    vectors = read_words(words)
    points = np.array([[0.0, 1, 0], [5, 1, 0], [0, 1, 7]])
    found = project(points, [evaluate(vectors, "woman - man", "")])
    assert found.axes == ("woman - man", "principal direction 1")
    assert found.coordinates.tolist() == pytest.approx(np.array([[0, 0], [5, 0], [0, 7]]), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["king", "--axes", "cat", "--axes", "cats"], "--axes: lies in the axes before it; got 'cats'\n"),
        (["king", "--axes", "cat - cat"], "--axes: is the zero vector, which has no direction; got 'cat - cat'\n"),
        (["--along", "cat", "cats"], "--plot: needs points that differ in two directions; name more words\n"),
    ],
)
@pytest.mark.usefixtures("plotly")
def test_axes_that_make_no_slice_are_one_line(words, tmp_path, arguments, line):
    done = ask("embed", words, *arguments, "--plot", str(tmp_path / "page.html"))
    assert (done.code, done.out, done.err) == (2, "", line)
    assert not (tmp_path / "page.html").exists()


def test_without_plotly_it_is_said_what_to_install(words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    done = ask("embed", words, "king", "--plot", str(tmp_path / "page.html"))
    assert (done.code, done.out) == (3, "")
    assert done.err == "--plot: needs the package plotly; pip install 'archcalc[plot]'\n"


def test_plotly_draws_the_page_where_it_is_installed(words, tmp_path):
    pytest.importorskip("plotly", reason="the extra plot")
    page = tmp_path / "page.html"
    for more in ([], ["--axes", "woman - man", "--axes", "king"]):
        assert ask("embed", words, "king - man + woman", "--plot", str(page), *more).code == 0
        assert "king - man + woman" in page.read_text()
