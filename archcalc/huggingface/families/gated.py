"""Mixtures with norms of queries and keys, or gated outputs: Trinity, Hy3, Mellum 2, Kolibri."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, MLP_BIAS, layer
from archcalc.huggingface.families.mixtures import (
    TRAINING,
    ByMixture,
    by_types,
    experts,
    say_types,
    shared_of,
)
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import FULL, SLIDING, Kinds, LayerTypes, Sparse, every
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Made, Mismatch, Number, Size
from archcalc.huggingface.modules import NEXTN, TYPES, Modules
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_SANDWICH = {"post_norm": rmsnorm()}
SCORES = {"scores": "sigmoid", "normalized": True, "correction": True}


def _first(said: Said, n: int) -> list[bool]:
    count = said.size("num_dense_layers", least=0)
    return [i < count for i in range(n)]


def _say_first(dense: list[bool], draft: Draft) -> None:
    count = sum(dense)
    if not all(dense[:count]):
        raise Mismatch("mlp")
    draft.put("num_dense_layers", count)


def all_but_first(_: Said, n: int) -> list[bool]:
    return [i == 0 for i in range(n)]


_KOLIBRI_ROTARY = Rotary(D_HEAD)


def _kolibri_rotary(said: Said) -> Any:
    """Layers without a window have no positions either, where there are windows at all."""
    turns = said.layer.startswith(SLIDING) or said.none("sliding_window")
    return _KOLIBRI_ROTARY.read(said) if turns else None


def _mellum_module(said: Said, _types: list[str], n: int) -> list[str]:
    """A window and experts, but where lists say otherwise."""
    kinds = [said.config.get(key) for key in TYPES]
    return [SLIDING] if n == 1 and kinds[0] in (None, [SLIDING]) and kinds[1] in (None, ["sparse"]) else []


def _shares(said: Said) -> None:
    """HunYuan 3's class makes a whole MLP of no shared experts."""
    said.size("num_shared_experts")


_ALL = (
    Family(
        "afmoe",
        "AfmoeConfig",
        ("AfmoeForCausalLM", "AfmoeModel"),
        sizes(
            *(200192, 2048, 6144, 32, 16, None, 16384),
            rms_norm_eps=1e-5,
            attention_bias=False,
            num_dense_layers=1,
            moe_intermediate_size=1408,
            num_experts=64,
            num_experts_per_tok=6,
            num_shared_experts=2,
            route_scale=1.0,
            global_attn_every_n_layers=4,
            sliding_window=1024,
            layer_types=None,
            mup_enabled=False,
        )
        | {"head_dim": 128},
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": ByLayer({SLIDING: Rotary(D_HEAD), FULL: None}),
                    "qk_norm": rmsnorm(),
                    "window": SLIDING_WINDOW,
                    "gate": "feature",
                },
                **_SANDWICH,
            ),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size"),
                    {**SCORES, "scale": Number("route_scale", neutral=1.0)},
                    shared=shared_of("num_shared_experts", "moe_intermediate_size"),
                )
            ),
        },
        decoder(rmsnorm(), embedding={"scale": Flag("mup_enabled", {True: "sqrt_d_model", False: None})}),
        Sparse(LayerTypes(lambda said, n: every("global_attn_every_n_layers", said, n)), _first, _say_first),
        aliases={"num_experts": ("num_local_experts",)},
        only={
            "score_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "route_norm": ((True,), "is read as true by this family"),
            "n_group": ((1, None), "groups of experts are not supported in this family"),
            "topk_group": ((1, None), "groups of experts are not supported in this family"),
            "num_expert_groups": ((1, None), "groups of experts are not supported in this family"),
            "num_limited_groups": ((1, None), "groups of experts are not supported in this family"),
        },
        ignored=(*TRAINING, "load_balance_coeff", "use_grouped_mm"),
    ),
    Family(
        "hy_v3",
        "HYV3Config",
        ("HYV3ForCausalLM", "HYV3Model"),
        sizes(
            *(120832, 4096, 13312, 80, 64, 8, 131072),
            rms_norm_eps=1e-5,
            attention_bias=False,
            mlp_bias=False,
            mlp_layer_types=None,
            num_experts=192,
            num_experts_per_tok=8,
            num_shared_experts=1,
            moe_intermediate_size=1536,
            router_scaling_factor=2.826,
            initializer_range=0.006,
        )
        | {"head_dim": 128},
        {
            **layer({"bias": ATTENTION_BIAS, "rotary": Rotary(D_HEAD, 11_158_840.0), "qk_norm": rmsnorm()}),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size"),
                    {**SCORES, "scale": Number("router_scaling_factor", neutral=1.0)},
                    shared=shared_of(*("num_shared_experts", "moe_intermediate_size"), {**GATED, "bias": MLP_BIAS}),
                ),
                {**GATED, "bias": MLP_BIAS},
            ),
        },
        decoder(rmsnorm()),
        Sparse(Kinds(), by_types(all_but_first), say_types),
        checks=(_shares,),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, "enable_moe_fp32_combine"),
    ),
    Family(
        "mellum",
        "MellumConfig",
        ("MellumForCausalLM", "MellumModel"),
        sizes(
            *(98304, 2304, 7168, 28, 32, 4, 131072),
            attention_bias=False,
            sliding_window=1024,
            layer_types=None,
            mlp_layer_types=None,
            moe_intermediate_size=896,
            num_experts=64,
            num_experts_per_tok=8,
            norm_topk_prob=True,
        )
        | {"head_dim": 128},
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": ByLayer(
                        {
                            FULL: Rotary(D_HEAD, 500_000.0, nested=True),
                            SLIDING: Rotary(D_HEAD, theta_key="", nested=True, scales=False),
                        }
                    ),
                    "qk_norm": rmsnorm(),
                    "window": SLIDING_WINDOW,
                }
            ),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size"),
                    {"scores": "softmax", "normalized": Flag("norm_topk_prob")},
                )
            ),
        },
        decoder(rmsnorm()),
        Sparse(LayerTypes(lambda _, n: [FULL] * n), by_types(lambda _, n: [False] * n), say_types),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=TRAINING,
        modules=Modules(NEXTN[::-1], _mellum_module, TYPES),
    ),
    Family(
        "kolibri1",
        "Kolibri1Config",
        ("Kolibri1ForCausalLM", "Kolibri1Model"),
        {
            **without(
                sizes(
                    *(128000, 2560, None, 50, 48, 4, 262144),
                    sliding_window=513,
                    layer_types=None,
                    moe_intermediate_size=512,
                    shared_expert_intermediate_size=512,
                    num_experts=384,
                    num_experts_per_tok=6,
                    norm_topk_prob=False,
                ),
                "intermediate_size",
            ),
            "head_dim": 128,
        },
        {
            **layer(
                {
                    "rotary": Made(_kolibri_rotary, _KOLIBRI_ROTARY.write),
                    "qk_norm": rmsnorm(),
                    "window": SLIDING_WINDOW,
                },
                **_SANDWICH,
            ),
            "mlp": experts(
                *("num_experts", "moe_intermediate_size"),
                {"scores": "sigmoid_of_chosen", "normalized": Flag("norm_topk_prob"), "correction": True},
                shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
            ),
        },
        decoder(rmsnorm()),
        LayerTypes(lambda _, n: [SLIDING if (i + 1) % 5 else FULL for i in range(n)]),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, "intermediate_size"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
