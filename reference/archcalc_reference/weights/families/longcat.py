"""The names of LongCat-Flash's checkpoints: two of each part that a layer has twice, in lists, and one mixture."""

from __future__ import annotations

from archcalc_reference.weights.families.family import Fused
from archcalc_reference.weights.families.latent import FUSED, INSIDE
from archcalc_reference.weights.families.llama import LLAMA

_PROJECTIONS = ("gate", "up", "down")


def _names(i: int) -> dict[str, str]:
    """Those of one attention and the MLP behind it."""
    latents = {
        ours.replace("attention", f"attention_{i}"): theirs.replace("self_attn", f"self_attn.{i}")
        for ours, theirs in INSIDE.items()
    }
    return {
        **latents,
        f"attention_{i}.output": f"self_attn.{i}.o_proj",
        f"attention_{i}_norm": f"input_layernorm.{i}",
        **{f"mlp_{i}.{name}": f"mlps.{i}.{name}_proj" for name in _PROJECTIONS},
    }


def _fused(i: int) -> dict[str, Fused]:
    return {
        theirs.replace("self_attn", f"self_attn.{i}"): fused._replace(
            parts=tuple(part.replace("attention", f"attention_{i}") for part in fused.parts), needs="", otherwise=""
        )
        for theirs, fused in FUSED.items()
    }


FAMILIES = (
    LLAMA.but(
        "longcat_flash",
        inside={
            **_names(0),
            **_names(1),
            "experts_norm": "post_attention_layernorm.0",  # which MLP 0 shares
            "mlp_1_norm": "post_attention_layernorm.1",
            "experts.router": "mlp.router.classifier",
            "experts.correction": "mlp.router.e_score_correction_bias",
            "experts.experts.down.weight": "mlp.experts.down_proj",
        },
        fused={
            "mlp.experts.gate_up_proj": Fused(("experts.experts.gate", "experts.experts.up"), "n_experts", bare=True),
            **_fused(0),
            **_fused(1),
        },
        each={f"experts.experts.{name}.weight": f"mlp.experts.{{h}}.{name}_proj.weight" for name in _PROJECTIONS},
        spare=("mlp.experts.{h}.gate_proj.weight", "mlp.experts.{h}.up_proj.weight"),
    ),
)
