"""MiniMax-Text-01: layers of lightning attention and of softmax attention that add to what their norm made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, HEADS, WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.hybrid import RECURRENT, branch
from archcalc.huggingface.layers import FULL, LayerTypes
from archcalc.huggingface.leaves import Activation, ByLayer, Number, Size
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_NAMES = {FULL: "attention", RECURRENT: "linear_attention"}


class _ByBranch(LayerTypes):
    """Both types of layers are branches, of which the first bears the type's name."""

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        first = layer.get("branches", [{}])[0].get("name")
        return sorted(self.names, key=lambda kind: self.names[kind] != first)


def _types(said: Said, n: int) -> list[str]:  # noqa: ARG001  (no key changes it)
    return [RECURRENT if i % 2 else FULL for i in range(n)]


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
_ATTENTION = {**ATTENTION, "rotary": Rotary(D_HEAD, 1_000_000.0), "window": WINDOW}
_EXPERTS = experts("num_local_experts", "intermediate_size", {"scores": "softmax", "normalized": True})


def _layer(name: str, mixer: Any, key: str) -> dict[str, Any]:
    return {"branches": [_added(name, mixer, key), _added("mlp", _EXPERTS, "mlp")]}


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
        _ByBranch(_types, _NAMES),
        aliases={"num_local_experts": ("num_experts",)},
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
