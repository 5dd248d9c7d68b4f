"""Laguna: as many heads as a list says for each layer, whose outputs are gated by a softplus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.gated import SCORES, all_but_first
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, layer
from archcalc.huggingface.families.mixtures import (
    TRAINING,
    ByMixture,
    by_types,
    experts,
    say_types,
)
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes, Sparse
from archcalc.huggingface.leaves import ByLayer, Draft, Made, Mismatch, Number, Size, attention_of
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_HEADS = "num_attention_heads_per_layer"


class _Heads(LayerTypes):
    """Types of attention with as many heads as a list says for each layer, behind a slash."""

    def types(self, said: Said) -> list[str]:
        types = super().types(said)
        if said.none(_HEADS):
            said.value(_HEADS, counts=False)
            heads = [said.size("num_attention_heads")] * len(types)
        else:
            heads = said.value(_HEADS)
            if not isinstance(heads, list) or len(heads) != len(types) or any(type(n) is not int for n in heads):
                said.fail(_HEADS, f"must be a list with a number for each of {len(types):,} layers", heads)
        return [f"{kind}/{n}" for kind, n in zip(types, heads, strict=True)]

    def name(self, layer: str) -> str:
        kind, _, heads = layer.partition("/")
        return f"{self.names[kind]}_{heads}_heads"

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        heads = layer.get("attention", {}).get("n_heads", 1)
        return [f"{kind}/{heads}" for kind in super().candidates(layer)]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write([attention_of(kind) for kind in types], draft)
        heads = [int(kind.split("/")[1]) for kind in types]
        draft.put("num_attention_heads", heads[0])
        draft.put(_HEADS, heads)


def _laguna_heads(said: Said) -> int:
    heads, shared = int(said.layer.split("/")[1]), said.size("num_key_value_heads")
    if heads < 1 or heads % shared:
        said.fail(_HEADS, f"must be multiples of num_key_value_heads ({shared:,})", heads)
    return heads


def _gating(said: Said) -> str:
    """A number for each head, or for each feature: that is what false is too."""
    value = said.value("gating")
    if value not in (True, False, "per-head", "per-element"):
        said.fail("gating", 'must be true, "per-head" or "per-element"', value)
    return "head" if value in (True, "per-head") else "feature"


def _say_gating(value: Any, draft: Draft) -> None:
    if value is None:
        raise Mismatch("attention.gate")
    draft.put("gating", "per-head" if value == "head" else "per-element")


_ALL = (
    Family(
        "laguna",
        "LagunaConfig",
        ("LagunaForCausalLM", "LagunaModel"),
        sizes(
            *(100352, 2048, 8192, 40, 48, 8, 131072),
            attention_bias=False,
            num_attention_heads_per_layer=None,
            gating=True,
            sliding_window=512,
            layer_types=None,
            mlp_layer_types=None,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=512,
            num_experts=256,
            num_experts_per_tok=8,
            moe_routed_scaling_factor=1.0,
        )
        | {"head_dim": 128},
        {
            **layer(
                {
                    "n_heads": Made(_laguna_heads),
                    "bias": ATTENTION_BIAS,
                    "rotary": ByLayer(
                        {
                            FULL: Rotary(
                                D_HEAD,
                                500_000.0,
                                partial=1.0,
                                nested=True,
                                default={"partial_rotary_factor": 0.5},
                            ),
                            SLIDING: Rotary(D_HEAD, theta_key="", partial=1.0, nested=True, scales=False),
                        }
                    ),
                    "qk_norm": rmsnorm(),
                    "window": SLIDING_WINDOW,
                    "gate": Made(_gating, _say_gating),
                    "gate_activation": "softplus",
                }
            ),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size"),
                    {**SCORES, "scale": Number("moe_routed_scaling_factor", neutral=1.0)},
                    shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
                )
            ),
        },
        decoder(rmsnorm()),
        Sparse(_Heads(lambda _, n: [FULL] * n), by_types(all_but_first), say_types),
        aliases={"num_experts": ("num_local_experts",)},
        only={
            "moe_apply_router_weight_on_input": ((False,), "is not supported in this family"),
            "moe_router_logit_softcapping": ((0, 0.0), "capped scores of experts are not supported yet"),
        },
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
