"""What holds of a head and the token table together."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

from archcalc.blocks.constraints import Constraint
from archcalc.tape.legend import Mask


class SomeRows(Constraint):
    """A head of fewer rows than the vocabulary is no table that is tied, and has no more rows than that."""

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary

    def holds(self, size: Any, block: Any) -> Mask:
        rows = getattr(size, "rows", None)
        return True if rows is None else (not size.tied) & (rows <= getattr(block, self.vocabulary))

    def place(self, name: str) -> tuple[str, ...]:
        return (name, "rows")

    def reason(self, name: str) -> str:
        return f"{name} has rows for more than {self.vocabulary} tokens, or is a table that is tied"

    def error(self, name: str, size: Any, block: Any) -> PydanticCustomError:
        most = getattr(block, self.vocabulary)
        context = {"field": f"{name}.rows", "size": size.rows, "fix": None}
        if size.tied:
            return PydanticCustomError("constraint", "must be null, since the table is tied", context)
        what = {"most": f"{self.vocabulary} ({most:,})"}
        return PydanticCustomError("constraint", "must be at most {most}", {**context, **what})

    def allowed(self, data: dict[str, Any], most: int) -> None:  # noqa: ARG002  (a field inside is restricted)
        return None
