"""The config.json that the keys and tensors of a GGUF file amount to: one table an architecture.

llama.cpp's converter (convert_hf_to_gguf.py) writes the sizes of a config.json below the name of the architecture, as
`llama.block_count`. What no key has is told from the tensors (rows of the vocabulary, biases, a head of its own) or is
what llama.cpp computes for the architecture, such as the activation. A key that no table knows is refused by its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.huggingface.architectures import ARCHITECTURES, Architecture, Config, even_width
from archcalc.huggingface.factors import LISTED, SCALING, scaling_of, shortest
from archcalc.huggingface.gguf import Length
from archcalc.huggingface.stored import Stored

ARCHITECTURE = "general.architecture"
_TABLE, HEAD = "token_embd.weight", "output.weight"
_BLOCK = re.compile(r"blk\.([0-9]{1,9})\.")

_WIDTHS = ("rope.dimension_count", "attention.key_length", "attention.value_length")
_IDLE = ("vocab_size", "tensor_data_layout", *_WIDTHS)
"""Keys that say again what others say, or what is compared below."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("expert_count", "expert_used_count"), (0,)),
    **dict.fromkeys(("expert_group_count", "expert_group_used_count"), (0, 1)),
    "expert_gating_func": (0, 1),  # by softmax
    "expert_weights_scale": (0.0, 1.0),
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "attention.sliding_window": (0,),
    "expert_shared_count": (0,),
}
"""Keys that say nothing where they have these values."""


def architecture(stored: Stored) -> Architecture:
    """The table of a file's architecture. Raises Invalid where there is none."""
    keys = _keys(stored)
    if ARCHITECTURE not in keys:
        raise Invalid(Problem(stored.path, "is missing", ARCHITECTURE))
    said = keys[ARCHITECTURE]
    found = ARCHITECTURES.get(said) if isinstance(said, str) else None
    if found is None:
        fix = f"supported: {', '.join(sorted(ARCHITECTURES))}"
        what = "is an architecture whose GGUF files are not read as a spec yet"
        raise Invalid(Problem(stored.path, what, ARCHITECTURE, value=shown(said), suggestion=fix))
    return found.mixture if found.mixture and keys.get(f"{said}.expert_count") else found


def config_of(stored: Stored) -> tuple[Config, dict[str, str]]:
    """A config.json with what a GGUF file says, and the file's keys by those of it.

    Raises Invalid for an architecture without a table, a key that it lacks, and one that is not known.
    """
    table, keys = architecture(stored), _keys(stored)
    prefix = f"{keys[ARCHITECTURE]}."
    known = {**table.keys, **table.optional}
    names = {weight.name for weight in stored.weights}
    config: Config = {"model_type": table.model_type, **table.fixed}
    problems = [Problem(stored.path, "is missing", prefix + key) for key in table.keys if prefix + key not in keys]
    for key, value in keys.items():
        inner = key.removeprefix(prefix)
        if inner == key or inner.startswith(SCALING):
            continue
        if type(value) is Length and inner in {*known, *_IDLE, *_NEUTRAL}:
            problems.append(Problem(stored.path, LISTED, key))
        elif inner not in known:
            if inner in _IDLE or value in _NEUTRAL.get(inner, ()):
                continue
            problems.append(Problem(stored.path, "is not supported yet", key, value=shown(value)))
        else:
            config[known[inner]] = shortest(value) if isinstance(value, float) else value
    if problems:
        raise Invalid(*problems)
    rows = _rows(stored)
    _refuse_no_blocks(stored, prefix + "block_count", names)
    _refuse_extra(stored, table)
    back = {ours: prefix + theirs for theirs, ours in known.items()}
    back |= _derived(table, prefix, config)
    config |= dict.fromkeys((ours for ours in table.unscaled if config.get(ours) == 0), 1.0)
    config |= {"vocab_size": rows, "tie_word_embeddings": HEAD not in names}
    for settle in table.settle:
        settle(config, keys, names)
    _settle_part(stored, table, prefix, config)
    if scaling := scaling_of(stored, table, prefix, config):
        config["rope_scaling"] = scaling
    scaled_by = "type" if f"{prefix}{SCALING}type" in keys else "factor"
    return config, {
        **back,
        "vocab_size": _TABLE,
        "tie_word_embeddings": HEAD,
        "rope_scaling": prefix + SCALING + scaled_by,
    }


def _derived(table: Architecture, prefix: str, config: Config) -> dict[str, str]:
    """Say what llama.cpp derives where no key has it, and return the keys that it follows from, by those of config."""
    found = {}
    for theirs, ours, value, instead in (
        ("attention.head_count_kv", "num_key_value_heads", config.get("num_attention_heads"), "attention.head_count"),
        ("attention.key_length", "head_dim", even_width(config), "embedding_length"),
    ):
        if theirs in table.optional and ours not in config and value is not None:
            config[ours], found[ours] = value, prefix + instead
    return found


def _rows(stored: Stored) -> int:
    """The rows of the token table. Raises Invalid where it is missing, or of a type that weights have not."""
    table = next((weight for weight in stored.weights if weight.name == _TABLE), None)
    if table is None:
        raise Invalid(Problem(stored.path, "is missing", _TABLE))
    if table.header.type in _WHOLE:
        what = "is of whole numbers, which are not read as weights"
        raise Invalid(Problem(stored.path, what, _TABLE, value=table.header.type))
    if not table.shape:
        raise Invalid(Problem(stored.path, "must be a table", _TABLE, value="a number"))
    return table.shape[0]


_WHOLE = ("I8", "I16", "I32", "I64")


def _refuse_extra(stored: Stored, table: Architecture) -> None:
    """Raise Invalid for each buffer that is not read: other tensors are held against the parameters of the spec."""
    extra = [weight.name for weight in stored.weights if weight.buffer and weight.name not in table.factors]
    if extra:
        what = "is a tensor that this architecture has not"
        raise Invalid(*(Problem(stored.path, what, name) for name in extra))


def _keys(stored: Stored) -> Mapping[str, Any]:
    return stored.gguf or {}


def _refuse_no_blocks(stored: Stored, key: str, names: set[str]) -> None:
    """Raise Invalid where a file announces more blocks than it has tensors of: the names of all would be made."""
    said = _keys(stored).get(key)
    there = len({found[1] for name in names if (found := _BLOCK.match(name))})
    if type(said) is int and said > there:
        what = f"must be {there:,}, the number of blocks that the file has tensors of"
        raise Invalid(Problem(stored.path, what, key, value=f"{said:,}"))


def _settle_part(stored: Stored, table: Architecture, prefix: str, config: Config) -> None:
    """Say which part of each head is turned.

    Raises Invalid where it is a part and no family of that architecture has one, and where values are of another width
    than keys.
    """
    even, keys = even_width(config), _keys(stored)
    if even is None:
        return  # GPT-2's, or told by the import
    d_head = config.get("head_dim", even)
    value = prefix + "attention.value_length"
    if value not in keys and d_head != even:
        what = f"is missing, which means {even:,}; it must be the width of a head, {shown(d_head)}"
        raise Invalid(Problem(stored.path, what, value))
    turned = d_head
    for key in _WIDTHS:
        said = keys.get(prefix + key, d_head)
        if key == "rope.dimension_count" and table.in_part and type(said) is int and type(d_head) is int and d_head:
            part = said / d_head
            config["partial_rotary_factor"] = part if int(part * d_head) == said else math.nextafter(part, 1.0)
            turned = said
        elif said != d_head:
            what = f"must be the width of a head, {shown(d_head)}; another one is not supported yet"
            raise Invalid(Problem(stored.path, what, prefix + key, value=shown(said)))
    for weight in stored.weights:
        if weight.name in table.factors and type(turned) is int and weight.header.shape != (turned // 2,):
            what = f"must have a number for each of the {turned // 2:,} pairs of features that are turned"
            raise Invalid(Problem(stored.path, what, weight.name, value=f"{weight.header.numbers:,} numbers"))
