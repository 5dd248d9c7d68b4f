"""Leaves of a template: each stands for a field of the spec, is read off a config.json, and is written to one.

A template is a layer, or a whole spec, as plain data in which leaves stand for what the config says. Reading resolves
it; writing goes through a spec and the template side by side, and what is written is what an export says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from archcalc.huggingface.said import LARGEST_NUMBER, Fault, Said

_KEPT = ("norm", "final_norm")  # null says something there
MISSING = object()


class Mismatch(Exception):
    """A spec that a family cannot say; the text says why. It is caught where families are tried."""


class Draft(dict[str, Any]):
    """A config.json that is being written. Layers may say a key twice, and must say the same.

    `layer` is the type of the layer that is written, `d_head` the width of its heads, and `d_model` that of the model.
    `missed` are the fields that the family cannot say, where they are listed and do not end the writing.
    """

    layer: str = ""
    d_head: int = 1
    d_model: int = 1
    missed: list[str] | None = None

    def put(self, key: str, value: Any) -> None:
        """Say a key."""
        if key in self and self[key] != value:
            raise Mismatch(f"layers differ in {key}")
        self[key] = value


class Leaf:
    """A field that a config.json decides."""

    def read(self, said: Said) -> Any:
        """The field's value; None leaves the field out."""
        raise NotImplementedError

    def write(self, value: Any, draft: Draft) -> None:
        """Say the value. A leaf that cannot writes nothing: what is then read back differs, which is seen."""


def resolve(template: Any, said: Said, origins: dict[str, list[str]], path: str = "") -> Any:
    """A template as plain data. `origins` gets the keys that each field came from; faults are noted in `said`."""
    if isinstance(template, Leaf):
        mark, outer = len(said.trace), said.reading
        said.reading = origins, path
        try:
            value = template.read(said)
        except Fault as fault:
            said.note(fault.problem)
            value = None
        finally:
            said.reading = outer
        if keys := said.since(mark):
            origins[path] = list(dict.fromkeys([*origins.get(path, ()), *keys]))
        return value
    if isinstance(template, Mapping):
        found = {
            name: resolve(inner, said, origins, f"{path}.{name}" if path else name) for name, inner in template.items()
        }
        return {name: value for name, value in found.items() if value is not None or name in _KEPT}
    if isinstance(template, list):
        return [resolve(inner, said, origins, f"{path}.{i}") for i, inner in enumerate(template)]
    return template


def inside(template: Any, said: Said) -> Any:
    """What a leaf reads by a template: its fields know the keys that each came from, as those around it do."""
    mark = len(said.trace)
    found = resolve(template, said, *said.reading)
    del said.trace[mark:]
    return found


def write(template: Any, value: Any, draft: Draft, path: str = "") -> None:
    """Say plain data in the words of a template. Raises Mismatch where the template says something else.

    A draft that has `missed` keeps such places there instead, and goes on.
    """
    try:
        _write(template, value, draft, path)
    except Mismatch as mismatch:
        if draft.missed is None:
            raise
        draft.missed.append(str(mismatch))


def _write(template: Any, value: Any, draft: Draft, path: str) -> None:
    if isinstance(template, Leaf):
        try:
            template.write(None if value is MISSING else value, draft)
        except Mismatch as why:
            raise Mismatch(path or str(why)) from None
    elif isinstance(template, Mapping):
        if not isinstance(value, Mapping):
            raise Mismatch(path)
        for name, inner in template.items():
            write(inner, value.get(name, MISSING), draft, f"{path}.{name}".lstrip("."))
        for name in value:
            if name not in template:
                write(None, value[name], draft, f"{path}.{name}".lstrip("."))
    elif isinstance(template, list) and isinstance(value, list):
        if len(template) != len(value):
            raise Mismatch(path)
        for i, (inner, one) in enumerate(zip(template, value, strict=True)):
            write(inner, one, draft, f"{path}.{i}")
    elif (None if value is MISSING else value) != template:
        raise Mismatch(path)


class Size(Leaf):
    """A whole number; where it is null, what `otherwise` gives."""

    def __init__(self, key: str, otherwise: Leaf | None = None) -> None:
        self.key, self.otherwise = key, otherwise

    def read(self, said: Said) -> int:
        if self.otherwise is not None and said.none(self.key):
            said.value(self.key)
            found: int = self.otherwise.read(said)
            said.stands_for(self.key, found)
            return found
        return said.size(self.key)

    def write(self, value: Any, draft: Draft) -> None:
        draft.put(self.key, value)


class Times(Leaf):
    """A multiple of another key, which no key changes."""

    def __init__(self, factor: int, key: str) -> None:
        self.factor, self.key = factor, key

    def read(self, said: Said) -> int:
        return self.factor * said.size(self.key)


class Quotient(Leaf):
    """hidden_size / num_attention_heads. Where the family reads no head_dim, one that is said must be just that.

    What is left over is an error, but in families whose class rounds `down`.
    """

    def __init__(self, whole: str, parts: str, *, down: bool = False) -> None:
        self.whole, self.parts, self.down = whole, parts, down

    def read(self, said: Said) -> int:
        whole, parts = said.size(self.whole), said.size(self.parts)
        if whole % parts and not self.down:
            said.fail(self.whole, f"must be a multiple of {self.parts} ({parts:,})", whole)
        if said.config.get("head_dim") not in (None, whole // parts):
            what = f"must be {self.whole} / {self.parts} ({whole // parts:,}) in this family"
            said.fail("head_dim", what, said.config["head_dim"])
        return whole // parts


class Shared(Leaf):
    """Key and value heads: a number that divides that of the heads; all of them where it is null."""

    def __init__(self, key: str, heads: str) -> None:
        self.key, self.heads = key, heads

    def read(self, said: Said) -> int:
        heads = said.size(self.heads)
        if said.none(self.key):
            said.value(self.key)
            said.stands_for(self.key, heads)
            return heads
        found = said.size(self.key)
        if heads % found:
            said.fail(self.key, f"must divide {self.heads} ({heads:,})", found)
        return found

    def write(self, value: Any, draft: Draft) -> None:
        draft.put(self.key, value)


class Flag(Leaf):
    """true or false, as itself or as the parts of the spec that it switches: {True: ..., False: ...}."""

    def __init__(self, key: str, means: Mapping[bool, Any] | None = None) -> None:
        self.key, self.means = key, means or {True: True, False: False}

    def read(self, said: Said) -> Any:
        return inside(self.means[said.flag(self.key)], said)

    def write(self, value: Any, draft: Draft) -> None:
        before, missed = dict(draft), draft.missed
        draft.missed = None  # what one meaning misses another may say
        try:
            for flag, means in self.means.items():
                try:
                    write(means, MISSING if value is None else value, draft)
                    draft.put(self.key, flag)
                except Mismatch:
                    draft.clear()
                    draft.update(before)
                else:
                    return
        finally:
            draft.missed = missed
        raise Mismatch(self.key)


class Number(Leaf):
    """A number that changes no count: an epsilon, a scale. `neutral` is the value that says nothing."""

    def __init__(
        self, key: str, neutral: float | None = None, *, optional: bool = False, most: float = LARGEST_NUMBER
    ) -> None:
        self.key, self.neutral, self.optional, self.most = key, neutral, optional, most

    def read(self, said: Said) -> float | None:
        if self.optional and said.none(self.key):
            said.value(self.key, counts=False)
            return None
        value = said.number(self.key, self.most)
        return None if value == self.neutral else value

    def write(self, value: Any, draft: Draft) -> None:
        draft.put(self.key, self.neutral if value is None else value)


ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "xielu": "xielu",
}
"""transformers' names of activations, and ours."""
_BACK = {"gelu_tanh": "gelu_pytorch_tanh"} | {ours: ours for ours in ("gelu", "relu", "relu2", "silu", "xielu")}
_BACK["gelu_quick"] = "quick_gelu"


class Activation(Leaf):
    """An activation by its name. `names` are those of the family, beside transformers' own or `alone`."""

    def __init__(self, key: str, names: Mapping[str, str] | None = None, *, alone: bool = False) -> None:
        self.key, self.names, self.alone = key, names or {}, alone

    def read(self, said: Said) -> str:
        value = said.value(self.key)
        known = self.names if self.alone else {**ACTIVATIONS, **self.names}
        if not isinstance(value, str) or value not in known:
            said.fail(self.key, "is not a supported activation", value, f"supported: {', '.join(known)}")
        return known[value]

    def write(self, value: Any, draft: Draft) -> None:
        own = {ours: theirs for theirs, ours in self.names.items()}
        if value not in own and (self.alone or value not in _BACK):
            raise Mismatch(self.key)
        draft.put(self.key, own.get(value) or _BACK[value])


class Made(Leaf):
    """What a function makes of the config, and the one that says it back."""

    def __init__(self, read: Callable[[Said], Any], write: Callable[[Any, Draft], None] | None = None) -> None:
        self._read, self._write = read, write

    def read(self, said: Said) -> Any:
        return self._read(said)

    def write(self, value: Any, draft: Draft) -> None:
        if self._write is not None:
            self._write(value, draft)


class ByLayer(Leaf):
    """What the type of the layer's attention decides: a leaf, a part of a template, or nothing."""

    def __init__(self, means: Mapping[str, Any]) -> None:
        self.means = means

    def read(self, said: Said) -> Any:
        return inside(self.means[attention_of(said.layer)], said)

    def write(self, value: Any, draft: Draft) -> None:
        write(self.means[attention_of(draft.layer)], MISSING if value is None else value, draft)


def attention_of(layer: str) -> str:
    """The type of attention in a type of layer, which may say more behind a slash: of its MLP."""
    return layer.partition("/")[0]
