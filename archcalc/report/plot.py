"""A slice of a space of words as one page of HTML, drawn by plotly; the page needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from archcalc.errors import cut
from archcalc.packages import missing
from archcalc.report.vectors import quoted
from archcalc.words.vectors import Slice, Sum, Vectors, project

_MARKS = ("circle", "diamond", "square")  # a group is told by its mark too, not by colour alone
_COLOURS = ("#c44e52", "#117733", "#4c72b0")
_LINES = "#888888"
_LONGEST_NAME = 60  # characters of the name of an axis


class Point(NamedTuple):
    """A vector with a label, in a group that shares a mark."""

    label: str
    group: str
    vector: Any


class Points(NamedTuple):
    """What is drawn: points, and lines between labels of points."""

    points: tuple[Point, ...]
    lines: tuple[tuple[str, str], ...]


def load_plotly() -> Any:
    """Plotly's graph objects. Raises Missing without the package."""
    try:
        from plotly import graph_objects
    except ModuleNotFoundError as error:
        raise missing(error, "--plot", "plot") from None
    return graph_objects


def points_of(vectors: Vectors, sums: Sequence[Sum], neighbours: Sequence[tuple[str, int]]) -> Points:
    """The words of the sums, what came out of the sums, the neighbours; each once, with a line for each difference.

    A difference of two words is a line from one to the other; any other sum is a point, and a line to it.
    """
    points: dict[str, Point] = {}
    lines: dict[tuple[str, str], None] = {}
    for one in sums:
        labels = [vectors.label(row) for row in one.rows]
        for label, row in zip(labels, one.rows, strict=True):
            points.setdefault(label, Point(label, "words", vectors.row(row)))
        if [term.factor for term in one.terms] == [1, -1]:
            lines[labels[1], labels[0]] = None
        elif len(one.terms) > 1:
            points.setdefault(one.text, Point(one.text, "sums", one.vector))
            lines[labels[0], one.text] = None
    for label, row in neighbours:
        points.setdefault(label, Point(label, "neighbours", vectors.row(row)))
    return Points(tuple(points.values()), tuple(lines))


def plot_page(title: str, drawn: Points, axes: Sequence[Sum]) -> str:
    """The page, on the axes chosen or on principal directions of the points."""
    import numpy as np

    graph = load_plotly()
    points = drawn.points
    found = project(np.array([point.vector for point in points]), axes)
    places = {point.label: tuple(map(float, place)) for point, place in zip(points, found.coordinates, strict=True)}
    traces = [
        _trace(graph, found, [places[a], places[b]], mode="lines", hoverinfo="skip", line={"color": _LINES})
        for a, b in drawn.lines
    ]
    deep = len(found.axes) == 3
    for n, group in enumerate(dict.fromkeys(point.group for point in points)):
        labels = [point.label for point in points if point.group == group]
        written = {"mode": "markers"} if deep else {"mode": "markers+text", "cliponaxis": False}
        traces.append(
            _trace(
                graph,
                found,
                [places[label] for label in labels],
                name=group,
                text=[_written(label) for label in labels],
                hoverinfo="text",
                textposition="top center",
                marker={"symbol": _MARKS[n], "size": 5 if deep else 8, "color": _COLOURS[n]},
                **written,
            )
        )
    return str(graph.Figure(data=traces, layout=_layout(title, found, places)).to_html(include_plotlyjs=True))


def _written(label: str) -> str:
    return _literal(quoted(label))


def _literal(text: str) -> str:
    """A text as plotly takes it, which reads tags in it."""
    return escape(text, quote=False)


def _trace(graph: Any, found: Slice, places: Sequence[tuple[float, ...]], **rest: Any) -> Any:
    coordinates = dict(zip("xyz", map(list, zip(*places, strict=True)), strict=False))
    kind = graph.Scatter3d if len(found.axes) == 3 else graph.Scatter
    return kind(**coordinates, showlegend=rest["mode"] != "lines", **rest)


def _layout(title: str, found: Slice, places: dict[str, tuple[float, ...]]) -> dict[str, Any]:
    titles: dict[str, Any] = {
        f"{letter}axis": {"title": {"text": _literal(f"{letter}: {cut(axis, _LONGEST_NAME)}")}}
        for letter, axis in zip("xyz", found.axes, strict=False)
    }
    drawn = {"title": {"text": _literal(title)}}
    if len(found.axes) == 3:
        margin = {"l": 20, "r": 20, "b": 20, "t": 80}
        return {**drawn, "margin": margin, "scene": {**titles, **_box(titles, places)}}
    titles["yaxis"]["scaleanchor"] = "x"  # a length is as long in both directions
    return {**drawn, **titles}


def _box(titles: dict[str, Any], places: dict[str, tuple[float, ...]]) -> dict[str, Any]:
    """A box around the points with room at its sides, seen from where its axes and their names are in the picture.

    A length is as long in all three directions. Labels are notes that lie over the scene: text within it is cut off
    at the sides of the box and hidden by what stands before it.
    """
    bounds = [(min(numbers), max(numbers)) for numbers in zip(*places.values(), strict=True)]
    room = 0.08 * max(high - low for low, high in bounds)
    for axis, (low, high) in zip(titles.values(), bounds, strict=True):
        axis["range"] = [low - room, high + room]
        axis["title"]["font"] = {"size": 11}
    sides = [high - low + 2 * room for low, high in bounds]
    notes = [
        {**dict(zip("xyz", place, strict=True)), "text": _written(label), "showarrow": False, "yshift": 12}
        for label, place in places.items()
    ]
    return {
        "aspectmode": "manual",
        "aspectratio": {letter: side / max(sides) for letter, side in zip("xyz", sides, strict=True)},
        "camera": {"eye": {"x": 1.4, "y": 1.4, "z": 0.8}, "center": {"x": 0, "y": 0, "z": -0.1}},
        "annotations": notes,
    }
