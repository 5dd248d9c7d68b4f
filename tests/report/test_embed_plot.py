"""Slices of a space: what is drawn, on which axes, with plotly or with what stands in for it."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command import ask
from space import write

from archcalc.packages import install_command
from archcalc.words.vectors import evaluate, project
from archcalc.words.wordfile import read_words


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
    assert Drawn.last.layout["xaxis"]["title"]["text"] == "x: woman - man"
    assert Drawn.last.layout["yaxis"]["title"]["text"] == "y: king"
    assert points.cliponaxis is False
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
    table = np.array([[0, 2, 0], [0, 1, 0], [1, 1, 0], [1, 2, 0], [1, 2, 0], [0, 0, 1], [0, 0, 2]])
    shares = np.linalg.eigvalsh(np.cov(table.T))[::-1] / np.trace(np.cov(table.T))
    assert [axes[f"{letter}axis"]["title"]["text"] for letter in "xyz"] == [
        f"{letter}: principal direction {n} ({100 * share:.0f}% of the variance)"
        for letter, n, share in zip("xyz", (1, 2, 3), shares, strict=True)
    ]


def test_no_label_of_a_scene_is_cut_off(tmp_path, plotly):
    """Text in a scene is cut at the sides of its box: labels are notes over it, and no point is at a side."""
    path = write(tmp_path, "a 9 0 0\n<b> 0 5 0\nc 0 0 1\nd 1 1 0\n")
    assert ask("embed", path, "a - '<b>'", "--plot", str(tmp_path / "page.html")).code == 0
    scene = Drawn.last.layout["scene"]
    points = [trace for trace in Drawn.last.data if isinstance(trace, plotly.Scatter3d) and trace.mode != "lines"]
    assert {trace.mode for trace in points} == {"markers"}
    places = {
        text: place
        for trace in points
        for text, place in zip(trace.text, zip(trace.x, trace.y, trace.z, strict=True), strict=True)
    }
    assert {note["text"]: (note["x"], note["y"], note["z"]) for note in scene["annotations"]} == places
    assert set(places) == {"a", "&lt;b&gt;", "c", "d"}
    ranges = [scene[f"{letter}axis"]["range"] for letter in "xyz"]
    for place in places.values():
        assert all(low < number < high for number, (low, high) in zip(place, ranges, strict=True))
    sides = [high - low for low, high in ranges]
    ratio = [scene["aspectratio"][letter] for letter in "xyz"]  # a length is as long in each direction
    assert [side / one for side, one in zip(sides, ratio, strict=True)] == pytest.approx([max(sides)] * 3)
    assert max(ratio) == 1


def test_an_axis_is_named_for_what_it_is(words):
    vectors = read_words(words)
    axes = [evaluate(vectors, text, "") for text in ("woman - man", "king + woman", "cat + queen")]
    found = project(np.eye(3), axes)
    assert found.axes == (
        "woman - man",
        "king + woman, less its part along x",
        "cat + queen, less its part along x and y",
    )
    right = [evaluate(vectors, text, "") for text in ("woman - man", "king", "cat")]
    assert project(np.eye(3), right).axes == ("woman - man", "king", "cat")


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
    left = 2 * 7**2 / 9 + 7**2 * 4 / 9  # squared distances from their mean, 7 / 3, along the third direction
    share = 100 * left / (left + 2 * 5**2 / 9 + 5**2 * 4 / 9)
    assert found.axes == ("woman - man", f"principal direction of what is left ({share:.0f}% of the variance)")
    assert found.coordinates.tolist() == pytest.approx(np.array([[0, 0], [5, 0], [0, 7]]), abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["king", "--axes", "cat", "--axes", "cats"], "--axes: is a combination of the axes before it; got 'cats'\n"),
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
    assert done.err == f"--plot: needs the package plotly; {install_command('plot')}\n"


def test_plotly_draws_the_page_where_it_is_installed(words, tmp_path):
    pytest.importorskip("plotly", reason="the extra plot")
    page = tmp_path / "page.html"
    for more in ([], ["--axes", "woman - man", "--axes", "king"]):
        assert ask("embed", words, "king - man + woman", "--plot", str(page), *more).code == 0
        assert "king - man + woman" in page.read_text()
