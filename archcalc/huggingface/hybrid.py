"""Layers of attention among layers of another mixer: how their kinds are told apart, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.layers import DENSE, FULL, SLIDING, LayerTypes, Sparse
from archcalc.huggingface.leaves import ByLayer

RECURRENT = "linear_attention"


def branch(name: str, mixer: Any, norm: Any) -> dict[str, Any]:
    """A residual branch with a norm before its mixer."""
    return {"name": name, "norm": norm, "mixer": mixer}


def both_kinds(attention: Any, other: str, name: str, mixer: Any, mlp: Any, norm: Any, **more: Any) -> ByLayer:
    """Layers of attention and an MLP, and those of the type `other`: another mixer, in a branch `name`, and an MLP.

    `more` are other fields that all branches have.
    """
    full = {"norm": norm, "attention": attention, "mlp": mlp, **more}
    rest = {"branches": [{**branch(name, mixer, norm), **more}, {**branch("mlp", mlp, norm), **more}]}
    kinds = {FULL: full, other: rest}
    return ByLayer({**kinds, **{f"{kind}{DENSE}": layer for kind, layer in kinds.items()}})


class Mixed(LayerTypes):
    """Layers of attention, in the short form, and of another mixer, in branches."""

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        likeliest = super().candidates(layer)
        return sorted(likeliest, key=lambda kind: (kind in (FULL, SLIDING)) == ("branches" in layer))


class SparseMixed(Sparse):
    """The same with experts in some layers."""

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        mlp = layer["branches"][-1]["mixer"] if "branches" in layer else layer.get("mlp", {})
        return super().candidates({**layer, "mlp": mlp})

    def name(self, layer: str) -> str:
        return self.attention.name(layer.partition(DENSE)[0]) + "_dense" * layer.endswith(DENSE)
