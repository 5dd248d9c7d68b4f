"""What a config.json says, key by key, as the config class of its family takes it.

A key may have several spellings, and may be absent: the family's default then holds, and is noted. What was read is
noted too, so that each field of the spec knows the keys it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from archcalc.arguments import LARGEST_SIZE, integer
from archcalc.errors import Invalid, Problem, refuse_too_many, written

MOST_LAYERS = 10_000
"""Layers of a config, as of a spec: lists of layers are made of this many at most."""
LARGEST_NUMBER = 1e9
"""Scales, epsilons and the like."""


class Fault(Exception):
    """A value of a config.json that cannot be taken. It is caught in the reader, and becomes one line of many."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Said:
    """A config.json in the words of its family.

    `defaults` has each key that the family reads and the value that is meant where it is absent; `aliases` the other
    spellings of a key. `inside` is the key of the mapping that is read, where that is not the whole file. `layer` is
    the type of the layers that are being read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        file: str,
        defaults: Mapping[str, Any],
        aliases: Mapping[str, tuple[str, ...]],
        inside: str = "",
    ) -> None:
        self.config, self.file, self.inside = config, file, f"{inside}." if inside else ""
        self.defaults, self.aliases = defaults, aliases
        self.layer = ""
        self.defaulted: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.noted: list[str] = []
        self._told: set[str] = set()
        self.trace: list[str] = []
        self.placed: dict[str, list[str]] = {}
        """The keys that fields of layers came from, by their paths in the spec."""
        self.reading: tuple[dict[str, list[str]], str] = {}, ""
        """Where the leaf that is being read keeps the keys of its fields: by path, and its own path."""

    def spelling(self, key: str) -> str | None:
        """How the file spells a key; None where it does not. What is null under one name may be said under another."""
        there = [name for name in (key, *self.aliases.get(key, ())) if name in self.config]
        says = [name for name in there if self.config[name] is not None]
        for other in says[1:]:
            if self.config[other] != self.config[says[0]]:
                what = f"contradicts {says[0]}, which is {written(self.config[says[0]])}"
                raise Fault(self.problem(other, what, self.config[other]))
        return says[0] if says else there[0] if there else None

    def says(self, key: str) -> bool:
        """Whether the file says a key, in any spelling, and not null."""
        name = self.spelling(key)
        return name is not None and self.config[name] is not None

    def value(self, key: str, *, counts: bool = True) -> Any:
        """The value of a key, or its default; `counts` says whether it bears on a count, so that a default is told."""
        name = self.spelling(key)
        self.trace.append(self.inside + (name or key))
        if name is not None:
            return self.config[name]
        if counts:
            self.defaulted.setdefault(key, self.defaults[key])
        return self.defaults[key]

    def stands_for(self, key: str, value: Any) -> None:
        """Keep what null means for a key, where null is its default."""
        if key in self.defaulted:
            self.defaulted[key] = value

    def since(self, mark: int) -> list[str]:
        """The keys read since the trace was `mark` long: those that the file says, or else those that it lacks."""
        read = list(dict.fromkeys(self.trace[mark:]))
        there = [key for key in read if key.removeprefix(self.inside) in self.config]
        return there or read

    def size(self, key: str, least: int = 1, most: int = LARGEST_SIZE, *, counts: bool = True) -> int:
        """A whole number from `least` to `most`."""
        value = self.value(key, counts=counts)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, "must be an integer", value)
        if not least <= value <= most:
            raise Fault(self.problem(key, f"must be from {least:,} to {most:,}", text=_written(value)))
        return int(value)

    def number(self, key: str, most: float = LARGEST_NUMBER, *, counts: bool = False) -> float:
        """A number above 0 and up to `most`."""
        return self.as_number(self.value(key, counts=counts), key, key, most)

    def as_number(self, value: Any, key: str, what: str, most: float = LARGEST_NUMBER) -> float:
        """A value of a key as a number above 0; `what` names it in a message."""
        name = "" if what == key else f"{what} "
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"{name}must be a number", value)
        if not 0 < value <= most:  # NaN is neither
            raise Fault(self.problem(key, f"{name}must be more than 0 and at most {most:g}", text=_written(value)))
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            self.fail(key, "must be true or false", value)
        return bool(value)

    def none(self, key: str) -> bool:
        """Whether a key is null, or absent and null by default."""
        name = self.spelling(key)
        return (self.defaults[key] if name is None else self.config[name]) is None

    def fail(self, key: str, what: str, value: Any, fix: str | None = None) -> NoReturn:
        """Raise the fault of a key."""
        raise Fault(self.problem(key, what, value, fix))

    def problem(
        self, key: str, what: str, value: Any = None, fix: str | None = None, text: str | None = None
    ) -> Problem:
        """What is wrong with a key, as the file spells it."""
        name = next((name for name in (key, *self.aliases.get(key, ())) if name in self.config), key)
        return Problem(
            self.file, what, self.inside + name, value=written(value) if text is None else text, suggestion=fix
        )

    def note(self, problem: Problem) -> None:
        """Keep a problem, once a key: the reader goes on, so that all are told together. Invalid for too many."""
        if problem.path not in self._told:
            self._told.add(problem.path)
            self.problems.append(problem)
            refuse_too_many(self.file, len(self.problems))

    def raise_problems(self) -> None:
        """Raise Invalid with every problem that was found."""
        if self.problems:
            raise Invalid(*self.problems)

    def assume(self, text: str) -> None:
        """Keep a sentence for the spec's assumptions, once."""
        if text not in self.noted:
            self.noted.append(text)


def _written(value: int | float) -> str:
    return integer(value) if isinstance(value, int) else written(value)
