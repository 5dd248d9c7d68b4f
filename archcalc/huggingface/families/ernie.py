"""Mixtures whose routers are corrected or whose config has lists for layers: ERNIE 4.5, HunYuan."""

from __future__ import annotations

from itertools import pairwise

from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, layer
from archcalc.huggingface.families.mixtures import TRAINING, ByMixture, experts, shared_of
from archcalc.huggingface.family import (
    D_HEAD,
    Family,
    decoder,
    rmsnorm,
    sizes,
)
from archcalc.huggingface.layers import Kinds, Sparse
from archcalc.huggingface.leaves import Draft, Flag, Made, Mismatch
from archcalc.huggingface.rope import AlphaRotary, Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

_SOFTMAX = {"scores": "softmax", "normalized": True}
_USE_BIAS = Flag("use_bias")


def _ernie_dense(said: Said, n: int) -> list[bool]:
    """Experts from one layer to another, in each so-many-th."""
    start, step = said.size("moe_layer_start_index", least=0), said.size("moe_layer_interval", most=MOST_LAYERS)
    end = said.value("moe_layer_end_index")
    if isinstance(end, bool) or not isinstance(end, int) or end < -1:
        said.fail("moe_layer_end_index", "must be an integer from -1", end)
    end = n - 1 if end == -1 else end
    return [bool((i + 1) % step) or not start <= i <= end for i in range(n)]


def _say_ernie(dense: list[bool], draft: Draft) -> None:
    there = [i for i, one in enumerate(dense) if not one]
    steps = {after - before for before, after in pairwise(there)}
    step = steps.pop() if len(steps) == 1 else 1
    if steps or any((i + 1) % step for i in there):
        raise Mismatch("mlp")
    draft.put("moe_layer_start_index", there[0] if there else len(dense))
    draft.put("moe_layer_end_index", there[-1] if there else len(dense))
    draft.put("moe_layer_interval", step)


_ERNIE = experts(
    *("moe_num_experts", "moe_intermediate_size", {**_SOFTMAX, "correction": True}, "moe_k"),
    shared=shared_of("moe_num_shared_experts", "moe_intermediate_size", {**GATED, "bias": _USE_BIAS}),
)


def _alike(said: Said, key: str, least: int = 1) -> int:
    """A number, or a list of the same number for each layer."""
    value = said.value(key)
    if isinstance(value, list) and value and all(one == value[0] and type(one) is int for one in value):
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        said.fail(key, "must be an integer, or a list of one for all layers", value)
    if value < least:
        said.fail(key, f"must be at least {least}", value)
    return value


def _as_transformers(said: Said) -> None:
    """What HunYuan's own configs say beside what transformers reads must be what that builds."""
    for key, meant in (("moe_intermediate_size", said.size("intermediate_size")), ("num_shared_expert", 1)):
        if said.config.get(key) is not None:
            value = said.config[key]
            if value != meant and value != [meant] * len(value if isinstance(value, list) else ()):
                said.fail(key, f"must be {meant:,} in all layers, as transformers builds this family", value)


def _hunyuan_chosen(said: Said) -> int:
    count, most = _alike(said, "moe_topk"), _alike(said, "num_experts")
    if count > most:
        said.fail("moe_topk", f"must be at most num_experts ({most:,})", count)
    return count


_ALL = (
    Family(
        "ernie4_5_moe",
        "Ernie4_5_MoeConfig",
        ("Ernie4_5_MoeForCausalLM", "Ernie4_5_MoeModel"),
        sizes(
            *(103424, 2560, 12288, 28, 20, 4, 131072),
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            use_bias=False,
            moe_intermediate_size=1536,
            moe_k=6,
            moe_num_experts=64,
            moe_num_shared_experts=2,
            moe_layer_start_index=1,
            moe_layer_end_index=-1,
            moe_layer_interval=1,
        ),
        {
            **layer({"bias": _USE_BIAS, "rotary": Rotary(D_HEAD, 500_000.0, pairing="neighbours")}),
            "mlp": ByMixture(_ERNIE, {**GATED, "bias": _USE_BIAS}),
        },
        decoder(rmsnorm(), unembedding={"bias": _USE_BIAS}),
        Sparse(Kinds(), _ernie_dense, _say_ernie),
        aliases={"moe_num_experts": ("num_experts",), "moe_k": ("num_experts_per_tok",)},
        only={
            "moe_norm_min": ((1e-12,), "only 1e-12 is supported"),
            "moe_use_aux_free": ((True,), "is read as true by this family"),
            "moe_gate": (("topk", "topk_fused"), "is not supported in this family"),
            "moe_gate_act": (("softmax",), "is not supported in this family"),
            "moe_norm_gate_logits": ((True,), "is read as true by this family"),
            "compression_ratio": ((1, 1.0), "is read as 1 by this family"),
        },
        ignored=(*TRAINING, "moe_capacity", "moe_use_hard_gate", "fuse_rope", "ignored_index"),
    ),
    Family(
        "hunyuan_v1_moe",
        "HunYuanMoEV1Config",
        ("HunYuanMoEV1ForCausalLM", "HunYuanMoEV1Model"),
        sizes(
            *(290943, 4096, 11008, 32, 32, None, 2048),
            rms_norm_eps=1e-5,
            attention_bias=False,
            num_experts=1,
            moe_topk=1,
        ),
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": AlphaRotary(D_HEAD),
                    "qk_norm": rmsnorm(),
                    "qk_norm_place": "after",
                }
            ),
            "mlp": {
                **experts("num_experts", "intermediate_size", _SOFTMAX, shared=GATED),
                "n_experts": Made(
                    lambda said: _alike(said, "num_experts"), lambda value, draft: draft.put("num_experts", value)
                ),
                "n_experts_per_token": Made(_hunyuan_chosen, lambda value, draft: draft.put("moe_topk", value)),
            },
        },
        decoder(rmsnorm()),
        aliases={
            "head_dim": ("attention_head_dim",),
            "moe_topk": ("num_experts_per_tok",),
            "num_experts": ("num_local_experts",),
        },
        only={
            "use_qk_norm": ((True,), "is read as true by this family"),
            "use_mixed_mlp_moe": ((True,), "is read as true by this family"),
            "moe_layer_num_skipped": ((0,), "dense first layers are not supported in this family"),
            "use_cla": ((False,), "keys and values that layers share are not supported yet"),
            "use_mla": ((False,), "latent attention is not supported in this family"),
            "norm_type": (("rms",), "is not supported in this family"),
            "mlp_bias": ((False,), "is not supported in this family"),
        },
        checks=(_as_transformers,),
        ignored=(
            *TRAINING,
            *("eod_token_id", "im_start_id", "im_end_id", "im_newline_id", "text_start_id", "text_end_id"),
            *("moe_intermediate_size", "num_shared_expert", "cla_share_factor", "mask_init_id", "org_vocab_size"),
            *("moe_drop_tokens", "moe_random_routing_dropped_token", "capacity_factor", "group_limited_greedy"),
            *(
                "routed_scaling_factor",
                "norm_topk_prob",
                "use_rotary_pos_emb",
                "pool_type",
                "position_embedding_xdrope",
            ),
            *("n_group", "topk_group", "kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim"),
            *(
                "v_head_dim",
                "add_classification_head",
                "class_num",
                "dense_list",
                "rope_theta",
            ),
        ),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
