"""Word vectors: sums, nearest words, projections on a direction, and a plot of two or three dimensions.

Where the vectors come from, a file of words or a model's own table, is for those who derive from Vectors. They come in
blocks of rows, so that nothing here holds a second copy of them all.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.errors import Invalid, Problem, nearest, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

BLOCK = 4 * 2**20  # bytes of float32 that are worked on at a time
MOST_AXES = 3

_TOKEN = re.compile(r"""\s*(?:"([^"]*)"(?=\s|$)|'([^']*)'(?=\s|$)|(\S+))""")
_FACTOR = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")
_MANY = 20_000  # words that difflib compares in a blink


class Place(NamedTuple):
    """Where a word's vector is, and what must be said about how it was found, if anything.

    Of several rows it is the mean.
    """

    rows: tuple[int, ...]
    note: str | None = None


class Vectors(ABC):
    """A table with a row for each word."""

    name: str
    dimensions: int
    warnings: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def label(self, row: int) -> str:
        """The word of a row."""

    @abstractmethod
    def find(self, word: str, where: str, *, exact: bool = False) -> Place:
        """The place of a word, `exact` as it is written. Raises Invalid, at `where`, for one that has none."""

    @abstractmethod
    def blocks(self) -> Iterator[Array]:
        """All rows in their order, in float32 and finite, about BLOCK bytes at a time."""

    @abstractmethod
    def row(self, row: int) -> Array:
        """One row in float64."""

    def unknown(self, word: str, where: str) -> Invalid:
        """What to raise for a word that is not there: it names those that are spelled most like it."""
        if fix := unparted(word):
            return Invalid(Problem(where, f"is not a word of {self.name}", value=shown(word), suggestion=fix))
        words = [self.label(row) for row in range(len(self))]
        same = [other for other in words if other.casefold() == word.casefold()]
        if not same and len(words) > _MANY:  # difflib would take minutes for millions
            first, length = word[:1].casefold(), len(word)
            words = [w for w in words if abs(len(w) - length) <= 1 and w[:1].casefold() == first][:_MANY]
        near = same[:3] or nearest(word, words, 3)
        fix = f"nearest: {', '.join(near)}" if near else None
        return Invalid(Problem(where, f"is not a word of {self.name}", value=shown(word), suggestion=fix))


def unparted(word: str) -> str | None:
    """What to write in place of a sum without blanks; None of a word with a hyphen, or of none of these."""
    signs = re.findall(r"(?<=\w)[-+*](?=\w)", word)
    return None if signs in ([], ["-"]) else "blanks stand around + and -, as in 'king - man + woman'"


def rows_at_a_time(dimensions: int) -> int:
    """How many rows make a block."""
    return max(BLOCK // (4 * dimensions), 1)


class Term(NamedTuple):
    """A word of a sum, and how often it is added; a word in quotes is taken as it is written, `exact`."""

    factor: float
    word: str
    exact: bool = False


def read_sum(text: str, where: str) -> tuple[Term, ...]:
    """The terms of `king - man + woman`: words with + or - between them, each perhaps after a factor, `0.5 king`.

    Signs stand free, since words have hyphens; "a word" in quotes may have blanks, or be a sign.

    Raises Invalid, at `where`, for anything else.
    """
    parts = [(match[match.lastindex or 0], match[3] is None) for match in _TOKEN.finditer(text.strip())]
    signs = {
        n: 1.0 if part == "+" else -1.0 for n, (part, quoted) in enumerate(parts) if part in ("+", "-") and not quoted
    }
    terms: list[Term] = []
    n = 0
    while n < len(parts):
        if terms and n not in signs:
            why = "write + or - between words, and quotes around a word with blanks"
            raise _no_sum(text, where, f"has no sign before {shown(parts[n][0])}", why)
        factor = signs.get(n, 1.0)
        n += n in signs
        # A number is a factor where a word follows, and else a word itself, as in `2 - 1`.
        if n + 1 < len(parts) and n + 1 not in signs and not parts[n][1] and _FACTOR.fullmatch(parts[n][0]):
            factor *= float(parts[n][0])
            n += 1
        if n == len(parts):
            raise _no_sum(text, where, "ends where a word should be")
        word = parts[n][0]
        if n in signs or not word:
            raise _no_sum(text, where, f"has {shown(word)} where a word should be")
        terms.append(Term(factor, word, parts[n][1]))
        n += 1
    if not terms:
        raise _no_sum(text, where, "is empty")
    return tuple(terms)


def _no_sum(text: str, where: str, message: str, suggestion: str | None = None) -> Invalid:
    return Invalid(Problem(where, message, value=shown(text.strip()), suggestion=suggestion))


class Sum(NamedTuple):
    """A sum of words: the vector that came out, the rows that went in and what was said about finding them."""

    text: str
    terms: tuple[Term, ...]
    rows: tuple[int, ...]
    vector: Array
    notes: tuple[str, ...]

    @property
    def length(self) -> float:
        """Of the vector."""
        import numpy as np

        return float(np.sqrt(self.vector @ self.vector))

    def pointing(self, where: str) -> Sum:
        """The same, if it points anywhere. Raises Invalid, at `where`, for the zero vector."""
        if self.length == 0:
            raise Invalid(Problem(where, "is the zero vector, which has no direction", value=shown(self.text)))
        return self


def evaluate(vectors: Vectors, text: str, where: str, *, unit: bool = False) -> Sum:
    """The sum that `text` writes; with `unit` each word's vector is made unit length before, as gensim does.

    Raises Invalid, at `where`, for no sum and for words that are not there.
    """
    import numpy as np

    terms = read_sum(text, where)
    places = [vectors.find(term.word, where, exact=term.exact) for term in terms]
    vector = np.zeros(vectors.dimensions)
    for term, place in zip(terms, places, strict=True):
        word = np.mean([vectors.row(row) for row in place.rows], axis=0)
        if unit and (length := np.sqrt(word @ word)):
            word = word / length
        vector += term.factor * word
    notes = dict.fromkeys(place.note for place in places if place.note)
    said = terms[0].word if len(terms) == 1 and terms[0].factor == 1 else text.strip()
    return Sum(said, terms, tuple(row for place in places for row in place.rows), vector, tuple(notes))


class Neighbour(NamedTuple):
    """A word, how near it is, and its rank: without the words that were put in, and among all.

    `rank` is None for a word that was put in, `cosine` for the zero vector.
    """

    word: str
    row: int
    rank: int | None
    rank_with_inputs: int
    cosine: float | None
    dot: float


def neighbours(
    vectors: Vectors, target: Sum, top: int, also: Sequence[int] = (), *, unit: bool = False
) -> list[Neighbour]:
    """The `top` words of the largest cosine with the target, those put in where they come between, and `also`.

    With `unit` the dot products are with vectors of unit length.
    """
    import numpy as np

    dots, cosines = np.empty(len(vectors)), np.empty(len(vectors))
    start = 0
    for block in vectors.blocks():
        here = slice(start, start := start + len(block))
        dots[here], cosines[here] = _compare(block, target)
    if unit:
        dots = np.where(np.isnan(cosines), 0.0, cosines * target.length)
    order = np.argsort(-cosines, kind="stable")  # the zero vectors, nan, come last
    inputs = set(target.rows)
    wanted, found, passed = set(also), [], 0
    for position, row in enumerate(map(int, order)):
        before, inside = position - passed, row in inputs
        if row in wanted or before < top:
            cosine = None if np.isnan(cosines[row]) else float(np.clip(cosines[row], -1, 1))
            rank = None if inside else before + 1
            found.append(Neighbour(vectors.label(row), row, rank, position + 1, cosine, float(dots[row])))
            wanted.discard(row)
        elif not wanted:
            break
        passed += inside
    return found


def _compare(block: Array, target: Sum) -> tuple[Array, Array]:
    """Dot product and cosine of each row, in float64, of which one block at a time is held."""
    import numpy as np

    rows = block.astype(np.float64)
    # Not by BLAS, which would wake a thread on each core: they wait more than they work.
    dots = np.einsum("nd,d->n", rows, target.vector)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows)) * target.length
    return dots, np.divide(dots, lengths, out=np.full(len(rows), np.nan), where=lengths > 0)


class Measured(NamedTuple):
    """A word's dot product with a direction, and the cosine between them; None for the zero vector."""

    word: str
    dot: float
    cosine: float | None


def measure(direction: Sum, words: Sequence[Sum]) -> list[Measured]:
    """How far along a direction each word is."""
    found = []
    for word in words:
        dot, lengths = float(direction.vector @ word.vector), direction.length * word.length
        found.append(Measured(word.text, dot, max(-1.0, min(dot / lengths, 1.0)) if lengths else None))
    return found


class Slice(NamedTuple):
    """Where points are on two or three axes at right angles, and what each axis is."""

    axes: tuple[str, ...]
    coordinates: Array


def project(points: Array, axes: Sequence[Sum]) -> Slice:
    """The points seen along the axes chosen, and where those are fewer than two, along where they differ the most.

    Without a choice there are three axes where the points differ in three directions. An axis that is not at a right
    angle to those before it loses the part along them, and its name says so. The name of a principal direction has
    its share of the variance: of the sum of the points' squared distances from their mean.

    Raises Invalid for axes that lie in each other and for points that differ in too few directions.
    """
    import numpy as np

    directions: list[Array] = []
    names: list[str] = []
    for axis in axes:
        rest = axis.vector - sum((axis.vector @ other) * other for other in directions)
        if (length := np.sqrt(rest @ rest)) <= 1e-6 * axis.length:
            raise Invalid(Problem("--axes", "is a combination of the axes before it", value=shown(axis.text)))
        slanted = length < (1 - 1e-6) * axis.length
        before = " and ".join("xyz"[: len(names)])
        names.append(f"{axis.text}, less its part along {before}" if slanted else axis.text)
        directions.append(rest / length)
    most = max(2, len(axes)) if axes else MOST_AXES
    if len(directions) < most:
        rest = points - points.mean(axis=0)
        variance = float((rest * rest).sum())
        for direction in directions:
            rest = rest - np.outer(rest @ direction, direction)
        _, spread, principal = np.linalg.svd(rest, full_matrices=False)
        # Points differ less than rounding does in the directions that are left out.
        real = spread > 1e-6 * np.abs(points).max()
        shares = [f"{100 * float(s * s) / variance:.0f}% of the variance" for s in spread[real]]
        found = zip(principal[real][: most - len(directions)], shares, strict=False)
        for n, (direction, share) in enumerate(found, 1):
            coordinates = points @ direction
            turn = np.sign(coordinates[np.argmax(np.abs(coordinates))]) or 1.0  # else its sign is chance
            directions.append(direction * turn)
            name = "principal direction of what is left" if axes else f"principal direction {n}"
            names.append(f"{name} ({share})")
    if len(directions) < 2:
        raise Invalid(Problem("--plot", "needs points that differ in two directions", suggestion="name more words"))
    return Slice(tuple(names), points @ np.array(directions).T)
