"""Latent attention with mixtures of experts: DeepSeek-V2, DeepSeek-V3 and those that took it over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.huggingface.families.balanced import BALANCED, GROUPED, first, groups_share, say_first
from archcalc.huggingface.families.latent import (
    BIASED,
    DERIVED,
    FLAGGED,
    NEIGHBOURS,
    latent,
    latent_sizes,
    layer_with,
)
from archcalc.huggingface.families.llama import GATED
from archcalc.huggingface.families.mixtures import MOE, TRAINING, ByMixture, experts, shared_of
from archcalc.huggingface.family import Family, decoder, rmsnorm
from archcalc.huggingface.layers import Kinds, Sparse
from archcalc.huggingface.leaves import Draft, Leaf, Made, Number
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.said import Said


def mixture(router: dict[str, Any], dense: dict[str, Any] | None = None, **groups: Any) -> ByMixture:
    """Experts and a shared MLP in the words of DeepSeek's configs; `dense` is said of MLPs that are not experts."""
    shared = shared_of("n_shared_experts", "moe_intermediate_size", {**GATED, **(dense or {})})
    found = experts("n_routed_experts", "moe_intermediate_size", router, **groups, shared=shared)
    return ByMixture(found, {**GATED, **(dense or {})})


def listed(otherwise: Callable[[Said], int], kinds: type[Sparse] = Sparse, attention: Kinds | None = None) -> Sparse:
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

    return kinds(attention or Kinds(), read, say)


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


ONE_WAY = {
    "moe_layer_freq": ((1,), "layers with experts that are not all of the rest are not supported yet"),
    "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
    "topk_method": (("noaux_tc",), "this family chooses by noaux_tc"),
}
_IGNORED = (*TRAINING, *DERIVED, "aux_loss_alpha", "seq_aux", "ep_size")
INNER: dict[str, Any] = {
    **MOE,
    "norm_topk_prob": True,
    "n_shared_experts": 1,
    "routed_scaling_factor": 2.5,
    "rope_interleave": True,
}
EXPERTS_ALIASES = {"n_routed_experts": ("num_local_experts",)}
_FIRST = Sparse(Kinds(), first, say_first)


def deepseek_v3(
    model_type: str,
    name: str,
    defaults: dict[str, Any],
    kinds: Kinds,
    *,
    config: str = "",
    layer: dict[str, Any] | None = None,
    more_ignored: tuple[str, ...] = (),
    more_checks: tuple[Callable[[Said], None], ...] = (),
    modules: int = 0,
    **changes: Any,
) -> Family:
    """DeepSeek-V3 with other defaults, or another layer. So many `modules` are the default of its class."""
    return Family(
        model_type,
        f"{config or name}Config",
        (f"{name}ForCausalLM", f"{name}Model"),
        defaults,
        layer or layer_with(latent(FLAGGED), mixture(BALANCED, None, **GROUPED)),
        decoder(rmsnorm()),
        kinds,
        **{
            "aliases": EXPERTS_ALIASES,
            "only": ONE_WAY,
            "ignored": (*_IGNORED, *more_ignored),
            "checks": (groups_share, *more_checks),
            "modules": Modules(otherwise=modules),
            **changes,
        },
    )


_ALL = (
    deepseek_v3(
        "deepseek_v3",
        "DeepseekV3",
        latent_sizes(
            *(129280, 7168, 18432, 61, 128, 128, 4096),
            latents=(1536, 512, 128, 64, 128),
            **{**INNER, "n_routed_experts": 256, "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}
            | {"moe_intermediate_size": 2048},
        ),
        _FIRST,
        modules=1,
    ),
    Family(
        "deepseek_v2",
        "DeepseekV2Config",
        ("DeepseekV2ForCausalLM", "DeepseekV2Model"),
        latent_sizes(
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
        layer_with(
            latent(NEIGHBOURS),
            mixture(
                {
                    "scores": "softmax",
                    "normalized": False,  # whatever norm_topk_prob says
                    "scale": Number("routed_scaling_factor", neutral=1.0),
                },
                BIASED,
                n_groups=_limited("n_group"),
                n_groups_chosen=_limited("topk_group"),
            ),
        ),
        decoder(rmsnorm()),
        _FIRST,
        aliases={"n_routed_experts": ("num_experts",)},
        only={
            "moe_layer_freq": ONE_WAY["moe_layer_freq"],
            "scoring_func": (("softmax",), "scores that are not softmax are not supported in this family"),
            "norm_topk_prob": (
                (False, None),
                "weights that are divided by their sum are not supported in this family",
            ),
        },
        ignored=_IGNORED,
        checks=(_limits,),
    ),
    deepseek_v3(
        "sarvam_mla",
        "DeepseekV3",
        latent_sizes(
            *(262144, 4096, 16384, 32, 64, None, 4096),
            latents=(None, 512, 128, 64, 128),
            initializer_range=0.006,
            **{**INNER, "n_routed_experts": 128, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
            | {"moe_intermediate_size": 2048},
        ),
        _FIRST,
        config="SarvamMLA",
        aliases={
            "n_routed_experts": ("num_local_experts", "num_experts"),
            "n_shared_experts": ("num_shared_experts",),
        },
    ),
    deepseek_v3(
        "glm4_moe_lite",
        "Glm4MoeLite",
        latent_sizes(
            *(154880, 2048, 10240, 47, 20, 20, 202752),
            latents=(768, 512, 192, 64, 256),
            rms_norm_eps=1e-5,
            **{**INNER, "n_routed_experts": 64, "n_group": 1, "topk_group": 1, "mlp_layer_types": None}
            | {"moe_intermediate_size": 1536, "num_experts_per_tok": 4, "routed_scaling_factor": 1.8},
        ),
        listed(lambda _: 1),
        aliases={**EXPERTS_ALIASES, "qk_rope_head_dim": ("head_dim",)},
        only={
            **ONE_WAY,
            "first_k_dense_replace": ((1,), "is not read by this family: mlp_layer_types says which are dense"),
        },
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
