"""Check the arguments of the library's public functions, with the same words as the command line.

A size may also be an array (of a grid) or a formula (of `explain`); both are made from sizes that were checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from archcalc.errors import LONGEST_VALUE, Invalid, Problem, cut, shown

LARGEST_SIZE = 2**32

T = TypeVar("T")


def checked(fields: Any, check: Callable[[Any], Any]) -> Callable[[type[T]], type[T]]:
    """A decorator of a class that derives from the NamedTuple `fields`: every instance passes `check` as it is made.

    `_replace`, copies and pickles make theirs in the same place. `check` takes and returns a `fields`.
    """

    def dressed(kind: Any) -> Any:
        @wraps(fields.__new__)
        def new(cls: Any, *given: Any, **named: Any) -> Any:
            return cls._make(fields(*given, **named))

        def make(cls: Any, given: Iterable[Any]) -> Any:
            return tuple.__new__(cls, check(fields._make(given)))

        kind.__new__, kind._make = new, classmethod(make)
        return kind

    return dressed


def size(where: str, name: str, value: Any, most: int = LARGEST_SIZE, least: int = 1) -> Any:
    """A size as a Python int, or an array of sizes as float64, so that no product overflows.

    Raises Invalid for what is not an integer (a bool, a float) or not from `least` to `most`; of an array the message
    shows the first such element.
    """
    if hasattr(type(value), "letters"):
        return value
    if hasattr(value, "dtype"):
        if value.ndim:
            return _sizes(where, name, value, most, least)
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(Problem(where, "must be an integer", name, value=shown(value)))
    if not least <= value <= most:
        raise Invalid(Problem(where, f"must be from {least} to {most:,}", name, value=integer(value)))
    return int(value)


def _sizes(where: str, name: str, values: Any, most: int, least: int) -> Any:
    """An array of sizes as float64: narrow integers overflow in silence, and so does int64 at GPT-3's scale."""
    if getattr(values.dtype, "kind", "") not in ("i", "u", "f"):  # a tensor's type has no kind
        raise Invalid(Problem(where, "must be integers", name, value=shown(values)))
    if not values.size:
        raise Invalid(Problem(where, "is empty", name))
    values = values.astype("float64", copy=False)
    if (wrong := values != values.round()).any():
        raise Invalid(Problem(where, "must be an integer", name, value=shown(first(values, wrong))))
    if (wrong := (values < least) | (values > most)).any():
        raise Invalid(Problem(where, f"must be from {least} to {most:,}", name, value=element(values, wrong)))
    return values


def first(value: Any, wrong: Any) -> Any:
    """The first element of an array where a mask holds; what is no array is itself."""
    if not getattr(wrong, "ndim", 0):
        return value
    return value[wrong][0].item() if getattr(value, "ndim", 0) else value


def element(value: Any, wrong: Any) -> str:
    """The first offending size of an array, or the size itself, as a message shows it."""
    found = first(value, wrong)
    return integer(int(found)) if abs(found) < float("inf") else shown(float(found))


def same_shape(where: str, sizes: Iterable[tuple[str, Any]]) -> None:
    """Raises Invalid for arrays of sizes that are not of one shape."""
    shapes = {name: value.shape for name, value in sizes if getattr(value, "ndim", 0)}
    if len(set(shapes.values())) > 1:
        raise Invalid(
            Problem(where, "must be arrays of one shape", ", ".join(shapes), value=shown(list(shapes.values())))
        )


def integer(value: int) -> str:
    """An integer of any length on one line."""
    if value.bit_length() > 200:  # Python refuses to write thousands of digits
        return f"an integer of {value.bit_length():,} bits"
    return cut(f"{value:,}", LONGEST_VALUE)


def choice(where: str, name: str, value: Any, choices: Iterable[str]) -> Any:
    """One of some words. Raises Invalid, which lists them."""
    words = tuple(choices)
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(map(repr, words))
        raise Invalid(Problem(where, f"{shown(value)} is not one of {listed}", name))
    return str(value)


def boolean(where: str, name: str, value: Any) -> bool:
    """True or False, numpy's too. Raises Invalid for anything else, also for 0 and 1."""
    value = value.item() if hasattr(value, "dtype") and not value.ndim else value
    if not isinstance(value, bool):
        raise Invalid(Problem(where, "must be True or False", name, value=shown(value)))
    return value


def instance(where: str, name: str, value: Any, kind: type) -> None:
    """Raises Invalid for an argument that is not a `kind`."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__.startswith(("A", "E", "I", "O", "U")) else "a"
        raise Invalid(Problem(where, f"must be {article} {kind.__name__}", name, value=shown(value)))


def records(where: str, model: Any) -> None:
    """Raises Invalid for what is not a Model (nor one in letters, nor a pass): a name, a path, a document."""
    if not (hasattr(model, "record") or hasattr(model, "segments")):
        fix = "archcalc.load reads one"
        raise Invalid(Problem(where, "must be a Model", "model", value=shown(model), suggestion=fix))
