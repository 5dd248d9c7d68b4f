"""Mixtures with latent attention that change DeepSeek-V3 in one place: A.X-K1's norms, Mistral 4's growing queries."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.balanced import BALANCED, GROUPED, first, groups_share, say_first
from archcalc.huggingface.families.deepseek import EXPERTS_ALIASES, INNER, listed, mixture
from archcalc.huggingface.families.latent import DERIVED, FLAGGED, LatentRotary, latent, latent_sizes, layer_with
from archcalc.huggingface.families.llama import GATED
from archcalc.huggingface.families.mixtures import TRAINING, ByMixture
from archcalc.huggingface.family import Family, decoder, rmsnorm
from archcalc.huggingface.hybrid import SparseMixed, branch
from archcalc.huggingface.layers import Kinds, Sparse
from archcalc.huggingface.leaves import Draft, Flag, Made, Mismatch, Number, Size
from archcalc.huggingface.said import Said
from archcalc.huggingface.scaling import Settings

_BETA = "llama_4_scaling_beta"
_YARN = {
    "type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale_all_dim": 1.0,
    "mscale": 1.0,
    _BETA: 0.1,
}


class _PartOfHead(LatentRotary):
    """The part of a head that is turned, counted in features of the whole head: it must be that with positions."""

    def settings(self, said: Said) -> Settings:
        """The settings without that part."""
        found = super().settings(said)
        part = found.inside.get("partial_rotary_factor")
        turned = said.size("qk_rope_head_dim")
        whole = said.size("qk_nope_head_dim") + turned
        if part is not None and int(whole * found.number("partial_rotary_factor")) != turned:
            found.fail("partial_rotary_factor", f"must be qk_rope_head_dim / head_dim ({turned:,} / {whole:,})")
        inside = {name: value for name, value in found.inside.items() if name != "partial_rotary_factor"}
        return found._replace(inside=inside)


_GROWING = _PartOfHead(flagged=True, default=_YARN, beside=(_BETA,))


def _growth(said: Said) -> dict[str, Any]:
    """Queries grow with their position, in steps of the context that was trained with."""
    rope = _GROWING.settings(said)
    return {"rate": rope.number(_BETA), "interval": rope.original}


def _say_growth(value: Any, draft: Draft) -> None:
    if value is None or draft.get("rope_parameters", {}).get("original_max_position_embeddings") != value["interval"]:
        raise Mismatch("query_growth")
    draft["rope_parameters"][_BETA] = value["rate"]


_MISTRAL4 = mixture(
    {"scores": "softmax", "normalized": Flag("norm_topk_prob"), "scale": Number("routed_scaling_factor", neutral=1.0)}
)
_LATENT = latent(FLAGGED, q_rank=Size("q_lora_rank"))
_AXK1 = {
    "branches": [
        branch("attention", _LATENT, rmsnorm()),
        {
            **branch("mlp", mixture(BALANCED, **GROUPED).experts, rmsnorm()),
            "post_norm": rmsnorm(),
        },
    ]
}

_ALL = (
    Family(
        "axk1",
        "AXK1Config",
        ("AXK1ForCausalLM", "AXK1Model"),
        latent_sizes(
            *(163840, 7168, 18432, 61, 64, 64, 32768),
            latents=(1536, 512, 128, 64, 128),
            **{**INNER, "n_routed_experts": 192, "n_group": 8, "topk_group": 4, "mlp_layer_types": None}
            | {"moe_intermediate_size": 2048},
        ),
        ByMixture(_AXK1, layer_with(_LATENT, GATED)),
        decoder(rmsnorm()),
        listed(lambda _: 1, SparseMixed),
        aliases=EXPERTS_ALIASES,
        only={
            "first_k_dense_replace": ((1,), "is not read by this family: mlp_layer_types says which are dense"),
            "moe_layer_freq": ((1,), "layers with experts that are not all of the rest are not supported yet"),
            "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "topk_method": (("noaux_tc", "none", None), "this family chooses by noaux_tc"),
        },
        ignored=(*TRAINING, *DERIVED, "aux_loss_alpha", "seq_aux", "ep_size"),
        checks=(groups_share,),
    ),
    Family(
        "mistral4",
        "Mistral4Config",
        ("Mistral4ForCausalLM", "Mistral4Model"),
        latent_sizes(
            *(131072, 4096, 12288, 36, 32, 32, 1048576),
            latents=(1024, 256, 64, 64, 128),
            **{**INNER, "n_routed_experts": 128, "num_experts_per_tok": 4, "routed_scaling_factor": 1.0}
            | {"moe_intermediate_size": 2048, "first_k_dense_replace": 0},
        ),
        layer_with(latent(_GROWING, query_growth=Made(_growth, _say_growth)), _MISTRAL4),
        decoder(rmsnorm()),
        Sparse(Kinds(), first, say_first),
        aliases=EXPERTS_ALIASES,
        only={
            "n_group": ((1,), "groups of experts by their best two are not supported in this family"),
            "topk_group": ((1,), "groups of experts by their best two are not supported in this family"),
        },
        ignored=(*TRAINING, *DERIVED),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
