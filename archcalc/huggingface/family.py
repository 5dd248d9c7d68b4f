"""A family: the table by which the configs of one model_type are read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from archcalc.huggingface.layers import SLIDING, Kinds
from archcalc.huggingface.leaves import Flag, Leaf, Made, Number, Quotient, Shared, Size
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.rope import KEYS as ROPE
from archcalc.huggingface.said import Said


@dataclass(frozen=True)
class Family:
    """A table.

    `defaults` has every key that is read, with the default of transformers' config class; None where the class takes
    null, or has a formula. `template` is a spec as plain data with leaves for what the config says, without its
    layers; `layer` is one layer of it, or a leaf that says
    what a layer of each type is, and `kinds` says which types of layers there are. `aliases` are other spellings
    of keys. `only` are keys of which one value is read: those that are fine, and what any other means. `ignored`
    bear on no count in this family, beside those of ignored.py. `nested` are mappings whose keys have their names in
    front here, with a dot between. `checks` look at several keys at once. `std` is the
    key of the initial weights' deviation, and `drawn` its formula in the class, where the config says none;
    `residual` is as in a spec's `initialization`. `modules` are those of multi-token prediction, where it is known
    what they are made of.
    """

    model_type: str
    config_class: str
    architectures: tuple[str, ...]
    defaults: Mapping[str, Any]
    layer: Mapping[str, Any] | Leaf
    template: Mapping[str, Any]
    kinds: Kinds = field(default_factory=Kinds)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only: Mapping[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    checks: tuple[Callable[[Said], None], ...] = ()
    std: str = "initializer_range"
    drawn: Callable[[Said], float] | None = None
    residual: str = "plain"
    modules: Modules | None = None

    @property
    def known(self) -> set[str]:
        """Every spelling of every key that is read."""
        modules = (*self.modules.keys, *self.modules.reads) if self.modules else ()
        others = (name for names in self.aliases.values() for name in names)
        return {self.std, *modules, *self.defaults, *self.only, *others}


def flattened(config: Mapping[str, Any], nested: tuple[str, ...]) -> dict[str, Any]:
    """A config with the keys of some of its mappings beside its own."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        inside = key in nested and isinstance(value, Mapping)
        found |= {f"{key}.{name}": inner for name, inner in value.items()} if inside else {key: value}
    return found


def folded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The same with such keys in their mappings again."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        outer, dot, name = key.partition(".")
        if dot:
            found.setdefault(outer, {})[name] = value
        else:
            found[key] = value
    return found


_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings"),
)


def sizes(*given: int | None, **more: Any) -> dict[str, Any]:
    """The defaults of a config class that names its sizes as Llama's does: seven sizes in its order, and others."""
    usual = {"head_dim": None, "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
    return {**ROPE, **dict(zip(_SIZES, given, strict=True)), **usual, **more}


def without(defaults: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The defaults of a class that lacks some keys."""
    return {key: value for key, value in defaults.items() if key not in keys}


HEADS = Size("num_attention_heads")
KV_HEADS = Shared("num_key_value_heads", "num_attention_heads")
QUOTIENT = Quotient("hidden_size", "num_attention_heads")
D_HEAD = Size("head_dim", QUOTIENT)
"""head_dim where it is said, hidden_size / num_attention_heads else."""
WINDOW = Made(
    lambda said: None if said.none("sliding_window") else said.size("sliding_window"),
    lambda value, draft: draft.put("sliding_window", value),
)


def rmsnorm(key: str = "rms_norm_eps", **more: Any) -> dict[str, Any]:
    """An RMSNorm with the epsilon of a key."""
    return {"kind": "rmsnorm", **more, "epsilon": Number(key, most=1.0)}


def layernorm(key: str, *, bias: Any = True, **more: Any) -> dict[str, Any]:
    """A LayerNorm with the epsilon of a key."""
    return {"kind": "layernorm", "bias": bias, **more, "epsilon": Number(key, most=1.0)}


def decoder(
    final_norm: Any, *, unembedding: Mapping[str, Any] | None = None, embedding: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The spec around the layers of most families: no learned positions, and a head that may be tied."""
    return {
        "vocab_size": Size("vocab_size"),
        "context_length": Size("max_position_embeddings"),
        "d_model": Size("hidden_size"),
        "embedding": {"positions": "none", **(embedding or {})},
        "final_norm": final_norm,
        "unembedding": {"tied": Flag("tie_word_embeddings"), "bias": False, **(unembedding or {})},
    }


def window_of_sliding() -> Leaf:
    """The window of layers of type sliding_attention."""

    def read(said: Said) -> int | None:
        if not said.layer.startswith(SLIDING):
            return None
        if said.none("sliding_window"):
            said.fail("sliding_window", "must be an integer, since layers are of type sliding_attention", None)
        return said.size("sliding_window")

    return Made(read, lambda value, draft: draft.put("sliding_window", value) if value is not None else None)


SLIDING_WINDOW = window_of_sliding()
