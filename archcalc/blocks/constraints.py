"""Constraints on the sizes of a block, as data: the validator, grids of shapes and strategies read the same objects.

Each stands in the metadata of the field that it restricts, `Annotated[Count, Divides("n_heads")]`, and speaks of other
fields of the same block by name, or of a field inside by a path.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic_core import PydanticCustomError

from archcalc.tape.legend import Mask


@lru_cache(1_024)  # thousands of layers may have one mistake, and a number of 32 bits takes milliseconds
def divisors(n: int) -> tuple[int, ...]:
    """The divisors of n, ascending."""
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return (*small, *(n // d for d in reversed(small) if d * d != n))


def nearest_divisors(part: int, whole: int) -> str:
    """The two divisors of `whole` that are nearest to `part`, as a suggestion."""
    near = sorted(divisors(whole), key=lambda n: (abs(n - part), n))[:2]
    return f"nearest: {' or '.join(f'{n:,}' for n in sorted(near))}"


class Constraint:
    """What must hold of a size beside its range."""

    def holds(self, size: Any, block: Any) -> Mask:
        """Whether it holds of a size in a block; of arrays for each element."""
        raise NotImplementedError

    def reason(self, name: str) -> str:
        """What a shape is that it does not hold of, in a few words."""
        raise NotImplementedError

    def error(self, name: str, size: int, block: Any) -> PydanticCustomError:
        """The error of validation, placed at the field `name`."""
        raise NotImplementedError

    def place(self, name: str) -> tuple[str, ...]:
        """Where the restricted size stands in a block that has it in the field `name`."""
        return (name,)

    def allowed(self, data: dict[str, Any], most: int) -> list[int]:
        """The sizes up to `most` of which it holds, where the fields before it are `data`."""
        raise NotImplementedError

    def check(self, name: str, block: Any) -> None:
        """Raise the error where it does not hold of a valid block."""
        size = value(block, name)
        if size is not None and not self.holds(size, block):
            raise self.error(name, size, block)


class Divides(Constraint):
    """The size divides that of another field."""

    def __init__(self, whole: str) -> None:
        self.whole = whole

    def holds(self, size: Any, block: Any) -> Mask:
        return getattr(block, self.whole) % size == 0

    def reason(self, name: str) -> str:
        return f"{name} does not divide {self.whole}"

    def error(self, name: str, size: int, block: Any) -> PydanticCustomError:
        whole = getattr(block, self.whole)
        context = {
            "whole": f"{self.whole} ({whole:,})",
            "field": name,
            "fix": nearest_divisors(size, whole),
        }
        return PydanticCustomError("constraint", "must divide {whole}", context)

    def allowed(self, data: dict[str, Any], most: int) -> list[int]:
        return [n for n in divisors(data[self.whole]) if n <= most]


class Even(Constraint):
    """The size is even."""

    def holds(self, size: Any, block: Any) -> Mask:  # noqa: ARG002  (of a size alone)
        return size % 2 == 0

    def reason(self, name: str) -> str:
        return f"{name} is odd"

    def error(self, name: str, size: int, block: Any) -> PydanticCustomError:  # noqa: ARG002
        near = [n for n in (size - 1, size + 1) if n > 0]
        fix = f"nearest: {' or '.join(f'{n:,}' for n in near)}"
        return PydanticCustomError("constraint", "must be even", {"field": name, "fix": fix})

    def allowed(self, data: dict[str, Any], most: int) -> list[int]:  # noqa: ARG002
        return list(range(2, most + 1, 2))


class AtMost(Constraint):
    """A size inside, or the size itself, is at most that of another field."""

    def __init__(self, limit: str, inner: str = "") -> None:
        self.limit, self.inner = limit, inner

    def holds(self, size: Any, block: Any) -> Mask:
        return (value(size, self.inner) if self.inner else size) <= getattr(block, self.limit)

    def reason(self, name: str) -> str:
        return f"{name} is more than {self.limit}"

    def place(self, name: str) -> tuple[str, ...]:
        return (name, self.inner) if self.inner else (name,)

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        limit = getattr(block, self.limit)
        field = f"{name}.{self.inner}" if self.inner else name
        return PydanticCustomError(
            "constraint",
            "must be at most {limit}",
            {"limit": f"{self.limit} ({limit:,})", "field": field, "fix": None},
        )

    def allowed(self, data: dict[str, Any], most: int) -> list[int]:
        return list(range(1, min(most, data[self.limit]) + 1))


def value(block: Any, path: str) -> Any:
    """What stands at a path of fields."""
    for name in path.split("."):
        block = getattr(block, name)
    return block


def constraints(block: type[Any] | Any) -> list[tuple[str, Constraint]]:
    """Every constraint of a block's fields, with the name of the field."""
    kind: Any = block if isinstance(block, type) else type(block)
    return [
        (name, found)
        for name, field in kind.model_fields.items()
        for found in field.metadata
        if isinstance(found, Constraint)
    ]
