"""Settings of rotary positions: how the angles are changed for long texts, in the words of a config and of a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from archcalc.arguments import LARGEST_SIZE
from archcalc.errors import shown
from archcalc.huggingface.said import LARGEST_NUMBER, Said

_CONTEXT = "original_max_position_embeddings"
_ANYWHERE = ("rope_type", "type", "rope_theta", "partial_rotary_factor", _CONTEXT)
_HARMLESS = ("max_position_embeddings", "finetuned")
_NAMES = {"su": "longrope"}
_MOST_FACTORS = 4096


class Settings(NamedTuple):
    """A mapping of settings, the key that has it, and the config that it is read from."""

    inside: Mapping[str, Any]
    key: str
    said: Said

    def fail(self, name: str, what: str) -> NoReturn:
        """Raise the fault of a setting."""
        self.said.fail(self.key, f"{name} {what}", self.inside.get(name))

    def number(self, name: str, default: float | None = None, most: float = LARGEST_NUMBER) -> float:
        """A setting above 0."""
        value = self.inside.get(name)
        return self.said.as_number(default if value is None else value, self.key, name, most)

    @property
    def context(self) -> int:
        """The context of the model."""
        return self.said.size("max_position_embeddings")

    @property
    def original(self) -> int:
        """The context that was trained with: beside the mapping (Phi-3), in it, or the whole context."""
        if not self.said.none(_CONTEXT):
            return self.said.size(_CONTEXT)
        value = self.inside.get(_CONTEXT)
        if value is None:
            return self.context
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIZE:
            self.fail(_CONTEXT, f"must be an integer from 1 to {LARGEST_SIZE:,}")
        return int(value)


def _optional(rope: Settings, name: str) -> float | None:
    return None if rope.inside.get(name) is None else rope.number(name)


def _or(default: float) -> Callable[[Settings, str], float]:
    return lambda rope, name: rope.number(name, default)


def _extension(rope: Settings, name: str) -> float:
    """A factor that follows from the contexts where it is null; transformers refuses where there is none at all."""
    if name not in rope.inside:
        rope.fail(name, "is missing; null would mean the context / the original one")
    return rope.context / rope.original if rope.inside.get(name) is None else rope.number(name)


def _maybe_zero(rope: Settings, name: str) -> float | None:
    value = rope.inside.get(name)
    return 0.0 if value == 0 and not isinstance(value, bool) else _optional(rope, name)


def _true(rope: Settings, name: str) -> bool | None:
    """A boolean that is true by default."""
    value = rope.inside.get(name)
    if not isinstance(value, bool | None):
        rope.fail(name, "must be true or false")
    return False if value is False else None


def _list(rope: Settings, name: str) -> list[float]:
    value = rope.inside.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_FACTORS:
        rope.fail(name, "must be a list of numbers")
    return [rope.said.as_number(x, rope.key, name) for x in value]


def _trained(rope: Settings, name: str) -> int:  # noqa: ARG001  (stands under several names)
    return rope.original


_READERS: dict[str, dict[str, Callable[[Settings, str], Any]]] = {
    "default": {},
    "linear": {"factor": Settings.number},
    "dynamic": {"original_context_length": lambda rope, _: rope.context, "factor": Settings.number},
    "yarn": {
        "original_context_length": _trained,
        "factor": _extension,
        "beta_fast": _or(32.0),
        "beta_slow": _or(1.0),
        "attention_factor": _optional,
        "mscale": _maybe_zero,
        "mscale_all_dim": _maybe_zero,
        "truncate": _true,
    },
    "llama3": {
        "original_context_length": _trained,
        "factor": Settings.number,
        "low_freq_factor": Settings.number,
        "high_freq_factor": Settings.number,
    },
    "longrope": {
        "original_context_length": _trained,
        "short_factor": _list,
        "long_factor": _list,
        "factor": _optional,
        "attention_factor": _optional,
    },
}
"""The kinds that are supported, and how each of their settings is read; a spec has the same names."""


def kind_of(inside: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The kind of scaling that settings say, by our name for it; "" for what is no word."""
    name = inside.get("rope_type", inside.get("type")) or "default"
    return {**_NAMES, **names}.get(name, name) if isinstance(name, str) else ""


def scaling(rope: Settings, beside: tuple[str, ...], names: Mapping[str, str]) -> dict[str, Any] | None:
    """The scaling of a spec; None for plain angles. `beside` are settings that others read, `names` those of kinds."""
    name = rope.inside.get("rope_type", rope.inside.get("type")) or "default"
    kind = kind_of(rope.inside, names)
    if kind not in _READERS:
        fix = f"supported: {', '.join(_READERS)}"
        rope.said.fail(rope.key, f"rotary positions of type {shown(name)} are not supported yet", name, fix)
    readers = _READERS[kind]
    for other, value in rope.inside.items():
        known = other in readers or other in (*_ANYWHERE, *_HARMLESS, *beside)
        if not known and value is not None and value is not False:
            rope.fail(other, f"is not known in rotary positions of type {kind!r}; it may bear on the results")
    if not readers:
        return None
    found = {setting: read(rope, setting) for setting, read in readers.items()}
    return {"kind": kind, **{setting: value for setting, value in found.items() if value is not None}}


def write_scaling(value: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's scaling as the settings of a config."""
    kind = value.get("kind", "default")
    said = {name: inner for name, inner in value.items() if name not in ("kind", "original_context_length")}
    if kind != "dynamic" and "original_context_length" in value:
        said[_CONTEXT] = value["original_context_length"]
    return {"rope_type": kind, **said}
