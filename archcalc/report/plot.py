"""A slice of a space of words as one page of HTML, drawn by plotly; the page needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from archcalc.errors import Missing, Problem
from archcalc.report.vectors import quoted
from archcalc.vectors import Slice, Sum, Vectors, project

_MARKS = ("circle", "diamond", "square")  # a group is told by its mark too, not by colour alone


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
        fix = "pip install 'archcalc[plot]'"
        raise Missing(Problem("--plot", f"needs the package {error.name}", suggestion=fix)) from None
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
    traces = [_trace(graph, found, [places[a], places[b]], mode="lines", hoverinfo="skip") for a, b in drawn.lines]
    for n, group in enumerate(dict.fromkeys(point.group for point in points)):
        labels = [point.label for point in points if point.group == group]
        traces.append(
            _trace(
                graph,
                found,
                [places[label] for label in labels],
                mode="markers+text",
                name=group,
                text=[escape(quoted(label)) for label in labels],  # plotly reads tags in a text
                textposition="top center",
                marker={"symbol": _MARKS[n], "size": 5},
            )
        )
    return str(graph.Figure(data=traces, layout=_layout(title, found.axes)).to_html(include_plotlyjs=True))


def _trace(graph: Any, found: Slice, places: Sequence[tuple[float, ...]], **rest: Any) -> Any:
    coordinates = dict(zip("xyz", map(list, zip(*places, strict=True)), strict=False))
    kind = graph.Scatter3d if len(found.axes) == 3 else graph.Scatter
    return kind(**coordinates, showlegend=rest["mode"] != "lines", **rest)


def _layout(title: str, axes: Sequence[str]) -> dict[str, Any]:
    titles: dict[str, Any] = {
        f"{letter}axis": {"title": {"text": escape(axis)}} for letter, axis in zip("xyz", axes, strict=False)
    }
    drawn = {"title": {"text": escape(title)}}
    if len(axes) == 3:
        return {**drawn, "scene": {**titles, "aspectmode": "data"}}
    titles["yaxis"]["scaleanchor"] = "x"  # a length is as long in both directions
    return {**drawn, **titles}
