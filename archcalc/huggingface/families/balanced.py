"""Mixtures of experts by sigmoids that a correction balances, as DeepSeek-V3's: GLM-4.5, dots.llm1, MiniMax-M2."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, QKV, layer
from archcalc.huggingface.families.mixtures import MOE, TRAINING, ByMixture, experts, shared_of
from archcalc.huggingface.families.qwen import IMAGES
from archcalc.huggingface.family import (
    D_HEAD,
    SLIDING_WINDOW,
    Family,
    decoder,
    rmsnorm,
    sizes,
)
from archcalc.huggingface.layers import FULL, SLIDING, Kinds, LayerTypes, Sparse
from archcalc.huggingface.leaves import (
    Draft,
    Flag,
    Leaf,
    Made,
    Mismatch,
    Number,
    Quotient,
    Size,
)
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.rope import CountedRotary, Rotary
from archcalc.huggingface.said import Said

_ROUNDED = Size("head_dim", Quotient("hidden_size", "num_attention_heads", down=True))


def first(said: Said, n: int) -> list[bool]:
    """The first layers have no experts."""
    count = said.size("first_k_dense_replace", least=0)
    return [i < count for i in range(n)]


def say_first(dense: list[bool], draft: Draft) -> None:
    count = sum(dense)
    if not all(dense[:count]):
        raise Mismatch("mlp")
    draft.put("first_k_dense_replace", count)


def _dots_windows(said: Said, n: int) -> list[str]:
    if said.none("sliding_window"):
        return [FULL] * n
    first = said.size("max_window_layers", least=0)
    return [SLIDING if i >= first else FULL for i in range(n)]


def _groups(key: str) -> Leaf:
    """Groups of experts; one is none."""

    def read(said: Said) -> int | None:
        if said.none(key) or said.none("n_group"):
            said.value(key)
            return None
        count = said.size(key)
        return count if said.size("n_group") > 1 else None

    return Made(read, lambda value, draft: draft.put(key, 1 if value is None else value))


def groups_share(said: Said, n: str = "n_routed_experts") -> None:
    """Groups are of two experts at least, whose best two say how good they are."""
    groups = 1 if said.none("n_group") else said.size("n_group")
    experts = said.size(n)
    if experts % groups or experts < 2 * groups:
        said.fail("n_group", f"must divide {n} ({experts:,}) into groups of at least 2", groups)
    if groups == 1 or said.none("topk_group"):
        return
    left, wanted = said.size("topk_group"), said.size("num_experts_per_tok")
    if left > groups:
        said.fail("topk_group", f"must be at most n_group ({groups:,})", left)
    if left * (experts // groups) < wanted:
        said.fail("topk_group", f"must leave at least num_experts_per_tok ({wanted:,}) experts", left)


BALANCED = {
    "scores": "sigmoid",
    "normalized": Flag("norm_topk_prob"),
    "correction": True,
    "scale": Number("routed_scaling_factor", neutral=1.0),
}


ALWAYS = shared_of("n_shared_experts", "moe_intermediate_size")


GROUPED: dict[str, Any] = {"n_groups": _groups("n_group"), "n_groups_chosen": _groups("topk_group")}


_DEEPSEEK = ByMixture(experts("n_routed_experts", "moe_intermediate_size", BALANCED, **GROUPED, shared=ALWAYS))


DEEP: dict[str, Any] = {
    **MOE,
    "n_shared_experts": 1,
    "n_routed_experts": 128,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "attention_bias": False,
}


def _deep_layer(attention: dict[str, Any]) -> dict[str, Any]:
    return {**layer(attention), "mlp": _DEEPSEEK}


_ALL = (
    Family(
        "glm4_moe",
        "Glm4MoeConfig",
        ("Glm4MoeForCausalLM", "Glm4MoeModel"),
        sizes(
            *(151552, 4096, 10944, 46, 96, 8, 131072),
            **DEEP,
            rms_norm_eps=1e-5,
            use_qk_norm=False,
        )
        | {"norm_topk_prob": True},
        _deep_layer(
            {
                "bias": Flag("attention_bias", {True: QKV, False: False}),
                "d_head": _ROUNDED,
                "rotary": Rotary(_ROUNDED, partial=0.5),
                "qk_norm": Flag("use_qk_norm", {True: rmsnorm(), False: None}),
            }
        ),
        decoder(rmsnorm()),
        Sparse(Kinds(), first, say_first),
        ignored=TRAINING,
        modules=Modules(otherwise=1),
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(groups_share,),
    ),
    Family(
        "sarvam_moe",
        "SarvamMoEConfig",
        ("Glm4MoeForCausalLM", "Glm4MoeModel"),
        sizes(
            *(262144, 4096, 8192, 19, 64, 4, 131072),
            **DEEP,
            head_dim=64,
            use_qk_norm=True,
            initializer_range=0.006,
        )
        | {
            "norm_topk_prob": True,
            "moe_intermediate_size": 1024,
            "num_experts_per_tok": 6,
            "routed_scaling_factor": 2.5,
        },
        _deep_layer(
            {
                "bias": Flag("attention_bias", {True: QKV, False: False}),
                "rotary": Rotary(D_HEAD, 8_000_000.0, partial=1.0),
                "qk_norm": Flag("use_qk_norm", {True: rmsnorm(), False: None}),
            }
        ),
        decoder(rmsnorm()),
        Sparse(Kinds(), first, say_first),
        ignored=TRAINING,
        modules=Modules(),
        aliases={
            "n_routed_experts": ("num_local_experts", "num_experts"),
            "n_shared_experts": ("num_shared_experts",),
            "attention_bias": ("use_qkv_bias",),
        },
        checks=(groups_share,),
    ),
    Family(
        "glm4v_moe_text",
        "Glm4vMoeTextConfig",
        ("Glm4vMoeTextModel",),
        sizes(*(151424, 4096, 10944, 46, 96, 8, 65536), **DEEP, rms_norm_eps=1e-5)
        | {"norm_topk_prob": True, "attention_bias": True},
        _deep_layer(
            {
                "bias": Flag("attention_bias", {True: QKV, False: False}),
                "d_head": _ROUNDED,
                "rotary": Rotary(_ROUNDED, partial=0.5, **IMAGES),
            }
        ),
        decoder(rmsnorm()),
        Sparse(Kinds(), first, say_first),
        ignored=TRAINING,
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(groups_share,),
    ),
    Family(
        "dots1",
        "Dots1Config",
        ("Dots1ForCausalLM", "Dots1Model"),
        sizes(
            *(152064, 4608, 10944, 62, 32, 32, 2048),
            **DEEP,
            sliding_window=4096,
            max_window_layers=62,
            layer_types=None,
        )
        | {
            "first_k_dense_replace": 0,
            "n_routed_experts": None,
            "n_shared_experts": None,
            "num_experts_per_tok": None,
        },
        _deep_layer({"bias": ATTENTION_BIAS, "qk_norm": rmsnorm(), "window": SLIDING_WINDOW}),
        decoder(rmsnorm()),
        Sparse(LayerTypes(_dots_windows), first, say_first),
        only={
            "scoring_func": (("noaux_tc", "sigmoid"), "scores that are not sigmoids are not supported in this family"),
            "topk_method": (("noaux_tc",), "this family chooses by noaux_tc"),
            "moe_layer_freq": ((1,), "layers with experts that are not all of the rest are not supported yet"),
        },
        ignored=TRAINING,
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(groups_share,),
    ),
    Family(
        "minimax_m2",
        "MiniMaxM2Config",
        ("MiniMaxM2ForCausalLM", "MiniMaxM2Model"),
        sizes(*(200064, 3072, 1536, 62, 48, 8, 196608), num_local_experts=256, num_experts_per_tok=8)
        | {"head_dim": 128, "rotary_dim": None},
        {
            **layer(
                {
                    "rotary": CountedRotary(D_HEAD, 5_000_000.0, partial=1.0),
                    "qk_norm": rmsnorm(),
                    "qk_norm_over": "width",
                }
            ),
            "mlp": experts(
                *("num_local_experts", "intermediate_size"),
                {"scores": "sigmoid", "normalized": True, "correction": True},
            ),
        },
        decoder(rmsnorm()),
        aliases={"num_local_experts": ("num_experts",)},
        only={
            "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "use_qk_norm": ((True,), "this family norms queries and keys"),
            "qk_norm_type": (("per_layer",), "this family norms all heads together"),
            "use_routing_bias": ((True,), "this family has a correction of its scores"),
            "shared_intermediate_size": ((0,), "this family has no shared experts"),
            **dict.fromkeys(
                [f"layernorm_{kind}_beta" for kind in ("full_attention", "linear_attention", "mlp")],
                ((1, 1.0), "branches that are scaled are not supported in this family"),
            ),
        },
        ignored=(
            *(*TRAINING, "attn_type_list", "mtp_transformer_layers", "use_mtp"),
            *("mlp_intermediate_size", "shared_moe_mode"),
        ),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
