"""Heads with sinks, learned scores that take their share of the softmax: gpt-oss, MiMo-V2-Flash, Flint."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.balanced import BALANCED, DEEP, GROUPED, groups_share
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, QKV, layer
from archcalc.huggingface.families.mixtures import (
    TRAINING,
    ByMixture,
    by_step,
    by_types,
    experts,
    say_list,
    say_types,
)
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import DENSE, FULL, SLIDING, LayerTypes, Sparse
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Made, Mismatch, Number, Size
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def _mimo_types(said: Said, n: int) -> list[str]:
    """A list of 0 and 1 in MiMo's own configs; else windows but in the first and each sixth layer."""
    if said.none("hybrid_layer_pattern"):
        return [SLIDING if i and (i + 1) % 6 else FULL for i in range(n)]
    return [SLIDING if one else FULL for one in _switches(said, "hybrid_layer_pattern", n)]


def _mimo_dense(said: Said, n: int) -> list[bool]:
    if said.none("moe_layer_freq"):
        return [i == 0 for i in range(n)]
    return [not one for one in _switches(said, "moe_layer_freq", n)]


def _switches(said: Said, key: str, n: int) -> list[int]:
    found = said.value(key)
    if (
        not isinstance(found, list)
        or len(found) != n
        or any(type(one) is not int or one not in (0, 1) for one in found)
    ):
        said.fail(key, f"must be a list with 0 or 1 for each of {n:,} layers", found)
    return list(found)


def _mimo_kv_heads(said: Said) -> int:
    """Layers with windows have twice as many."""
    heads, found = said.size("num_attention_heads"), said.size("num_key_value_heads")
    found *= 2 if said.layer.startswith(SLIDING) else 1
    if heads % found:
        said.fail("num_key_value_heads", f"or twice it must divide num_attention_heads ({heads:,})", found)
    return found


def _say_mimo_kv_heads(value: Any, draft: Draft) -> None:
    half, rest = divmod(value, 2) if draft.layer.startswith(SLIDING) else (value, 0)
    if rest:
        raise Mismatch("attention.n_kv_heads")
    draft.put("num_key_value_heads", half)


def _mimo_window(said: Said) -> int | None:
    if not said.layer.startswith(SLIDING):
        return None
    if not said.none("sliding_window_size"):  # the positions before that of the query
        said.value("sliding_window")
        return said.size("sliding_window_size") + 1
    found: int = SLIDING_WINDOW.read(said)
    return found


def _mimo_value(said: Said) -> int | None:
    width = said.size("v_head_dim")
    return None if width == said.size("head_dim") else width


def _mimo_alike(said: Said) -> None:
    """What MiMo's own configs say of layers with windows must be what transformers builds."""
    kv_heads = 2 * said.size("num_key_value_heads")
    same = {
        "swa_num_attention_heads": "num_attention_heads",
        "swa_head_dim": "head_dim",
        "swa_v_head_dim": "v_head_dim",
    }
    meant = {key: said.size(other) for key, other in same.items()} | {"swa_num_key_value_heads": kv_heads}
    for key, size in meant.items():
        if said.config.get(key, size) != size:
            said.fail(key, f"must be {size:,}, as transformers builds this family", said.config[key])


_MIMO_ROTARY = {
    FULL: Rotary(D_HEAD, 5_000_000.0, partial=0.334, nested=True),
    SLIDING: Rotary(D_HEAD, 10_000.0, theta_key="swa_rope_theta", partial=0.334, nested=True, scales=False),
}
_ALONE = Number("routed_scaling_factor", neutral=1.0, optional=True)


def _flint_types(_: Said, n: int) -> list[str]:
    """Full attention in the first two layers, every fourth and the last."""
    return [FULL if i < 2 or i % 4 == 1 or i == n - 1 else SLIDING for i in range(n)]


def _flint_dense(said: Said, n: int) -> list[bool]:
    first = said.none("mlp_only_layers")
    return [dense or (first and i < _DENSE_FIRST) for i, dense in enumerate(by_step(said, n))]


_DENSE_FIRST = 2  # layers of Flint, where no list says which


_ALL = (
    Family(
        "gpt_oss",
        "GptOssConfig",
        ("GptOssForCausalLM", "GptOssModel"),
        sizes(
            *(201088, 2880, 2880, 36, 64, 8, 131072),
            head_dim=64,
            rms_norm_eps=1e-5,
            attention_bias=True,
            sliding_window=128,
            layer_types=None,
            num_local_experts=128,
            num_experts_per_tok=4,
            swiglu_limit=7.0,
        ),
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": Rotary(D_HEAD, 150_000.0, default=_YARN),
                    "window": SLIDING_WINDOW,
                    "sinks": True,
                }
            ),
            "mlp": {
                **experts(
                    *("num_local_experts", "intermediate_size"),
                    {"scores": "softmax_of_chosen", "normalized": False, "bias": True},
                ),
                "activation": "gelu_quick",
                "cut": {"limit": Number("swiglu_limit"), "gate": "before", "plus_one": True},
                "bias": True,
            },
        },
        decoder(rmsnorm()),
        LayerTypes(lambda _, n: [FULL if i % 2 else SLIDING for i in range(n)]),
        aliases={"num_local_experts": ("num_experts",), "num_experts_per_tok": ("experts_per_token",)},
        only={"swiglu_alpha": ((1.702,), "only 1.702 is supported")},
        ignored=(*TRAINING, "hidden_act", "initial_context_length"),
    ),
    Family(
        "mimo_v2_flash",
        "MiMoV2FlashConfig",
        ("MiMoV2FlashForCausalLM", "MiMoV2FlashModel"),
        {
            **without(
                sizes(
                    *(152576, 4096, 16384, 48, 64, 4, 131072),
                    **DEEP,
                    rms_norm_eps=1e-5,
                    v_head_dim=128,
                    attention_value_scale=0.707,
                    sliding_window=129,
                    sliding_window_size=None,
                    layer_types=None,
                    mlp_layer_types=None,
                    hybrid_layer_pattern=None,
                    moe_layer_freq=None,
                    swa_rope_theta=None,
                ),
                *("n_shared_experts", "first_k_dense_replace"),
            ),
            "head_dim": 192,
            "moe_intermediate_size": 2048,
            "n_routed_experts": 256,
            "norm_topk_prob": True,
        },
        {
            **layer(
                {
                    "n_kv_heads": Made(_mimo_kv_heads, _say_mimo_kv_heads),
                    "d_value": Made(
                        _mimo_value,
                        lambda value, draft: draft.put("v_head_dim", draft.d_head if value is None else value),
                    ),
                    "bias": Flag("attention_bias", {True: QKV, False: False}),
                    "rotary": ByLayer(_MIMO_ROTARY),
                    "window": Made(_mimo_window, SLIDING_WINDOW.write),
                    "sinks": ByLayer({SLIDING: True, FULL: None}),
                    "value_scale": Number("attention_value_scale", neutral=1.0, optional=True),
                }
            ),
            "mlp": ByMixture(
                experts(*("n_routed_experts", "moe_intermediate_size"), {**BALANCED, "scale": _ALONE}, **GROUPED)
            ),
        },
        decoder(rmsnorm()),
        Sparse(
            LayerTypes(_mimo_types, listed="hybrid_layer_pattern"), by_types(_mimo_dense, "moe_layer_freq"), say_types
        ),
        aliases={"n_routed_experts": ("num_local_experts",), "rms_norm_eps": ("layernorm_epsilon",)},
        only={
            "add_swa_attention_sink_bias": ((True,), "is read as true by this family"),
            "add_full_attention_sink_bias": ((False,), "is read as false by this family"),
            "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "topk_method": (("noaux_tc",), "is not supported in this family"),
            "n_shared_experts": ((None, 0), "this family has no shared experts"),
        },
        checks=(groups_share, _mimo_alike),
        ignored=(
            *TRAINING,
            *("attention_chunk_size", "swa_num_attention_heads"),
            *("swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim"),
        ),
        modules=Modules(made_of=lambda *_: [SLIDING + DENSE]),
    ),
    Family(
        "flint",
        "FlintConfig",
        ("FlintForCausalLM", "FlintModel"),
        sizes(
            *(150144, 2048, 6144, 49, 32, 4, 262144),
            attention_bias=False,
            sliding_window=513,
            layer_types=None,
            mlp_only_layers=None,
            decoder_sparse_step=1,
            moe_intermediate_size=512,
            shared_expert_intermediate_size=1024,
            num_experts=256,
            num_experts_per_tok=6,
            norm_topk_prob=True,
        )
        | {"head_dim": 128},
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "qk_norm": rmsnorm(),
                    "rotary": ByLayer({SLIDING: Rotary(D_HEAD), FULL: None}),
                    "window": SLIDING_WINDOW,
                    "sinks": True,
                }
            ),
            "mlp": ByMixture(
                experts(
                    *("num_experts", "moe_intermediate_size"),
                    {"scores": "sigmoid", "normalized": Flag("norm_topk_prob")},
                    shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
                )
            ),
        },
        decoder(rmsnorm()),
        Sparse(LayerTypes(_flint_types), _flint_dense, say_list),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
