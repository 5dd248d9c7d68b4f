"""Latent attention: DeepSeek-V2, DeepSeek-V3 and those that took it over, with experts or dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.huggingface.families.balanced import _BALANCED, _GROUPED, _first, _groups_share, _say_first, _say_shared
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, LAYER, MLP_BIAS
from archcalc.huggingface.families.mixtures import MOE, TRAINING, ByMixture, experts
from archcalc.huggingface.family import Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import Kinds, Sparse
from archcalc.huggingface.leaves import Draft, Flag, Leaf, Made, Mismatch, Number, Size
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said
from archcalc.huggingface.scaling import kind_of

_D_ROPE = Size("qk_rope_head_dim")


def _heads(said: Said) -> int:
    """As many key/value heads as heads: each makes its own of the latent."""
    heads = said.size("num_attention_heads")
    if not said.none("num_key_value_heads") and (found := said.size("num_key_value_heads")) != heads:
        said.fail("num_key_value_heads", f"must be num_attention_heads ({heads:,}) in latent attention", found)
    return heads


def _say_heads(value: Any, draft: Draft) -> None:
    draft.put("num_attention_heads", value)
    draft.put("num_key_value_heads", value)


_Q_RANK = Made(
    lambda said: None if said.none("q_lora_rank") else said.size("q_lora_rank"),
    lambda value, draft: draft.put("q_lora_rank", value),
)


class LatentRotary(Rotary):
    """The rotary positions of a part of each head; `rope_interleave` says which features are a pair, where it is."""

    def __init__(self, *, flagged: bool = False, **how: Any) -> None:
        super().__init__(_D_ROPE, **how)
        self.flagged = flagged

    def read(self, said: Said) -> dict[str, Any] | None:
        found = super().read(said)
        if found is not None and self.flagged and not said.none("rope_interleave") and said.flag("rope_interleave"):
            found = {"d_rotary": found["d_rotary"], "theta": found["theta"], "pairing": "neighbours", **found}
        return found

    def write(self, value: Any, draft: Draft) -> None:
        if value is not None and self.flagged:
            draft.put("rope_interleave", value.get("pairing", "halves") == "neighbours")
            value = {**value, "pairing": "halves"}
        super().write(value, draft)


class _Mscale(Leaf):
    """Whether scores are multiplied by the square of YaRN's factor by mscale_all_dim: wherever there is one."""

    def __init__(self, rotary: Rotary) -> None:
        self.rotary = rotary

    def read(self, said: Said) -> bool | None:
        inside = self.rotary.settings(said).inside
        scaled = kind_of(inside, self.rotary.names) == "yarn" and inside.get("mscale_all_dim")
        return True if scaled else None


def latent(rotary: Rotary, **more: Any) -> dict[str, Any]:
    """An attention, by the keys that all of these families have."""
    return {
        "kind": "latent",
        "n_heads": Made(_heads, _say_heads),
        "q_rank": _Q_RANK,
        "kv_rank": Size("kv_lora_rank"),
        "d_nope": Size("qk_nope_head_dim"),
        "d_rope": _D_ROPE,
        "d_value": Size("v_head_dim"),
        "bias": ATTENTION_BIAS,
        "norm": {"kind": "rmsnorm", "epsilon": 1e-6},  # whatever rms_norm_eps says
        "rotary": rotary,
        "mscale": _Mscale(rotary),
        **more,
    }


def _layer(attention: dict[str, Any], mlp: Any) -> dict[str, Any]:
    return {**LAYER, "attention": attention, "mlp": mlp}


def _sizes(*given: int | None, latents: tuple[int | None, ...], **more: Any) -> dict[str, Any]:
    """The defaults of a class: Llama's sizes, then ranks and widths of heads."""
    names = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    found = sizes(*given, attention_bias=False, **dict(zip(names, latents, strict=True)), **more)
    return without(found, "head_dim")


def _shared_d_ff(said: Said) -> int | None:
    return said.size("n_shared_experts") * said.size("moe_intermediate_size")


def _mixture(router: dict[str, Any], dense: dict[str, Any] | None = None, **groups: Any) -> ByMixture:
    shared = {**GATED, **(dense or {}), "d_ff": Made(_shared_d_ff, _say_shared)}
    found = experts("n_routed_experts", "moe_intermediate_size", router, **groups, shared=shared)
    return ByMixture(found, {**GATED, **(dense or {})})


def _listed(otherwise: Callable[[Said], int]) -> Sparse:
    """The layers without experts: those that mlp_layer_types calls dense, or else the first few."""

    def read(said: Said, n: int) -> list[bool]:
        if said.none("mlp_layer_types"):
            said.value("mlp_layer_types", counts=False)
            return [i < otherwise(said) for i in range(n)]
        found = said.value("mlp_layer_types")
        if not isinstance(found, list) or len(found) != n or any(kind not in ("dense", "sparse") for kind in found):
            said.fail("mlp_layer_types", f"must be a list of dense or sparse for each of {n:,} layers", found)
        return [kind == "dense" for kind in found]

    def say(dense: list[bool], draft: Draft) -> None:
        draft.put("mlp_layer_types", ["dense" if is_dense else "sparse" for is_dense in dense])

    return Sparse(Kinds(), read, say)


def _greedy(said: Said) -> bool:
    """Whether DeepSeek-V2 chooses among all experts."""
    method = said.value("topk_method")
    if method not in ("greedy", "group_limited_greedy"):
        said.fail("topk_method", "must be greedy or group_limited_greedy", method)
    return bool(method == "greedy")


def _limited(key: str) -> Leaf:
    def read(said: Said) -> int | None:
        return None if _greedy(said) else said.size(key)

    def say(value: Any, draft: Draft) -> None:
        draft.put("topk_method", "greedy" if value is None else "group_limited_greedy")
        draft.put(key, value)

    return Made(read, say)


def _limits(said: Said) -> None:
    """What group_limited_greedy chooses from must be enough."""
    if _greedy(said):
        return
    groups, left, n = said.size("n_group"), said.size("topk_group"), said.size("n_routed_experts")
    wanted = said.size("num_experts_per_tok")
    if n % groups:
        said.fail("n_group", f"must divide n_routed_experts ({n:,})", groups)
    if left > groups or left * (n // groups) < wanted:
        said.fail("topk_group", f"must be at most n_group ({groups:,}) and leave {wanted:,} experts", left)


_MTP = ("num_nextn_predict_layers", "num_mtp_layers")


def _left_out(said: Said) -> None:
    """Modules that predict further tokens are no part of what transformers builds, nor of what is counted."""
    count = next((said.config[key] for key in _MTP if said.config.get(key)), 0)
    if isinstance(count, int) and not isinstance(count, bool) and count > 0:
        modules = "1 module" if count == 1 else f"{count:,} modules"
        said.assume(f"{modules} of multi-token prediction left out, as transformers leaves it out")


_DERIVED = ("head_dim", "qk_head_dim", "q_head_dim", *_MTP)
"""Keys that a class works out anew, or that count nothing."""
_ONE_WAY = {
    "moe_layer_freq": ((1,), "layers with experts that are not all of the rest are not supported yet"),
    "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
    "topk_method": (("noaux_tc",), "this family chooses by noaux_tc"),
}
_IGNORED = (*TRAINING, *_DERIVED, "aux_loss_alpha", "seq_aux", "ep_size")
_EXPERTS: dict[str, Any] = {
    **MOE,
    "norm_topk_prob": True,
    "n_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "rope_interleave": True,
}
_ALIASES = {"n_routed_experts": ("num_local_experts",)}
_ROTARY, _NEIGHBOURS = LatentRotary(flagged=True), LatentRotary(pairing="neighbours")
_BIASED = {"bias": MLP_BIAS}


def _deepseek_v3(
    model_type: str, name: str, defaults: dict[str, Any], kinds: Kinds, *, config: str = "", **changes: Any
) -> Family:
    """DeepSeek-V3 with other defaults."""
    return Family(
        model_type,
        f"{config or name}Config",
        (f"{name}ForCausalLM", f"{name}Model"),
        defaults,
        _layer(latent(_ROTARY), _mixture(_BALANCED, **_GROUPED)),
        decoder(rmsnorm()),
        kinds,
        **{
            "aliases": _ALIASES,
            "only": _ONE_WAY,
            "ignored": _IGNORED,
            "checks": (_groups_share, _left_out),
            **changes,
        },
    )


_FIRST = Sparse(Kinds(), _first, _say_first)
_ALL = (
    _deepseek_v3(
        "deepseek_v3",
        "DeepseekV3",
        _sizes(
            *(129280, 7168, 18432, 61, 128, 128, 4096),
            latents=(1536, 512, 128, 64, 128),
            **{**_EXPERTS, "n_routed_experts": 256, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}
            | {"moe_intermediate_size": 2048},
        ),
        _FIRST,
    ),
    Family(
        "deepseek_v2",
        "DeepseekV2Config",
        ("DeepseekV2ForCausalLM", "DeepseekV2Model"),
        _sizes(
            *(102400, 4096, 11008, 32, 32, None, 2048),
            latents=(1536, 512, 128, 64, 128),
            mlp_bias=False,
            n_routed_experts=64,
            n_shared_experts=2,
            num_experts_per_tok=None,
            moe_intermediate_size=1407,
            routed_scaling_factor=1.0,
            n_group=None,
            topk_group=None,
            topk_method="greedy",
            first_k_dense_replace=0,
        ),
        _layer(
            latent(_NEIGHBOURS),
            _mixture(
                {
                    "scores": "softmax",
                    "normalized": False,  # whatever norm_topk_prob says
                    "scale": Number("routed_scaling_factor", neutral=1.0),
                },
                _BIASED,
                n_groups=_limited("n_group"),
                n_groups_chosen=_limited("topk_group"),
            ),
        ),
        decoder(rmsnorm()),
        _FIRST,
        aliases={"n_routed_experts": ("num_experts",)},
        only={
            "moe_layer_freq": _ONE_WAY["moe_layer_freq"],
            "scoring_func": (("softmax",), "scores that are not softmax are not supported in this family"),
            "norm_topk_prob": ((False, None), "weights that are divided by their sum are not supported in this family"),
        },
        ignored=_IGNORED,
        checks=(_limits, _left_out),
    ),
    _deepseek_v3(
        "sarvam_mla",
        "DeepseekV3",
        _sizes(
            *(262144, 4096, 16384, 32, 64, None, 4096),
            latents=(None, 512, 128, 64, 128),
            initializer_range=0.006,
            **{**_EXPERTS, "n_routed_experts": 128, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
            | {"moe_intermediate_size": 2048},
        ),
        _FIRST,
        config="SarvamMLA",
        aliases={"n_routed_experts": ("num_local_experts", "num_experts"), "n_shared_experts": ("num_shared_experts",)},
    ),
    _deepseek_v3(
        "glm4_moe_lite",
        "Glm4MoeLite",
        _sizes(
            *(154880, 2048, 10240, 47, 20, 20, 202752),
            latents=(768, 512, 192, 64, 256),
            rms_norm_eps=1e-5,
            **{**_EXPERTS, "n_routed_experts": 64, "n_group": 1, "topk_group": 1, "mlp_layer_types": None}
            | {"moe_intermediate_size": 1536, "num_experts_per_tok": 4, "routed_scaling_factor": 1.8},
        ),
        _listed(lambda _: 1),
        only={
            **_ONE_WAY,
            "first_k_dense_replace": ((1,), "is not read by this family: mlp_layer_types says which are dense"),
        },
    ),
    Family(
        "youtu",
        "YoutuConfig",
        ("YoutuForCausalLM", "YoutuModel"),
        _sizes(
            *(128256, 2048, 6144, 32, 16, 16, 131072),
            latents=(1536, 512, 128, 64, 128),
            rope_interleave=True,
            tie_word_embeddings=True,
            initializer_range=2.0 / (5.0 * 2048) ** 0.5,  # of the class's own width; changes no count
        ),
        _layer(latent(_ROTARY), GATED),
        decoder(rmsnorm()),
        ignored=(*_DERIVED, "embedding_initializer_range", "mlp_bias"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
