"""Mixtures that are near to others: Solar Open, K-EXAONE, Phi-3.5-MoE, Qwen3-VL's text model."""

from __future__ import annotations

from functools import partial
from typing import Any

from archcalc.huggingface.families.balanced import ALWAYS, BALANCED, DEEP, GROUPED, first, groups_share
from archcalc.huggingface.families.llama import ATTENTION_BIAS, QKV, layer
from archcalc.huggingface.families.mixtures import (
    MOE,
    TRAINING,
    ByMixture,
    by_step,
    by_types,
    experts,
    say_list,
    say_types,
    shared_of,
)
from archcalc.huggingface.families.olmo import EXAONE_ROTARY, exaone_types
from archcalc.huggingface.families.qwen import IMAGES
from archcalc.huggingface.family import (
    D_HEAD,
    SLIDING_WINDOW,
    WINDOW,
    Family,
    decoder,
    layernorm,
    rmsnorm,
    sizes,
    without,
)
from archcalc.huggingface.layers import DENSE, Kinds, LayerTypes, Sparse
from archcalc.huggingface.leaves import Draft, Flag, Mismatch, Number
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said
from archcalc.huggingface.scaling import Settings

_SOFTMAX = {"scores": "softmax", "normalized": True}
_PHI_NORM = layernorm("rms_norm_eps")


class _PhiRotary(Rotary):
    """Two scales of cosines and sines, of short texts and long ones, which are one where they are equal."""

    def settings(self, said: Said) -> Settings:
        found = super().settings(said)
        kind = found.inside.get("rope_type", found.inside.get("type")) or "default"
        if kind == "default":
            return found
        if kind not in ("longrope", "su"):
            found.fail("rope_type", "must be default or longrope in this family")
        short, long = (found.number(name) for name in _SCALES)
        if short != long:
            found.fail("long_mscale", f"that is not short_mscale ({short:g}) is not supported yet")
        inside = {name: value for name, value in found.inside.items() if name not in _SCALES}
        return found._replace(inside={**inside, "attention_factor": short})

    def write(self, value: Any, draft: Draft) -> None:
        factor = (value or {}).get("scaling", {}).get("attention_factor")
        if (value or {}).get("scaling") and factor is None:
            raise Mismatch("rotary.scaling")
        super().write(value, draft)
        if factor is not None:
            draft["rope_parameters"] |= dict.fromkeys(_SCALES, factor)
            draft["rope_parameters"].pop("attention_factor", None)


_SCALES = ("short_mscale", "long_mscale")


def _exaone_module(said: Said, types: list[str], n: int) -> list[str]:
    """Of the attention of the first layer, and without experts; one that all depths share is one module."""
    return [types[0].removesuffix(DENSE) + DENSE] if n == 1 or not said.config.get("mtp_share_layers") else []


_ALL = (
    Family(
        "solar_open",
        "SolarOpenConfig",
        ("SolarOpenForCausalLM", "SolarOpenModel"),
        without(
            sizes(*(196608, 4096, None, 48, 64, 8, 131072), **DEEP, rms_norm_eps=1e-5)
            | {
                "norm_topk_prob": True,
                "moe_intermediate_size": 1280,
                "head_dim": 128,
            },
            *("intermediate_size", "first_k_dense_replace"),
        ),
        {
            **layer(
                {
                    "bias": Flag("attention_bias", {True: QKV, False: False}),
                    "rotary": Rotary(D_HEAD, 1_000_000.0, partial=1.0),
                }
            ),
            "mlp": experts("n_routed_experts", "moe_intermediate_size", BALANCED, **GROUPED, shared=ALWAYS),
        },
        decoder(rmsnorm()),
        ignored=(*TRAINING, "intermediate_size", "first_k_dense_replace", "use_qk_norm"),
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(groups_share,),
    ),
    Family(
        "exaone_moe",
        "ExaoneMoeConfig",
        ("ExaoneMoeForCausalLM", "ExaoneMoeModel"),
        sizes(
            *(102400, 4096, 16384, 32, 32, 32, 2048),
            rms_norm_eps=1e-5,
            sliding_window=4096,
            sliding_window_pattern=4,
            layer_types=None,
            mlp_layer_types=None,
            first_k_dense_replace=1,
            moe_intermediate_size=1024,
            num_experts=64,
            num_experts_per_tok=8,
            num_shared_experts=1,
            norm_topk_prob=True,
            routed_scaling_factor=2.5,
            n_group=1,
            topk_group=1,
        ),
        {
            **layer({"rotary": EXAONE_ROTARY, "qk_norm": rmsnorm(), "window": SLIDING_WINDOW}),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size", BALANCED),
                    **GROUPED,
                    shared=shared_of("num_shared_experts", "moe_intermediate_size"),
                )
            ),
        },
        decoder(rmsnorm()),
        Sparse(LayerTypes(exaone_types), by_types(first), say_types),
        aliases={"num_experts": ("num_local_experts",)},
        only={
            "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "topk_method": (("noaux_tc",), "is not supported in this family"),
        },
        ignored=(*TRAINING, "is_moe_layer"),
        modules=Modules(made_of=_exaone_module, reads=("mtp_share_layers",)),
        checks=(partial(groups_share, n="num_experts"),),
    ),
    Family(
        "phimoe",
        "PhimoeConfig",
        ("PhimoeForCausalLM", "PhimoeModel", "PhiMoEForCausalLM"),
        sizes(
            *(32064, 4096, 6400, 32, 32, 8, 131072),
            rms_norm_eps=1e-5,
            sliding_window=None,
            attention_bias=False,
            lm_head_bias=False,
            num_local_experts=16,
            num_experts_per_tok=2,
            router_jitter_noise=0.01,
        ),
        {
            **layer(
                {"bias": ATTENTION_BIAS, "rotary": _PhiRotary(D_HEAD, 1_000_000.0), "window": WINDOW}, norm=_PHI_NORM
            ),
            "mlp": experts(
                *("num_local_experts", "intermediate_size"),
                {"scores": "sparse_mixer", "normalized": False, "jitter": Number("router_jitter_noise")},
            ),
        },
        decoder(_PHI_NORM, unembedding={"bias": Flag("lm_head_bias")}),
        aliases={"num_local_experts": ("num_experts",)},
        ignored=(*TRAINING, "input_jitter_noise"),
    ),
    Family(
        "qwen3_vl_moe_text",
        "Qwen3VLMoeTextConfig",
        ("Qwen3VLMoeTextModel",),
        sizes(
            *(151936, 2048, 5632, 24, 16, 16, 128000),
            **without(MOE, "norm_topk_prob"),
            tie_word_embeddings=True,
            num_experts=60,
            decoder_sparse_step=1,
            mlp_only_layers=None,
            attention_bias=False,
        )
        | {"num_experts_per_tok": 4},
        {
            **layer({"bias": ATTENTION_BIAS, "qk_norm": rmsnorm(), "rotary": Rotary(D_HEAD, 500_000.0, **IMAGES)}),
            "mlp": ByMixture(experts("num_experts", "moe_intermediate_size", _SOFTMAX)),
        },
        decoder(rmsnorm()),
        Sparse(Kinds(), by_step, say_list),
        aliases={"num_experts": ("num_local_experts",)},
        only={"norm_topk_prob": ((True,), "is read as true by this family")},
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
