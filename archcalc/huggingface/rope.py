"""Rotary positions: old and new spellings of their settings, read to a spec's `rotary` and written back.

New files have `rope_parameters`, one mapping or one for each type of layer; older ones have `rope_theta`,
`rope_scaling` and `partial_rotary_factor` beside each other. The order in which they rule is that of transformers'
RotaryEmbeddingConfigMixin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from archcalc.blocks.rotary import Rotary as Turning
from archcalc.errors import written
from archcalc.huggingface.leaves import Draft, Leaf, Mismatch, attention_of
from archcalc.huggingface.said import Said
from archcalc.huggingface.scaling import Settings, kind_of, scaling, write_scaling

KEYS: dict[str, Any] = {
    "rope_parameters": None,
    "rope_scaling": None,
    "rope_theta": None,
    "partial_rotary_factor": None,
    "original_max_position_embeddings": None,
}
"""The keys that say how positions turn, for a family's defaults."""

LAYER_TYPES = ("full_attention", "sliding_attention")
"""The types of layers that settings may stand under."""
_LARGEST_THETA = 1e15


class Rotary(Leaf):
    """The rotary positions of a layer.

    Args:
        d_head: the leaf of the width of a head.
        theta: the family's base, where the config says none.
        partial: the part of a head that is turned, where the config says none; None for a family that turns all.
        pairing: as in a spec.
        theta_key: the name that old files have for the base; "" where they have none.
        nested: whether the settings may stand under the type of the layer.
        scales: whether `rope_scaling` of an old file is meant for this layer.
        default: the settings where there are none.
        beside: settings that another leaf reads.
        names: other names of kinds of scaling.
        backwards: whether the angles are negative.
    """

    def __init__(
        self,
        d_head: Leaf,
        theta: float = 10_000.0,
        *,
        partial: float | None = None,
        pairing: str = "halves",
        theta_key: str = "rope_theta",
        nested: bool = False,
        scales: bool = True,
        default: Mapping[str, Any] | None = None,
        beside: tuple[str, ...] = (),
        names: Mapping[str, str] | None = None,
        backwards: bool = False,
    ) -> None:
        self.d_head, self.theta, self.partial, self.pairing = d_head, theta, partial, pairing
        self.theta_key, self.nested, self.scales, self.default = theta_key, nested, scales, default
        self.beside, self.names, self.backwards = beside, names or {}, backwards

    def read(self, said: Said) -> dict[str, Any] | None:
        rope = self.settings(said)
        d_head: int = self.d_head.read(said)
        key = "partial_rotary_factor"
        partial = rope.number(key, said.number(key) if said.says(key) else self.part(said, d_head))
        if self.partial is None and partial != 1:
            what = "must be 1, since this family turns whole heads"
            if key in rope.inside:
                rope.fail(key, what)
            said.fail(key, what, partial)
        if partial > 1:
            what = "must be at most 1, the whole head"
            if key in rope.inside:
                rope.fail(key, what)
            said.fail(key, what, partial)
        d_rotary = int(d_head * partial)
        if d_rotary < 2 or d_rotary % 2:
            what = f"turns {d_rotary:,} of {d_head:,} features of a head; only an even number of them is supported"
            said.fail(rope.key, what, partial)
        found: dict[str, Any] = {"d_rotary": d_rotary, "theta": self.base(rope)}
        found |= {"pairing": self.pairing} if self.pairing != "halves" else {}
        found |= {"reversed": True} if self.backwards else {}
        scaled = scaling(rope, self.beside, self.names)
        if not scaled:
            return found
        found["scaling"] = scaled
        _refuse_contradictions(rope, found)
        return found

    def part(self, said: Said, d_head: int) -> float:  # noqa: ARG002  (for those that count features)
        """The part of a head that is turned where no setting says it."""
        return self.partial or 1.0

    def base(self, rope: Settings) -> float:
        """The base of the angles: in the settings, beside them, or the family's."""
        said, key = rope.said, self.theta_key
        beside = said.number(key, _LARGEST_THETA) if key and said.says(key) else self.theta
        return rope.number("rope_theta", beside, _LARGEST_THETA)

    def settings(self, said: Said) -> Settings:
        """The mapping that rules for this type of layer, and the name of the key that has it."""
        old = said.value("rope_scaling", counts=False) if self.scales else None
        key = "rope_scaling" if old else "rope_parameters"
        stated = old or said.value(key, counts=False)
        value = stated or dict(self.default or {})
        if not isinstance(value, dict):
            said.fail(key, "must be a mapping", value)
        inner = self._of_layer(said) if self.nested else {}
        other = inner if self.nested else said.value("rope_parameters", counts=False)
        if old and isinstance(other, dict):
            self._refuse_another(said, value, other)
        if self.nested:
            value = {**inner, **value} if old else inner or dict(self.default or {})
        found = Settings(value, key, said)
        for name in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings") if stated else ():
            self._refuse_beside(found, name)
        return found

    def _refuse_another(self, said: Said, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Raise the fault of `rope_scaling` and `rope_parameters` that say different things; the old would rule."""
        kinds = [kind_of(settings, self.names) for settings in (old, new)]
        for name, value in new.items():
            theirs, ours = kinds if name in ("rope_type", "type") else (old.get(name), value)
            if theirs is None and name == "rope_theta":
                theirs = self._beside(said, name) or self.theta
            if ours is not None and theirs != ours and (theirs is not None or not self.nested):
                said.fail("rope_scaling", f"{name} contradicts rope_parameters, which have {written(ours)}", theirs)

    def _refuse_beside(self, rope: Settings, name: str) -> None:
        """Raise the fault of a setting that is another one beside the mapping."""
        inside, beside = rope.inside.get(name), self._beside(rope.said, name)
        if inside is not None and beside is not None and inside != beside:
            rope.fail(name, f"contradicts {self._key(rope.said, name)} beside it, which is {written(beside)}")

    def _beside(self, said: Said, name: str) -> Any:
        """What the config says of a setting beside the mapping; None where it says nothing."""
        key = self._key(said, name)
        return said.config.get(key) if key else None

    def _key(self, said: Said, name: str) -> str | None:
        key = self.theta_key if name == "rope_theta" else name
        return said.spelling(key) if key else None

    def _of_layer(self, said: Said) -> dict[str, Any]:
        """What stands under the type of the layer; nothing where there is no mapping at all."""
        whole = said.value("rope_parameters", counts=False)
        if not isinstance(whole, dict) or not whole:
            return {}
        if not any(name in whole for name in LAYER_TYPES):
            said.fail("rope_parameters", f"must have a mapping for each of {', '.join(LAYER_TYPES)}", whole)
        layer = attention_of(said.layer)
        found = whole.get(layer)
        if not isinstance(found, dict | None):
            said.fail("rope_parameters", f"must have a mapping for {layer}", found)
        return found or {"rope_type": "default"}

    def write(self, value: Any, draft: Draft) -> None:
        if value is None:
            return
        if value.get("pairing", "halves") != self.pairing or value.get("reversed", False) != self.backwards:
            raise Mismatch("rotary.pairing")
        settings = {**write_scaling(value.get("scaling") or {}), "rope_theta": value["theta"]}
        if self.partial is None and value["d_rotary"] != draft.d_head:
            raise Mismatch("rotary.d_rotary")
        if self.partial is not None:
            settings["partial_rotary_factor"] = value["d_rotary"] / draft.d_head
        if not self.nested:
            draft.put("rope_parameters", settings)
        elif draft.setdefault("rope_parameters", {}).setdefault(attention_of(draft.layer), settings) != settings:
            raise Mismatch("rotary")


def _refuse_contradictions(rope: Settings, found: dict[str, Any]) -> None:
    """Raise the fault of a setting that cannot stand beside the others; a spec has their names."""
    try:
        Turning.model_validate(found)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            if one["type"] == "constraint":
                rope.fail(one["ctx"]["field"].rpartition(".")[2], one["msg"])


class ProportionalRotary(Rotary):
    """Gemma 4's: a part of the pairs of a whole head turns, at the frequencies that they have there."""

    def read(self, said: Said) -> dict[str, Any] | None:
        rope = self.settings(said)
        if kind_of(rope.inside, self.names) != "proportional":
            return super().read(said)
        share, factor = rope.number("partial_rotary_factor", 1.0), rope.number("factor", 1.0)
        if share > 1:
            rope.fail("partial_rotary_factor", "must be at most 1, the whole head")
        scaled = {"kind": "proportional", "share": share, **({} if factor == 1 else {"factor": factor})}
        return {"d_rotary": self.d_head.read(said), "theta": self.base(rope), "scaling": scaled}

    def write(self, value: Any, draft: Draft) -> None:
        scaled = (value or {}).get("scaling") or {}
        if scaled.get("kind") != "proportional":
            super().write(value, draft)
            return
        if value["d_rotary"] != draft.d_head:
            raise Mismatch("rotary.d_rotary")
        settings = {
            "rope_type": "proportional",
            "partial_rotary_factor": scaled["share"],
            "rope_theta": value["theta"],
            **{name: scaled[name] for name in ("factor",) if name in scaled},
        }
        if draft.setdefault("rope_parameters", {}).setdefault(attention_of(draft.layer), settings) != settings:
            raise Mismatch("rotary")


class AlphaRotary(Rotary):
    """HunYuan's: where "dynamic" settings have an alpha, the base grows once, by alpha ^ (d / (d - 2))."""

    def settings(self, said: Said) -> Settings:
        """The settings, with the base that the alpha makes."""
        found = super().settings(said)
        kind = found.inside.get("rope_type", found.inside.get("type"))
        if kind != "dynamic" or not found.inside.get("alpha"):
            return found._replace(inside={name: x for name, x in found.inside.items() if name != "alpha"})
        d_head: int = self.d_head.read(said)
        grown = self.base(found) * found.number("alpha") ** (d_head / max(d_head - 2, 1))
        return found._replace(inside={"rope_theta": grown})


class CountedRotary(Rotary):
    """MiniMax's: older files say in `rotary_dim` how many features are turned, where no setting says which part."""

    def part(self, said: Said, d_head: int) -> float:
        """The features that are turned as a part of the head; all where none are said."""
        if said.none("rotary_dim"):
            return super().part(said, d_head)
        turned = said.size("rotary_dim", counts=False)
        if turned % 2 or turned > d_head:
            said.fail("rotary_dim", f"must be even and at most {d_head:,}, the features of a head", turned)
        return turned / d_head


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
