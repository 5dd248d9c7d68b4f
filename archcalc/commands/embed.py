"""The command embed: words as vectors."""

import os
from typing import Annotated

import typer

from archcalc.commands.base import RUN, Form, Output, app, number, typed
from archcalc.commands.weights import weights_of
from archcalc.errors import Invalid, Problem, shown
from archcalc.report.output import emit, tell, write
from archcalc.words.vectors import MOST_AXES, Vectors

MOST_NEIGHBOURS = 1_000
_TOP = "10"  # neighbours, if not given


@app.command(rich_help_panel=RUN)
def embed(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="vectors: word2vec or GloVe, .npy, - for text in a pipe; or a model: folder, .gguf, .safetensors",
        ),
    ],
    expressions: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPRESSION",
            show_default=False,
            help="word or sum of words, such as 'king - man + woman'; several with --along",
        ),
    ],
    along: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPRESSION",
            show_default=False,
            help="direction to measure the expressions along, such as 'cats - cat'",
        ),
    ] = None,
    top: Annotated[str, typer.Option(metavar="N", help="number of neighbours to show")] = _TOP,
    rank: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", show_default=False, help="word to show too, however far; may repeat"),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE.html", show_default=False, help="page to write, with a plot of the vectors"),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPRESSION",
            show_default=False,
            help="axis of the plot; may repeat, up to 3; default: principal components",
        ),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="words of an .npy, one a line or a parquet; default: the file beside it that has as many",
        ),
    ] = None,
    average: Annotated[bool, typer.Option("--average", help="mean of the tokens of a word of several")] = False,
    unit: Annotated[bool, typer.Option("--unit", help="vectors made unit length before sums, as in gensim")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="nothing kept of what was read, nothing taken")] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Explore word vectors: nearest words, directions, plots.

    Example: archcalc embed glove.txt 'king - man + woman'
    """
    from archcalc.report.plot import load_plotly, plot_page, points_of
    from archcalc.report.vectors import along_sheet, neighbours_sheet
    from archcalc.words import vectors as space
    from archcalc.words.cache import Cache
    from archcalc.words.sources import open_vectors

    expressions, axes, rank = ([typed(text) for text in texts or ()] for texts in (expressions, axes, rank))
    direction = _only([typed(text) for text in along or ()])
    count = number("--top", top, MOST_NEIGHBOURS)
    _refuse_what_does_not_go_together(expressions, direction, top, rank, plot, axes)
    if plot is not None:
        load_plotly()  # a missing package is reported before a large file is read
    cache = Cache(used=not no_cache)
    folder = weights_of(source) if os.path.isdir(source) else source
    vectors = open_vectors(folder, words, cache, average=average)
    asked = [space.evaluate(vectors, text, "EXPRESSION", unit=unit) for text in expressions]
    chosen = [space.evaluate(vectors, text, "--axes", unit=unit).pointing("--axes") for text in axes or ()]
    sums, others = asked, []
    if direction is not None:
        pointed = space.evaluate(vectors, direction, "--along", unit=unit).pointing("--along")
        sheet = along_sheet(vectors, pointed, asked, space.measure(pointed, asked), unit=unit)
        sums = [pointed, *asked]
    else:
        also = [_row(vectors, word) for word in rank or ()]
        found = space.neighbours(vectors, asked[0].pointing("EXPRESSION"), count, also, unit=unit)
        sheet = neighbours_sheet(vectors, asked[0], found, unit=unit)
        others = [(neighbour.word, neighbour.row) for neighbour in found]
    if plot is not None:
        write(plot_page(sheet.title, points_of(vectors, [*sums, *chosen], others), chosen), plot)
    emit(sheet, form, output)
    for line in cache.said:
        tell(line)


def _only(directions: list[str]) -> str | None:
    """The direction that was named, if any. Raises Invalid for several."""
    if len(directions) > 1:
        fix = "ask for each by itself"
        raise Invalid(Problem("--along", "may be given once", value=shown(directions[1]), suggestion=fix))
    return directions[0] if directions else None


def _row(vectors: Vectors, text: str) -> int:
    """The row of a word that is to be shown, quotes around it meaning what they do in a sum.

    Raises Invalid where it has several.
    """
    quoted = len(text) > 2 and text[0] in "'\"" and text[0] == text[-1]
    rows = vectors.find(text[1:-1] if quoted else text, "--rank", exact=quoted).rows
    if len(rows) > 1:
        raise Invalid(Problem("--rank", "is several tokens, which have a row each", value=shown(text)))
    return rows[0]


def _refuse_what_does_not_go_together(
    expressions: list[str],
    along: str | None,
    top: str,
    rank: list[str] | None,
    plot: str | None,
    axes: list[str] | None,
) -> None:
    if along is None and len(expressions) > 1:
        fix = "put quotes around a sum, or use --along"
        raise Invalid(Problem("archcalc embed", "takes one EXPRESSION", value=shown(expressions[1]), suggestion=fix))
    if along is not None and top != _TOP:
        raise Invalid(Problem("--top", "cannot be combined with --along, which lists no neighbours", value=shown(top)))
    if along is not None and rank:
        raise Invalid(Problem("--rank", "cannot be combined with --along, which lists no neighbours"))
    if axes and plot is None:
        raise Invalid(Problem("--axes", "needs a --plot"))
    if len(axes or ()) > MOST_AXES:
        raise Invalid(Problem("--axes", f"can be given at most {MOST_AXES} times", value=f"{len(axes or ())}"))
    if plot is not None and not plot.lower().endswith((".html", ".htm")):
        raise Invalid(Problem("--plot", "must end in .html", value=shown(plot)))
