"""LongCat-Flash: two attentions and two MLPs a layer, and experts beside them whose output is added at its end."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.latent import LatentRotary, latent, latent_sizes
from archcalc.huggingface.families.llama import GATED
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import Family, decoder, rmsnorm, without
from archcalc.huggingface.hybrid import branch
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Draft, Made, Number, Size
from archcalc.huggingface.said import Said


def _identity(said: Said) -> int | None:
    """Experts that hand on what they get; 0 and null are none."""
    return None if said.none("zero_expert_num") else said.size("zero_expert_num", least=0) or None


def _say_identity(value: Any, draft: Draft) -> None:
    draft.put("zero_expert_num", 0 if value is None else value)


def _both_halves(said: Said) -> None:
    """Files may count each half of a layer."""
    layers = said.size("num_layers")
    found = said.config.get("num_hidden_layers")
    if found is not None and found != 2 * layers:
        said.fail("num_hidden_layers", f"must be two for each of num_layers ({layers:,})", found)


def _turned(said: Said) -> int:
    """The features that are turned, which head_dim says again: the class makes its angles of that."""
    turned = said.size("qk_rope_head_dim")
    if "head_dim" in said.config and (found := said.size("head_dim")) != turned:
        said.fail("head_dim", f"must be qk_rope_head_dim ({turned:,})", found)
    return turned


def _say_turned(value: Any, draft: Draft) -> None:
    draft.put("qk_rope_head_dim", value)
    draft.put("head_dim", value)


_ATTENTION = latent(
    LatentRotary(pairing="neighbours", theta=10_000_000.0),
    q_rank=Size("q_lora_rank"),
    d_rope=Made(_turned, _say_turned),
    rank_scale=True,
)
_MLP = {**GATED, "d_ff": Size("ffn_hidden_size")}
_ROUTER = {
    "scores": "softmax",
    "normalized": False,
    "correction": True,
    "scale": Number("routed_scaling_factor", neutral=1.0),
}
_EXPERTS = experts(
    *("n_routed_experts", "expert_ffn_hidden_size", _ROUTER, "moe_topk"), n_identity=Made(_identity, _say_identity)
)
_SCALED = "latents that are not scaled are not supported in this family"
_ALL = (
    Family(
        "longcat_flash",
        "LongcatFlashConfig",
        ("LongcatFlashForCausalLM", "LongcatFlashModel"),
        {
            **without(
                latent_sizes(
                    *(131072, 6144, None, None, 64, None, 131072),
                    latents=(1536, 512, 128, 64, 128),
                    rms_norm_eps=1e-5,
                ),
                *("intermediate_size", "num_hidden_layers"),
            ),
            "num_layers": 28,
            "head_dim": 64,
            "ffn_hidden_size": 12288,
            "moe_topk": 12,
            "n_routed_experts": 512,
            "zero_expert_num": 256,
            "expert_ffn_hidden_size": 2048,
            "routed_scaling_factor": 6.0,
        },
        {
            "branches": [
                branch("attention_0", _ATTENTION, rmsnorm()),
                {**branch("experts", _EXPERTS, rmsnorm()), "joins": "end"},
                branch("mlp_0", _MLP, "shared"),
                branch("attention_1", _ATTENTION, rmsnorm()),
                branch("mlp_1", _MLP, rmsnorm()),
            ]
        },
        decoder(rmsnorm()),
        Kinds("num_layers"),
        aliases={
            "ffn_hidden_size": ("intermediate_size",),
            "expert_ffn_hidden_size": ("moe_intermediate_size",),
            "moe_topk": ("num_experts_per_tok",),
            "n_routed_experts": ("num_local_experts",),
        },
        only={
            "attention_method": (("MLA",), "attention that is not latent is not supported in this family"),
            "mla_scale_q_lora": ((True,), _SCALED),
            "mla_scale_kv_lora": ((True,), _SCALED),
            "norm_topk_prob": ((False,), "weights that are divided by their sum are not supported in this family"),
            "router_bias": ((False,), "transformers' router has no bias, whatever is said"),
            "zero_expert_type": (("identity",), "experts without weights that do not hand on are not supported yet"),
        },
        ignored=(*TRAINING, "qk_head_dim", "num_hidden_layers"),
        checks=(_both_halves,),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
