"""Constraints on the sizes of a block, as data: the validator, grids of shapes and strategies read the same objects.

Each stands in the metadata of the field that it restricts, `Annotated[Count, Divides("n_heads")]`, and speaks of other
fields of the same block by name, or of a field inside by a path.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def allowed(self, data: dict[str, Any], most: int) -> Sequence[Any] | None:
        """The values, of sizes those up to `most`, of which it holds, where the fields before it are `data`.

        None where all do; of numbers that are no sizes it may be a few.
        """
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
    """A number inside, or the number itself, is at most that of another field."""

    def __init__(self, limit: str, inner: str = "") -> None:
        self.limit, self.inner = limit, inner

    def holds(self, size: Any, block: Any) -> Mask:
        limit = getattr(block, self.limit)
        return limit is None or (value(size, self.inner) if self.inner else size) <= limit

    def reason(self, name: str) -> str:
        return f"{name} is more than {self.limit}"

    def place(self, name: str) -> tuple[str, ...]:
        return (name, self.inner) if self.inner else (name,)

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:
        limit = getattr(block, self.limit)
        field = f"{name}.{self.inner}" if self.inner else name
        return PydanticCustomError(
            "constraint",
            "must be at most {limit}",
            {"limit": f"{self.limit} ({limit:,})", "field": field, "fix": None, "size": size},
        )

    def allowed(self, data: dict[str, Any], most: int) -> list[int]:
        return [] if data[self.limit] is None else list(range(1, int(min(most, data[self.limit])) + 1))


class AtLeast(Constraint):
    """The number is that of another field or more."""

    def __init__(self, limit: str) -> None:
        self.limit = limit

    def holds(self, size: Any, block: Any) -> Mask:
        return size >= getattr(block, self.limit)

    def reason(self, name: str) -> str:
        return f"{name} is less than {self.limit}"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        context = {"limit": f"{self.limit} ({getattr(block, self.limit):,})", "field": name, "fix": None}
        return PydanticCustomError("constraint", "must be at least {limit}", context)

    def allowed(self, data: dict[str, Any], most: int) -> list[float]:  # noqa: ARG002
        return [data[self.limit] * 2, data[self.limit] * 4]


class OneForEachPair(Constraint):
    """Lists of numbers inside have one for each two features of another field."""

    def __init__(self, features: str) -> None:
        self.features = features

    def holds(self, size: Any, block: Any) -> Mask:
        held: Mask = True
        for _, inner in size:
            if isinstance(inner, tuple):
                held = held & (getattr(block, self.features) == 2 * len(inner))
        return held

    def reason(self, name: str) -> str:
        return f"{name} has not one number for each pair of {self.features}"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:
        pairs = getattr(block, self.features) // 2
        wrong, count = next((field, len(x)) for field, x in size if isinstance(x, tuple) and len(x) != pairs)
        context = {
            "pairs": f"{pairs:,}",
            "of": f"{self.features} ({2 * pairs:,})",
            "field": f"{name}.{wrong}",
            "fix": f"it has {count:,}",
        }
        return PydanticCustomError("constraint", "must have {pairs} numbers, one for each pair of {of}", context)

    def allowed(self, data: dict[str, Any], most: int) -> None:  # noqa: ARG002  (no kind with lists is drawn)
        return None


class LeavesEnough(Constraint):
    """The groups that are chosen, of `groups` of which `whole` are made, have as many members as are `wanted`."""

    def __init__(self, whole: str, groups: str, wanted: str) -> None:
        self.whole, self.groups, self.wanted = whole, groups, wanted

    def _left(self, size: Any, block: Any) -> Any:
        return size * (getattr(block, self.whole) // getattr(block, self.groups))

    def holds(self, size: Any, block: Any) -> Mask:
        return getattr(block, self.groups) is None or self._left(size, block) >= getattr(block, self.wanted)

    def reason(self, name: str) -> str:
        return f"{name} leaves fewer than {self.wanted}"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:
        context = {
            "wanted": f"{self.wanted} ({getattr(block, self.wanted):,})",
            "field": name,
            "fix": f"{size:,} of {getattr(block, self.groups):,} groups have {self._left(size, block):,}",
        }
        return PydanticCustomError("constraint", "must leave at least {wanted}", context)

    def allowed(self, data: dict[str, Any], most: int) -> list[int] | None:
        if data[self.groups] is None:
            return None
        each = data[self.whole] // data[self.groups]
        return [n for n in range(1, most + 1) if n * each >= data[self.wanted]]


class Needs(Constraint):
    """The value says something about another field, which must be there; `idle` is the value that says nothing."""

    def __init__(self, other: str, idle: Any = None, having: Any = None) -> None:
        self.other, self.idle, self.having = other, idle, having

    def _is_there(self, other: Any) -> bool:
        return other == self.having if self.having is not None else other is not None and other is not False

    def holds(self, size: Any, block: Any) -> Mask:
        return self._is_there(getattr(block, self.other)) or size == self.idle

    def reason(self, name: str) -> str:
        return f"{name} needs {self.other}"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        other = f"without {self.other}" if self.having is None else f"unless {self.other} is {self.having}"
        return PydanticCustomError(
            "constraint", "has no effect {other}", {"other": other, "field": name, "fix": "leave it out"}
        )

    def allowed(self, data: dict[str, Any], most: int) -> list[Any] | None:  # noqa: ARG002
        return None if self._is_there(data[self.other]) else [self.idle]


class OneTable(Constraint):
    """A block whose table is tied to that of another has rows of the same width; null is one of its own."""

    def __init__(self, other: str, width: str) -> None:
        self.other, self.width = other, width

    def holds(self, size: Any, block: Any) -> Mask:
        mine, other = (getattr(part, self.width, None) for part in (size, getattr(block, self.other)))
        if not getattr(size, "tied", False):
            return True
        return mine is other if mine is None or other is None else mine == other

    def place(self, name: str) -> tuple[str, ...]:
        return (name, self.width)

    def reason(self, name: str) -> str:
        return f"{name} is not that of the {self.other}, whose table is tied"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        other = getattr(getattr(block, self.other), self.width, None)
        context = {
            "other": f"{self.other}.{self.width} ({'null' if other is None else f'{other:,}'})",
            "field": f"{name}.{self.width}",
            "fix": None,
            "size": "null",  # where the spec does not say it
        }
        return PydanticCustomError("constraint", "must be {other}, since the table is tied", context)

    def allowed(self, data: dict[str, Any], most: int) -> None:  # noqa: ARG002  (a field inside is restricted)
        return None


class Without(Constraint):
    """The value says something only where another field is null; `idle` is the value that says nothing."""

    def __init__(self, other: str, idle: bool | None = False) -> None:  # noqa: FBT001, FBT002  (a value of a field)
        self.other, self.idle = other, idle

    def holds(self, size: Any, block: Any) -> Mask:
        return not size or getattr(block, self.other) is None

    def reason(self, name: str) -> str:
        return f"{name} and {self.other} are both given"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:  # noqa: ARG002
        idle = "null" if self.idle is None else "false"
        context = {
            "other": self.other,
            "idle": idle,
            "field": name,
            "fix": f"leave out one of {name} and {self.other}",
        }
        return PydanticCustomError("constraint", "must be {idle} where {other} is given", context)

    def allowed(self, data: dict[str, Any], most: int) -> list[Any] | None:  # noqa: ARG002
        return None if data[self.other] is None else [self.idle]


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
