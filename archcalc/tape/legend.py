"""The legend: what each dimension letter means, in the YAML, on the tape, in reports, and at the end of a local's name
in the reference model (`q_BSGRK`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from archcalc.arguments import LARGEST_SIZE, same_shape
from archcalc.arguments import size as checked
from archcalc.errors import TapeError

Size = Any  # an int for one model, a numpy array for a grid of models: nothing below can tell them apart
Mask = Any  # a condition on sizes: a bool of ints, an array of arrays
Env = Mapping[str, Size]
Cuts = Mapping[str, tuple[tuple[str, ...], ...]]
"""Labels that an axis of a parallel plan cuts. Where several stand together the first is cut as far as it goes, and
what is left of the axis cuts the next: key/value heads, then the query heads of each.
"""


def legend(*entries: tuple[str, str]) -> dict[str, str]:
    """A mapping from label to meaning; a label registered twice is an error."""
    meanings: dict[str, str] = {}
    for label, meaning in entries:
        if label in meanings:
            raise TapeError(f"label {label!r} is registered twice: {meanings[label]!r} and {meaning!r}")
        meanings[label] = meaning
    return meanings


LABELS = legend(
    ("B", "sequences in the batch"),
    ("N", "positions, as the residual stream holds them"),
    ("S", "positions, as a mixer computes them"),
    ("T", "positions, as keys and values are read"),
    ("Q", "query-key pairs that are scored"),
    ("P", "positions that a learned table holds (context_length)"),
    ("D", "features of the residual stream (d_model)"),
    ("V", "tokens in the vocabulary (vocab_size)"),
    ("unit", "one number"),
)
"""Those of the frame; a block declares its own."""


COPIES: set[str] = set()
"""Labels that count alike vectors, not features."""

PAIRS: dict[str, str] = {"T": "Q"}
"""By what keys are numbered, and the label of their pairs with queries."""


def declare(labels: Mapping[str, str], copies: Iterable[str] = (), pairs: Mapping[str, str] | None = None) -> None:
    """Add a block's labels to the legend. Raises TapeError for one that has another meaning already."""
    COPIES.update(copies)
    PAIRS.update(pairs or {})
    for label, meaning in labels.items():
        if LABELS.setdefault(label, meaning) != meaning:
            raise TapeError(f"label {label!r} is registered twice: {LABELS[label]!r} and {meaning!r}")


MARK = "'"
"""What tells the labels of two blocks of one layer apart: F is the first's, F' the second's."""


def stem(label: str) -> str:
    """A label without the mark that tells two blocks of one layer apart."""
    return label.partition(MARK)[0]


COMPOSITES = legend(("X", "R S"), ("H", "G R"))  # the queries that share a key/value head in one axis; all heads

CATEGORIES = legend(
    ("embedding", "a vector for each token"),
    ("key", "what a position offers to be found by"),
    ("query", "what a position looks for"),
    ("value", "what a position hands on"),
    ("output", "what the heads found, written back"),
    ("up_projection", "into the MLP; gates count here too"),
    ("down_projection", "out of the MLP"),
    ("unembedding", "a score for each token"),
)
"""The eight kinds of matrix of the tally, in its order."""

BRIDGE = legend(
    ("positions", "learned positions"),
    ("biases", "biases"),
    ("norms", "norms, gains and biases"),
)
"""Weights that a checkpoint stores and the tally of matrices leaves out. A block may have others, by a name of its
own: they follow these in the order of the forward pass."""


@lru_cache(4_096)  # each pass writes the same axes again; labels are only ever added
def parse(text: str) -> tuple[tuple[str, ...], ...]:
    """Axes written as in einsum: `"(G R K) D"` is two axes, the first of three labels."""
    axes: list[tuple[str, ...]] = []
    group: list[str] | None = None
    for word in text.replace("(", " ( ").replace(")", " ) ").split():
        if word == "(":
            if group is not None:
                raise TapeError(f"{text!r}: a group inside a group")
            group = []
        elif word == ")":
            if not group:
                raise TapeError(f"{text!r}: a group ends that is empty or never began")
            axes.append(tuple(group))
            group = None
        elif stem(word) not in LABELS:
            raise TapeError(f"{text!r}: {word!r} is not in the legend")
        elif group is None:
            axes.append((word,))
        else:
            group.append(word)
    if group is not None:
        raise TapeError(f"{text!r}: a group never ends")
    flat = [label for axis in axes for label in axis]
    if len(set(flat)) != len(flat):
        raise TapeError(f"{text!r}: a label stands twice")
    return tuple(axes)


@lru_cache(4_096)
def labels(text: str) -> tuple[str, ...]:
    """The axes of a tensor, one label each: `"B N D"`."""
    axes = parse(text)
    if any(len(axis) > 1 for axis in axes):
        raise TapeError(f"{text!r}: a tensor's axes have one label each")
    return tuple(axis[0] for axis in axes)


def volume(over: Iterable[str], env: Env) -> Size:
    """Elements of an array whose axes carry the labels `over`: the product of their sizes."""
    n: Size | None = None
    for label in over:  # not by `product`: every count of every op passes here
        n = env[label] if n is None else n * env[label]
    return 1 if n is None else n


def product(sizes: Iterable[Size]) -> Size:
    """The product, multiplied in a loop, so that Python's ints stay exact and numpy's arrays broadcast; of none 1."""
    rest = iter(sizes)
    n: Size = next(rest, 1)
    for size in rest:
        n = n * size
    return n


def add(numbers: Iterable[Size]) -> Size:
    """The sum, from 0, of ints, arrays or formulas."""
    ints, total = 0, None
    rest = iter(numbers)
    for n in rest:
        if isinstance(n, int):  # most are 0, and an array takes its time to add nothing
            ints += n
        elif hasattr(n, "with_all"):  # a formula: a sum of thousands would be copied thousands of times
            return ints + (0 if total is None else total) + n.with_all(rest)
        else:
            total = n if total is None else total + n
    return ints if total is None else total + ints if ints else total


def largest(numbers: Iterable[Size]) -> Size:
    """The largest from 0 up, element by element where they are arrays."""
    most: Size = 0
    for n in numbers:
        many = hasattr(n, "dtype") or hasattr(most, "dtype")
        most = maximum(most, n) if many else most + (n - most) * (n > most)
    return most


def maximum(one: Size, other: Size) -> Size:
    """The larger of two in each row, where one is an array at least."""
    import numpy as np

    return np.maximum(one, other)


def alongside(numbers: Sequence[Size], axes: int) -> Size:
    """Numbers of several cases as one array with a new first axis, before so many `axes`; alike ones as they are."""
    if all(n is numbers[0] for n in numbers):
        return numbers[0]
    import numpy as np

    arrays = [np.array(n, ndmin=axes) for n in numbers]
    shape = np.broadcast(*arrays).shape
    found = np.empty((len(arrays), *shape), bool if arrays[0].dtype == bool else float)
    for i, array in enumerate(arrays):
        found[i] = array
    return found


def choose(mask: Mask, here: Size, elsewhere: Size) -> Size:
    """`here` where the mask holds, `elsewhere` where not."""
    if isinstance(mask, bool):
        return here if mask else elsewhere
    if here is elsewhere:
        return here
    return elsewhere + (here - elsewhere) * mask


def where(mask: Mask, n: Size) -> Size:
    """The number where the mask holds, 0 where not."""
    return n if mask is True else n * mask


def least(one: Size, other: Size) -> Size:
    """The smaller of two, element by element where they are arrays; of equals the first."""
    return choose(other < one, other, one)


def quotient(n: Size, parts: Size) -> Size:
    """`n // parts`, for arrays too, where a float a hair below a whole number is that number."""
    if not (hasattr(n, "dtype") or hasattr(parts, "dtype")):
        return n // parts
    q = n / parts
    near = q.round()
    return choose(abs(q - near) <= 1e-12 * near, near, q // 1)


def anywhere(mask: Mask) -> bool:
    """Whether a condition holds, of any where it is asked about many."""
    return bool(mask.any()) if hasattr(mask, "any") else bool(mask)


def environment(*sizes: Env) -> dict[str, Size]:
    """The sizes of a tape's labels, put together.

    Raises TapeError where a label has two sizes: two blocks of one tape may not share a label and differ.

    Arrays become float64 here, before any product: int64 overflows in silence at GPT-3's scale.
    """
    found: dict[str, Size] = {}
    plain = True
    for env in sizes:
        for label, n in env.items():
            if type(n) is int and 0 < n <= LARGEST_SIZE and found.get(label, n) is n:  # nearly all are
                found[label] = n
                continue
            plain = False
            # The sizes of a grid are float64, and are checked by whoever makes it.
            known = label == "Q" or (getattr(n, "ndim", False) and n.dtype == "float64")
            size = n if known else checked("Model", label, n, LARGEST_SIZE**2)
            differ: Any = label in found and found[label] != size
            if bool(differ.any() if hasattr(differ, "any") else differ):
                raise TapeError(f"label {label!r} has two sizes in one tape: {found[label]} and {size}")
            found[label] = size
    if plain:
        return found
    same_shape("Model", found.items())
    if "Q" in found and any(getattr(n, "ndim", False) for n in found.values()) and hasattr(found["Q"], "denominator"):
        found["Q"] = float(found["Q"])  # may be a half: an array times a Fraction is an array of objects
    return found
