"""Rotary positions: old and new spellings of their settings, read to a spec's `rotary` and written back.

New files have `rope_parameters`, one mapping or one for each type of layer; older ones have `rope_theta`,
`rope_scaling` and `partial_rotary_factor` beside each other. The order in which they rule is that of transformers'
RotaryEmbeddingConfigMixin.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from archcalc.arguments import LARGEST_SIZE
from archcalc.errors import shown
from archcalc.huggingface.leaves import Draft, Leaf, Mismatch, Size
from archcalc.huggingface.said import Said

KEYS: dict[str, Any] = {
    "rope_parameters": None,
    "rope_scaling": None,
    "rope_theta": None,
    "partial_rotary_factor": None,
    "original_max_position_embeddings": None,
}
"""The keys that say how positions turn, for a family's defaults."""

LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention")
"""The types of layers that settings may stand under."""
_NAMES = {"su": "longrope"}
_LONG = ("yarn", "llama3", "longrope")
"""Kinds that know the context that was trained with."""
_INSIDE = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor", "beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("factor", "short_factor", "long_factor", "attention_factor"),
}
"""The kinds that are supported, and their settings beside the original context."""
_OPTIONAL = ("attention_factor", "mscale", "mscale_all_dim", "beta_fast", "beta_slow", "truncate")
_ANYWHERE = ("rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
_HARMLESS = ("max_position_embeddings", "finetuned")
_YARN = {"beta_fast": 32.0, "beta_slow": 1.0}


class Rotary(Leaf):
    """The rotary positions of a layer.

    `theta` and `partial` are the family's defaults; `theta_key` and `partial_key` the names that old files have for
    them. `nested` says that the settings may stand under the type of the layer, and `scales` whether `rope_scaling` of an
    old file is meant for it. `default` are the settings where there are none, and `beside`
    those that another leaf reads. `names` are other names of kinds; `reversed_` turns the other way round.
    """

    def __init__(
        self,
        d_head: Leaf,
        theta: float = 10_000.0,
        *,
        partial: float | None = None,
        pairing: str = "halves",
        theta_key: str = "rope_theta",
        partial_key: str = "partial_rotary_factor",
        nested: bool = False,
        scales: bool = True,
        default: Mapping[str, Any] | None = None,
        beside: tuple[str, ...] = (),
        names: Mapping[str, str] | None = None,
        reversed_: bool = False,
    ) -> None:
        self.d_head, self.theta, self.partial, self.pairing = d_head, theta, partial, pairing
        self.theta_key, self.partial_key, self.nested = theta_key, partial_key, nested
        self.scales, self.default, self.beside = scales, default, beside
        self.names, self.reversed = {**_NAMES, **(names or {})}, reversed_

    def read(self, said: Said) -> dict[str, Any] | None:
        rope = self.settings(said)
        d_head: int = self.d_head.read(said)
        partial = rope.number("partial_rotary_factor", self._fallback(said, self.partial_key, self.partial or 1.0))
        d_rotary = int(d_head * min(partial, 1.0))
        if d_rotary < 2 or d_rotary % 2:
            what = f"turns {d_rotary:,} of {d_head:,} features per head; an even number is supported"
            said.fail(rope.key, what, partial if partial != 1 else d_head)
        theta = rope.number("rope_theta", self._fallback(said, self.theta_key, self.theta))
        found: dict[str, Any] = {"d_rotary": d_rotary, "theta": theta}
        if self.pairing != "halves":
            found["pairing"] = self.pairing
        if self.reversed:
            found["reversed"] = True
        if (scaling := _scaling(rope, self.beside, self.names)) is not None:
            found["scaling"] = scaling
        return found

    def settings(self, said: Said) -> Settings:
        """The mapping that rules for this type of layer, and the name of the key that has it."""
        old = said.value("rope_scaling", counts=False)
        key = "rope_scaling" if old and self.scales else "rope_parameters"
        value = old if key == "rope_scaling" else said.value(key, counts=False)
        if value is None or value == {}:
            value = dict(self.default) if self.default else {}
        if not isinstance(value, dict):
            said.fail(key, "must be a mapping", value)
        if self.nested and any(name in value for name in LAYER_TYPES):
            value = value.get(said.layer)
            if not isinstance(value, dict | None):
                said.fail(key, f"must have a mapping for {said.layer}", value)
        return Settings(value or {}, key, said)

    def _fallback(self, said: Said, key: str, default: float) -> float:
        return said.number(key) if said.says(key) else default

    def write(self, value: Any, draft: Draft) -> None:
        if value is None:
            return
        if value.get("pairing", "halves") != self.pairing or value.get("reversed", False) != self.reversed:
            raise Mismatch("rotary.pairing")
        scaling = dict(value.get("scaling") or {})
        said: dict[str, Any] = {"rope_type": scaling.pop("kind", "default"), "rope_theta": value["theta"]}
        if (original := scaling.pop("original_context_length", None)) and said["rope_type"] != "dynamic":
            said["original_max_position_embeddings"] = original
        said |= scaling
        if value["d_rotary"] != draft.d_head or self.partial is not None:
            said["partial_rotary_factor"] = value["d_rotary"] / draft.d_head
        if not self.nested:
            draft.put("rope_parameters", said)
        elif draft.setdefault("rope_parameters", {}).setdefault(draft.layer, said) != said:
            raise Mismatch("rotary")


class Settings(NamedTuple):
    """A mapping of settings, the key that has it, and the config that it is read from."""

    inside: Mapping[str, Any]
    key: str
    said: Said

    def fail(self, name: str, what: str) -> None:
        self.said.fail(self.key, f"{name} {what}", self.inside.get(name))

    def number(self, name: str, default: float | None = None, *, above: float = 0.0) -> float:
        value = self.inside.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
            self.fail(name, "must be a number")
        assert value is not None  # noqa: S101
        if not isfinite(value) or value <= above:
            self.fail(name, f"must be more than {above:g}")
        return float(value)

    def original(self) -> int:
        """The context that was trained with: beside the mapping (Phi-3), in it, or the whole context."""
        if not self.said.none("original_max_position_embeddings"):
            return self.said.size("original_max_position_embeddings")
        value = self.inside.get("original_max_position_embeddings")
        if value is None:
            return self.said.size("max_position_embeddings")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIZE:
            self.fail("original_max_position_embeddings", f"must be an integer from 1 to {LARGEST_SIZE:,}")
        return int(value)


def _scaling(rope: Settings, beside: tuple[str, ...], names: Mapping[str, str]) -> dict[str, Any] | None:
    """How the angles are changed for long texts, in the words of a spec."""
    said = rope.said
    name = rope.inside.get("rope_type", rope.inside.get("type")) or "default"
    kind = names.get(name, name) if isinstance(name, str) else name
    if kind not in _INSIDE:
        said.fail(rope.key, f"rotary positions of type {shown(name)} are not supported yet", name, _supported())
    known = {*_ANYWHERE, *_INSIDE[kind], *_HARMLESS, *beside}
    for name_, value in rope.inside.items():
        if name_ not in known and value is not None and value is not False:
            rope.fail(name_, f"is not known in rotary positions of type {kind!r}; it may bear on the results")
    if kind == "default":
        return None
    found: dict[str, Any] = {"kind": kind}
    context = Size("max_position_embeddings").read(said)
    if kind == "dynamic":
        found["original_context_length"] = context
    elif kind in _LONG:
        found["original_context_length"] = rope.original()
    for name_ in _INSIDE[kind]:
        value = rope.inside.get(name_)
        if name_ == "truncate":
            if value is False:
                found[name_] = False
            elif value not in (None, True):
                rope.fail(name_, "must be true or false")
        elif name_.endswith("_factor") and kind == "longrope" and name_ != "attention_factor":
            found[name_] = _factors(rope, name_)
        elif value is None and name_ in _YARN:
            found[name_] = _YARN[name_]
        elif value is None and name_ == "factor" and kind == "yarn":
            found[name_] = context / found["original_context_length"]
        elif value is None and (name_ in _OPTIONAL or kind == "longrope"):
            continue
        else:
            found[name_] = rope.number(name_, above=-1e-300 if name_.startswith("mscale") else 0.0)
    return found


def _factors(rope: Settings, name: str) -> list[float]:
    value = rope.inside.get(name)
    if not isinstance(value, list) or not 1 <= len(value) <= 4096:
        rope.fail(name, "must be a list of numbers")
    assert isinstance(value, list)  # noqa: S101
    if any(isinstance(x, bool) or not isinstance(x, int | float) or not 0 < x <= 1e9 for x in value):
        rope.fail(name, "must be a list of numbers above 0")
    return [float(x) for x in value]


def _supported() -> str:
    return f"supported: {', '.join(_INSIDE)}"


class AlphaRotary(Rotary):
    """HunYuan's: where "dynamic" settings have an alpha, the base grows once, by alpha ^ (d / (d - 2))."""

    def settings(self, said: Said) -> Settings:
        found = super().settings(said)
        kind = found.inside.get("rope_type", found.inside.get("type"))
        if kind != "dynamic" or not found.inside.get("alpha"):
            return found._replace(inside={name: x for name, x in found.inside.items() if name != "alpha"})
        d_head: int = self.d_head.read(said)
        theta = found.number("rope_theta", self._fallback(said, self.theta_key, self.theta))
        grown = theta * found.number("alpha") ** (d_head / max(d_head - 2, 1))
        return found._replace(inside={"rope_theta": grown})


class FixedRotary(Leaf):
    """GPT-J's: a number of features, neighbours in pairs, and one base."""

    def __init__(self, key: str, d_head: Leaf) -> None:
        self.key, self.d_head = key, d_head

    def read(self, said: Said) -> dict[str, Any]:
        turned, d_head = said.size(self.key), self.d_head.read(said)
        if turned % 2 or turned > d_head:
            said.fail(self.key, f"must be even and at most {d_head:,}, the features of a head", turned)
        return {"d_rotary": turned, "theta": 10_000.0, "pairing": "neighbours"}

    def write(self, value: Any, draft: Draft) -> None:
        if value is None:
            raise Mismatch("rotary")
        draft.put(self.key, value["d_rotary"])
