"""Latent attention to the positions that an indexer chooses: DeepSeek-V3.2 and GLM-5."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.balanced import BALANCED, GROUPED
from archcalc.huggingface.families.deepseek import ONE_WAY, deepseek_v3, listed, mixture
from archcalc.huggingface.families.latent import NEIGHBOURS, LatentRotary, latent, latent_sizes, layer_with
from archcalc.huggingface.layers import INDEXED, LayerTypes
from archcalc.huggingface.leaves import Size
from archcalc.huggingface.said import Said

_HALVES = LatentRotary()
_INDEXER = {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64}


def _indexer(rotary: LatentRotary) -> dict[str, Any]:
    return {
        "n_heads": Size("index_n_heads"),
        "d_head": Size("index_head_dim"),
        "top_k": Size("index_topk"),
        "norm": {"kind": "layernorm", "bias": True, "epsilon": 1e-6},
        "rotary": rotary,
    }


def _layer(rotary: LatentRotary) -> dict[str, Any]:
    indexed = latent(NEIGHBOURS, q_rank=Size("q_lora_rank"), indexer=_indexer(rotary))
    return layer_with(indexed, mixture(BALANCED, None, **GROUPED))


def _wide_enough(said: Said) -> None:
    """The features that the indexer turns are those that attention turns."""
    turned, width = said.size("qk_rope_head_dim"), said.size("index_head_dim")
    if width < turned:
        said.fail("index_head_dim", f"must be at least qk_rope_head_dim ({turned:,})", width)


_SHARED = "positions that layers share the choice of are not supported yet"


_WORDS = {"full": "full", "shared": "shared"}
_LETTERS = {**_WORDS, "F": "full", "S": "shared"}


def _each_chooses(said: Said) -> None:
    """GLM-5's layers each have an indexer; later ones may take the choice of a layer before."""
    layers = said.size("num_hidden_layers")
    for key, kinds, forms in (("indexer_types", _WORDS, (list,)), ("index_topk_pattern", _LETTERS, (list, str))):
        found = said.config.get(key)
        if found is None:
            continue
        fits = isinstance(found, forms) and len(found) == layers
        if not fits or any(not isinstance(kind, str) or kind not in kinds for kind in found):
            said.fail(key, f"must have full or shared for each of {layers:,} layers", found)
        if any(kinds[kind] == "shared" for kind in found):
            said.fail(key, _SHARED, found)
        return
    if said.size("index_topk_freq", least=0, counts=False) > 1:
        said.fail("index_topk_freq", _SHARED, said.config["index_topk_freq"])


_TYPES = LayerTypes(lambda _said, n: [INDEXED] * n, {INDEXED: "indexed"})
_LISTED = listed(lambda said: said.size("first_k_dense_replace", least=0), attention=_TYPES)
_FIXED = {
    **ONE_WAY,
    "rope_interleave": ((True,), "pairs of halves are not supported in this family"),
}
_INTERLEAVED = {"indexer_rope_interleave": ((True,), "pairs of halves are not supported in this family's indexers")}
_CHOICES = ("indexer_types", "index_topk_pattern", "index_skip_topk_offset")
_COMMON: dict[str, Any] = {
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "mlp_layer_types": None,
    "layer_types": None,
    "first_k_dense_replace": 3,
}

_ALL = (
    deepseek_v3(
        "deepseek_v32",
        "DeepseekV32",
        latent_sizes(
            *(129280, 7168, 18432, 61, 128, 128, 163840),
            latents=(1536, 512, 128, 64, 128),
            **{**_COMMON, **_INDEXER, "n_group": 8, "topk_group": 4},
        ),
        _LISTED,
        layer=_layer(_HALVES),
        only=_FIXED,
        more_ignored=("mlp_bias", "pretraining_tp"),
        more_checks=(_wide_enough,),
    ),
    deepseek_v3(
        "glm_moe_dsa",
        "GlmMoeDsa",
        latent_sizes(
            *(154880, 6144, 12288, 78, 64, 64, 202752),
            latents=(2048, 512, 192, 64, 256),
            rms_norm_eps=1e-5,
            **{**_COMMON, **_INDEXER, "index_topk_freq": 1, "index_n_heads": 32, "n_group": 1, "topk_group": 1},
        ),
        _LISTED,
        layer=_layer(NEIGHBOURS),
        only={**_FIXED, **_INTERLEAVED},
        more_ignored=(*_CHOICES, "mlp_bias", "pretraining_tp"),
        more_checks=(_wide_enough, _each_chooses),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
