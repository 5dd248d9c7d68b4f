"""MiniMax-Text-01: layers of lightning attention and of softmax attention that add to what their norm made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, HEADS, WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.hybrid import RECURRENT, branch
from archcalc.huggingface.layers import FULL, LayerTypes
from archcalc.huggingface.leaves import Activation, ByLayer, Draft, Mismatch, Number, Size
from archcalc.huggingface.rope import CountedRotary
from archcalc.huggingface.said import Said

_NAMES = {FULL: "attention", RECURRENT: "linear_attention"}


class _ByBranch(LayerTypes):
    """Both types of layers are branches, of which the first bears the type's name."""

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        first = layer.get("branches", [{}])[0].get("name")
        return sorted(self.names, key=lambda kind: self.names[kind] != first)


_LIST = "attn_type_list"


def _types(said: Said, n: int) -> list[str]:
    """A list of 1 for softmax and 0 for lightning in MiniMax's own files; else one of each in turn."""
    found = None if said.none(_LIST) else said.value(_LIST, counts=False)
    if found is None:
        return [RECURRENT if i % 2 else FULL for i in range(n)]
    if (
        not isinstance(found, list)
        or len(found) != n
        or any(type(one) is not int or one not in (0, 1) for one in found)
    ):
        said.fail(_LIST, f"must be a list with 0 or 1 for each of {n:,} layers", found)
    return [FULL if one else RECURRENT for one in found]


class _Turned(CountedRotary):
    """The original code turns as many features as `rotary_dim` says; transformers' class turns all, and reads none."""

    def part(self, said: Said, d_head: int) -> float:
        found = super().part(said, d_head)
        if found != 1:
            said.assume("rotary_dim is obeyed, as in the original code; transformers' MiniMaxConfig does not read it")
        return found

    def write(self, value: Any, draft: Draft) -> None:
        if value is not None and value["d_rotary"] != draft.d_head:
            raise Mismatch("attention.rotary.d_rotary")
        super().write(value, draft)


def _added(name: str, mixer: Any, key: str) -> dict[str, Any]:
    """A branch that is added to its normed input, both by factors."""
    factors = {"scale": f"{key}_beta_factor", "residual_scale": f"{key}_alpha_factor"}
    return {
        **branch(name, mixer, rmsnorm()),
        "residual": "normed",
        **{field: Number(factor, neutral=1.0) for field, factor in factors.items()},
    }


_LIGHTNING = {
    "kind": "lightning",
    "n_heads": HEADS,
    "n_groups": HEADS,
    "d_head": D_HEAD,
    "d_state": D_HEAD,
    "chunk_size": Size("block_size"),
    "activation": Activation("hidden_act"),
    "norm": {"kind": "rmsnorm", "epsilon": 1e-6},  # whatever rms_norm_eps says
    "norm_over": "width",
    "norm_place": "before",
    "slopes": "falling",
}
_ATTENTION = {**ATTENTION, "rotary": _Turned(D_HEAD, 1_000_000.0, partial=1.0), "window": WINDOW}
_EXPERTS = experts("num_local_experts", "intermediate_size", {"scores": "softmax", "normalized": True})


def _layer(name: str, mixer: Any, key: str) -> dict[str, Any]:
    return {"branches": [_added(name, mixer, key), _added("mlp", _EXPERTS, "mlp")]}


_ORIGINAL = {
    f"{ours}_{end}_factor": (f"layernorm_{theirs}_{end}",)
    for ours, theirs in (("full_attn", "full_attention"), ("linear_attn", "linear_attention"), ("mlp", "mlp"))
    for end in ("alpha", "beta")
}
"""The names in MiniMax's own files."""
_FACTORS = [f"{name}_{end}_factor" for name in ("full_attn", "linear_attn", "mlp") for end in ("alpha", "beta")]

_ALL = (
    Family(
        "minimax",
        "MiniMaxConfig",
        ("MiniMaxForCausalLM", "MiniMaxModel"),
        sizes(
            *(32000, 4096, 14336, 32, 32, 8, 131072),
            rms_norm_eps=1e-5,
            sliding_window=None,
            num_local_experts=8,
            num_experts_per_tok=2,
            layer_types=None,
            attn_type_list=None,
            rotary_dim=None,
            block_size=256,
            **dict.fromkeys(_FACTORS, 1),
        ),
        ByLayer(
            {
                FULL: _layer("attention", _ATTENTION, "full_attn"),
                RECURRENT: _layer("linear_attention", _LIGHTNING, "linear_attn"),
            }
        ),
        decoder(rmsnorm()),
        _ByBranch(_types, _NAMES, _LIST),
        aliases={"num_local_experts": ("num_experts",), **_ORIGINAL},
        only={
            "postnorm": ((True,), "branches that are added to their input are not supported in this family"),
            "shared_intermediate_size": ((0,), "this family has no shared experts"),
        },
        ignored=(*TRAINING, "shared_moe_mode"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
