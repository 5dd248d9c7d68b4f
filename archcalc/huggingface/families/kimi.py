"""Layers of Kimi delta attention among latent attention, with mixtures of experts: Kimi Linear and Ling 3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.huggingface.families.balanced import ALWAYS, BALANCED, GROUPED, first, groups_share
from archcalc.huggingface.families.delta import CHUNK
from archcalc.huggingface.families.latent import LatentRotary, latent, latent_sizes
from archcalc.huggingface.families.llama import GATED
from archcalc.huggingface.families.mixtures import MOE, TRAINING, ByMixture, by_types, experts, say_types
from archcalc.huggingface.family import Family, decoder, rmsnorm, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, SparseMixed, both_kinds
from archcalc.huggingface.layers import FULL
from archcalc.huggingface.leaves import Activation, Leaf, Made, Size
from archcalc.huggingface.rope import KEYS as ROPE
from archcalc.huggingface.said import Said
from archcalc.huggingface.scaling import Settings

_LINEAR = "linear_attn_config"


def _inside(said: Said) -> dict[str, Any]:
    """What Moonshot's own files say in a mapping."""
    found = said.value(_LINEAR, counts=False)
    if not isinstance(found, dict | None):
        said.fail(_LINEAR, "must be a mapping", found)
    return found or {}


class _Linear(Leaf):
    """A size that may stand in that mapping, which rules."""

    def __init__(self, key: str, inner: str) -> None:
        self.key, self.inner = key, inner

    def read(self, said: Said) -> int:
        found = _inside(said).get(self.inner)
        if found is None:
            return said.size(self.key)
        if type(found) is not int or not 1 <= found <= said.size("vocab_size", counts=False) * 1_000:
            said.fail(_LINEAR, f"{self.inner} must be a whole number of at least 1", found)
        return int(found)

    def write(self, value: Any, draft: Any) -> None:
        draft.put(self.key, value)


def _listed(said: Said, n: int) -> list[str]:
    """Two lists of layers, counted from 1; without them each fourth is attention, but the first."""
    inside = _inside(said)
    lists = {FULL: inside.get("full_attn_layers"), RECURRENT: inside.get("kda_layers")}
    if any(found is None for found in lists.values()):
        return [FULL if i and i % 4 == 0 else RECURRENT for i in range(n)]
    types = [""] * n
    for kind, found in lists.items():
        if not isinstance(found, list):
            said.fail(_LINEAR, "must have lists of layers", found)
        fits = all(type(i) is int and 1 <= i <= n for i in found) and len(set(found)) == len(found)
        if not fits or any(types[i - 1] for i in found):
            said.fail(_LINEAR, f"must have each layer from 1 to {n:,} in one list, and once", found)
        for i in found:
            types[i - 1] = kind
    if "" in types:
        said.fail(_LINEAR, f"must have layer {types.index('') + 1:,} in a list", list(inside))
    return types


def _grouped(said: Said, n: int) -> list[str]:
    """The last of so many is attention."""
    step = said.size("layer_group_size")
    return [RECURRENT if (i + 1) % step else FULL for i in range(n)]


def _delta(heads: Leaf, d_head: Leaf, taps: Leaf, **more: Any) -> dict[str, Any]:
    """Kimi delta attention, whose sizes of a head are one."""
    return {
        "kind": "gated_delta",
        "n_heads": heads,
        "n_groups": heads,
        "d_head": d_head,
        "d_state": d_head,
        "d_conv": taps,
        "chunk_size": CHUNK,
        "activation": Activation("hidden_act"),
        "norm": rmsnorm(),
        "norm_over": "head",
        "norm_place": "before",
        "decay": "feature",
        "gate_activation": "sigmoid",
        **more,
    }


def _layers(attention: dict[str, Any], delta: dict[str, Any]) -> Any:
    mixed = experts("num_local_experts", "moe_intermediate_size", BALANCED, **GROUPED, shared=ALWAYS)
    return both_kinds(attention, RECURRENT, "linear_attention", delta, ByMixture(mixed, GATED), rmsnorm())


def _kinds(otherwise: Callable[[Said, int], list[str]], listed: str = "") -> SparseMixed:
    names = {FULL: "attention", RECURRENT: "linear_attention"}
    return SparseMixed(Mixed(otherwise, names, listed), by_types(first), say_types)


def _sizes(*given: int | None, **more: Any) -> dict[str, Any]:
    both: dict[str, Any] = {
        **MOE,
        "norm_topk_prob": True,
        "n_shared_experts": 1,
        "layer_types": None,
        "mlp_layer_types": None,
    }
    found = latent_sizes(*given, latents=(None, 512, 128, 64, 128), **{**both, **more})
    return without(found, "tie_word_embeddings")


_ALIASES = {
    "max_position_embeddings": ("model_max_length",),
    "norm_topk_prob": ("moe_renormalize",),
    "n_group": ("num_expert_group",),
    "num_local_experts": ("num_experts",),
    "num_experts_per_tok": ("num_experts_per_token",),
    "n_shared_experts": ("num_shared_experts",),
}
_ONLY: dict[str, Any] = {
    "tie_word_embeddings": ((False,), "transformers' class has a head of its own, whatever is said"),
    "moe_layer_freq": ((1,), "layers with experts that are not all of the rest are not supported yet"),
    "moe_router_activation_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
}
_IGNORED = (*TRAINING, "qk_head_dim", "use_grouped_topk")


class _Beside(LatentRotary):
    """Ling's class writes its `rope_theta` beside the settings, and reads it where they have none."""

    def _refuse_beside(self, rope: Settings, name: str) -> None:
        if name != "rope_theta":
            super()._refuse_beside(rope, name)


_TURNED = _Beside(pairing="neighbours", theta=6_000_000.0)
_D_HEAD = _Linear("linear_head_dim", "head_dim")


def _groups(said: Said) -> None:
    groups_share(said, "num_local_experts")


def _limit(said: Said) -> float | None:
    """How steeply the safe gate lets a state decay."""
    if not said.flag("kda_safe_gate"):
        return None
    found = said.value("kda_lower_bound", counts=False)
    if isinstance(found, bool) or not isinstance(found, int | float) or not -1e9 <= found < 0:
        said.fail("kda_lower_bound", "must be a number below 0", found)
    return -float(found)


def _say_limit(value: Any, draft: Any) -> None:
    draft.put("kda_safe_gate", value is not None)
    draft.put("kda_lower_bound", -5.0 if value is None else -value)


_ALL = (
    Family(
        "kimi_linear",
        "KimiLinearConfig",
        ("KimiLinearForCausalLM", "KimiLinearModel"),
        without(
            _sizes(
                *(163840, 2304, 9216, 27, 32, 32, 1048576),
                rms_norm_eps=1e-5,
                moe_intermediate_size=1024,
                num_local_experts=256,
                n_group=1,
                topk_group=1,
                routed_scaling_factor=2.446,
                first_k_dense_replace=1,
                linear_attn_config=None,
                linear_head_dim=128,
                linear_num_heads=32,
                linear_conv_kernel_dim=4,
            ),
            *ROPE,
        ),
        _layers(
            {**latent(_TURNED), "rotary": None, "mscale": None},
            _delta(
                _Linear("linear_num_heads", "num_heads"),
                _D_HEAD,
                _Linear("linear_conv_kernel_dim", "short_conv_kernel_size"),
                decay_rank=_D_HEAD,
                gate_rank=_D_HEAD,
            ),
        ),
        decoder(rmsnorm(), unembedding={"tied": False}),
        _kinds(_listed, _LINEAR),
        aliases=_ALIASES,
        only={**_ONLY, "mla_use_nope": ((True,), "this family's attention has no positions")},
        ignored=(*_IGNORED, *ROPE, "head_dim"),
        checks=(_groups,),
    ),
    Family(
        "bailing_hybrid",
        "BailingHybridConfig",
        ("BailingHybridForCausalLM", "BailingHybridModel"),
        _sizes(
            *(157184, 2560, 6144, 42, 32, 32, 262144),
            moe_intermediate_size=768,
            num_local_experts=512,
            n_group=8,
            topk_group=4,
            routed_scaling_factor=2.5,
            first_k_dense_replace=2,
            short_conv_kernel_size=4,
            layer_group_size=6,
            kda_safe_gate=True,
            kda_lower_bound=-5.0,
            rope_theta=6_000_000.0,
            linear_head_dim=None,
            linear_num_heads=None,
            linear_conv_kernel_dim=None,
        )
        | {"head_dim": 128},
        _layers(
            {**latent(_TURNED), "gate": "head"},
            _delta(
                # A file that transformers wrote has these three, and in head_dim another size.
                Size("linear_num_heads", Size("num_attention_heads")),
                Size("linear_head_dim", Size("head_dim")),
                Size("linear_conv_kernel_dim", Size("short_conv_kernel_size")),
                decay_limit=Made(_limit, _say_limit),
            ),
        ),
        decoder(rmsnorm(), unembedding={"tied": False}),
        _kinds(_grouped),
        aliases=_ALIASES,
        only=_ONLY,
        ignored=(*_IGNORED, "mtp_loss_scaling_factor"),
        checks=(_groups,),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
