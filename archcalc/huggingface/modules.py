"""Modules of multi-token prediction in a config.json: how many, and of which type of layer each is made.

A config says little more than their number. What they are made of is known from published checkpoints and from
transformers' own MtpModel; a family whose modules are of another kind, or unknown, has no table here, and its modules
are left out with a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from archcalc.huggingface.layers import DENSE
from archcalc.huggingface.leaves import Draft
from archcalc.huggingface.said import Said

NEXTN = ("num_nextn_predict_layers", "num_mtp_layers")
TYPES = ("mtp_layer_types", "mtp_mlp_layer_types")
"""Lists with the type of each module's attention, and whether it has experts."""
NUMBERS = (*NEXTN, "mtp_num_hidden_layers", "num_mtp_modules")
"""Keys that say how many modules there are."""


def with_experts(_said: Said, types: list[str], _n: int) -> list[str]:
    """DeepSeek-V3's: a layer like the last, with experts."""
    return [types[-1].removesuffix(DENSE)]


def _nothing(_layer: Mapping[str, Any], _n: int, _draft: Draft) -> None:
    """Say nothing of the layer: it is always the same."""


@dataclass(frozen=True)
class Modules:
    """The modules of a family.

    `keys` say how many, the first of them in what is written, and `reads` of what. `made_of` is the type of each
    module's layer, or the types of several that follow each other; empty where the modules are of another kind.
    `say` writes the types of a spec's layer, where a config says them. `otherwise` is how many there are where a
    config does not say, by transformers' class.
    """

    keys: tuple[str, ...] = NEXTN
    made_of: Callable[[Said, list[str], int], list[str]] = with_experts
    reads: tuple[str, ...] = ()
    say: Callable[[Mapping[str, Any], int, Draft], None] = _nothing
    otherwise: int = 0
