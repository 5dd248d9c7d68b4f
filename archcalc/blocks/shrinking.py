"""Small sizes in place of large ones, so that a model of the same architecture runs in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


class Shrinking:
    """Small sizes by name: another one for each size that occurs, so that what differs still does.

    `beside` has for each number of heads the numbers of key/value heads that attentions with so many have.
    """

    def __init__(self, beside: Mapping[int, set[int]] | None = None) -> None:
        self._known: dict[str, dict[int, int]] = {}
        self._beside = beside or {}

    def twice(self, heads: int, kv_heads: int) -> tuple[int, int] | None:
        """Heads and key/value heads where other attentions with as many heads have half or twice as many of these."""
        both = sorted(self._beside.get(heads, ()))
        if len(both) != 2 or both[1] != 2 * both[0] or both[0] == 1 or heads < 2 * both[1]:
            return None
        return self.size("n_heads", heads, 8, 0), 2 * kv_heads // both[0]

    def size(self, name: str, size: int, least: int, step: int = 8) -> int:
        """What stands for a size; for twice a size that is known twice what stands for that."""
        known = self._known.setdefault(name, {})
        half = known.get(size // 2) if size % 2 == 0 and step else None
        return known.setdefault(size, least + step * len(known) if half is None else 2 * half)

    def optional(self, name: str, size: int | None, least: int, step: int = 3) -> int | None:
        """The same of a size that may be absent."""
        return None if size is None else self.size(name, size, least, step)


def small(part: Any, shrinking: Shrinking) -> Any:
    """A part of a model with small sizes: each block knows how."""
    if hasattr(part, "small"):
        return part.small(shrinking)
    if isinstance(part, BaseModel):
        return part.model_copy(update={name: small(inner, shrinking) for name, inner in part if not is_plain(inner)})
    if isinstance(part, tuple):
        return tuple(small(inner, shrinking) for inner in part)
    if isinstance(part, dict):
        return {name: small(inner, shrinking) for name, inner in part.items()}
    return part


def is_plain(value: Any) -> bool:
    """Whether a field has a word or a number, and no part."""
    return value is None or isinstance(value, str | int | float)
