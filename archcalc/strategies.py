"""Hypothesis strategies that build valid specs, and spoil them. Needs the extra `strategies`.

    >>> from hypothesis import given
    >>> from archcalc import strategies
    >>> @given(strategies.models())
    ... def test_mine(model): ...

They are made from the classes that read specs, so a new block is drawn without a word here.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from archcalc.arguments import size
from archcalc.blocks.base import Divides, Strict, divisors, registered
from archcalc.spec.catalogue import dump
from archcalc.spec.model import MOST_REPEATS, Initialization, Model

LARGEST = 8
"""The largest size drawn where no other is asked for: small enough to build and run the model."""


def models(largest: int = LARGEST, most_groups: int = 3, most_repeats: int = 3) -> st.SearchStrategy[Model]:
    """Valid models with sizes from 1 to `largest`, of one to `most_groups` groups of one to `most_repeats` layers.

    They have no published figures, misprints or assumptions; biases, ties and kinds of blocks are drawn.

    Raises Invalid for a bound that is no size.
    """
    largest = size("strategies", "largest", largest)
    most_groups = size("strategies", "most_groups", most_groups)
    most_repeats = size("strategies", "most_repeats", most_repeats, MOST_REPEATS)
    return _mappings(Model, largest, most_groups, most_repeats).map(Model.model_validate)


def sizes(largest: int = LARGEST) -> st.SearchStrategy[int]:
    """Sizes of an architecture, 1 among them often."""
    return st.integers(1, size("strategies", "largest", largest))


def _mappings(holder: type[Strict], largest: int, most_groups: int, most_repeats: int) -> st.SearchStrategy[Any]:
    """Plain data that is valid for a class, drawn field by field; Divides draws a divisor of the field it names."""

    @st.composite
    def mapping(draw: st.DrawFn) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, field in holder.model_fields.items():
            whole = next((m.whole for m in field.metadata if isinstance(m, Divides)), None)
            if whole is not None:
                data[name] = draw(st.sampled_from(divisors(data[whole])))
            elif (strategy := _values(name, field, largest, most_groups, most_repeats)) is not None:
                data[field.alias or name] = draw(strategy)
        return data

    return mapping()


def _values(
    name: str, field: FieldInfo, largest: int, most_groups: int, most_repeats: int
) -> st.SearchStrategy[Any] | None:
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(1, most_repeats) if name == "repeat" else sizes(largest)
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if field.is_required():
            return st.lists(_mappings(inner, largest, most_groups, most_repeats), min_size=1, max_size=most_groups)
        return None  # what describes a spec is left out
    if kind is str:
        return st.just("drawn") if name == "name" else st.just("archcalc.strategies")
    if isinstance(kind, type) and issubclass(kind, Strict) and kind is not Initialization:
        kinds: list[type[Strict]] = [*registered(kind).values()] or [kind]
        return st.one_of([_mappings(one, largest, most_groups, most_repeats) for one in kinds])
    return None  # a field with a default that changes no count


_SPOILS = ("drop", "rename", "retype", "zero", "negate", "enlarge", "duplicate", "cut", "noise")
_WRONG_VALUES = ("", "[1]", "{a: 1}", "text", "1.5", "true", "null", "*x", "!t 1", "&x 1", ".nan", '"1"')


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """The bytes of a spec file in which something is wrong; now and then it comes out valid all the same."""
    lines = dump(draw(models())).splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    key, colon, value = line.partition(":")
    spoil = draw(st.sampled_from(_SPOILS))
    if spoil == "drop":
        del lines[at]
    elif spoil == "duplicate":
        lines.insert(at, line)
    elif spoil == "rename":
        lines[at] = f"{key}{draw(st.text(max_size=3))}{colon}{value}"
    elif spoil in ("retype", "zero", "negate", "enlarge"):
        values = {"zero": "0", "negate": "-1", "enlarge": "1e30"}
        lines[at] = f"{key}: {values.get(spoil) or draw(st.sampled_from(_WRONG_VALUES))}"
    text = "\n".join(lines).encode()
    if spoil == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if spoil == "noise":
        place = draw(st.integers(0, len(text)))
        return text[:place] + draw(st.binary(min_size=1, max_size=8)) + text[place:]
    return text
