"""Layers of short convolutions among attention: LFM2, its mixture and LFM3; and Bamba, whose others are Mamba-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.arguments import LARGEST_SIZE
from archcalc.huggingface.families.hybrids import divided, mamba2
from archcalc.huggingface.families.llama import ATTENTION, ATTENTION_BIAS, GATED, MLP_BIAS
from archcalc.huggingface.families.mixtures import TRAINING, ByMixture, experts
from archcalc.huggingface.family import D_HEAD, QUOTIENT, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, SparseMixed, both_kinds, branch
from archcalc.huggingface.layers import FULL, SLIDING, Kinds
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Made, Mismatch, Number, Size
from archcalc.huggingface.rope import ProportionalRotary, Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

CONV = "conv"


def _listed(key: str, said: Said, n: int) -> list[int] | None:
    """The layers of a list; None where there is none."""
    if said.none(key):
        said.value(key, counts=False)
        return None
    found = said.value(key, counts=False)
    if not isinstance(found, list) or any(type(i) is not int or not 0 <= i < n for i in found):
        said.fail(key, f"must be a list of layers, each from 0 to {n - 1:,}", found)
    return found


def _attentions(said: Said, n: int) -> list[str]:
    """Convolutions but where a list says attention; without a list all are attention."""
    found = _listed("full_attn_idxs", said, n)
    return [FULL if found is None or i in found else CONV for i in range(n)]


def _lfm2_d_ff(said: Said) -> int:
    """Two thirds of what is said, times a factor, in blocks."""
    d_ff = said.size("intermediate_size")
    if not said.flag("block_auto_adjust_ff_dim"):
        return d_ff
    adjusted = 2 * d_ff // 3
    if not said.none("block_ffn_dim_multiplier"):
        block = said.size("block_multiple_of")
        adjusted = -(-int(said.number("block_ffn_dim_multiplier") * adjusted) // block) * block
    if not 1 <= adjusted <= LARGEST_SIZE:
        what = f"must be from 1 to {LARGEST_SIZE:,} once it is adjusted as block_auto_adjust_ff_dim says"
        said.fail("intermediate_size", f"{what}, and is {adjusted:,}", d_ff)
    return adjusted


def _say_d_ff(value: Any, draft: Draft) -> None:
    draft.put("intermediate_size", value)
    draft.put("block_auto_adjust_ff_dim", value=False)


_NORM = rmsnorm("norm_eps")
_LFM2_ATTENTION = {
    **ATTENTION,
    "d_head": QUOTIENT,
    "rotary": Rotary(QUOTIENT, 1_000_000.0),
    "qk_norm": _NORM,
}
_CONV = {
    "kind": "short_conv",
    "d_inner": Size("hidden_size"),
    "d_conv": Size("conv_L_cache"),
    "bias": Flag("conv_bias"),
}
_SILU = {**GATED, "activation": "silu"}
_LFM2 = {"conv_L_cache": 3, "conv_bias": False, "norm_eps": 1e-5, "tie_word_embeddings": True, "layer_types": None}
_OLD_LFM2 = {
    "hidden_size": ("block_dim",),
    "intermediate_size": ("block_ff_dim",),
    "norm_eps": ("block_norm_eps",),
    "num_attention_heads": ("num_heads",),
    "tie_word_embeddings": ("tie_embedding",),
}
_LFM3_TURNS = {
    FULL: {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": 0.5},
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
}
_LFM3_ATTENTION = {
    **ATTENTION,
    "bias": ATTENTION_BIAS,
    "rotary": ByLayer(
        {
            kind: ProportionalRotary(D_HEAD, 1_000_000.0, theta_key="", nested=True, default=turns)
            for kind, turns in _LFM3_TURNS.items()
        }
    ),
    "qk_norm": _NORM,
    "window": SLIDING_WINDOW,
    "gate": Flag("use_attention_gate", {True: "head", False: None}),
}
_POST = {"post_norm": Flag("use_sandwich_norm", {True: _NORM, False: None})}
_LFM3_SHORT = {"norm": _NORM, "attention": _LFM3_ATTENTION, "mlp": _SILU, **_POST}
_LFM3_BRANCHES = {"branches": [{**branch("conv", _CONV, _NORM), **_POST}, {**branch("mlp", _SILU, _NORM), **_POST}]}


def _lfm3_types(_said: Said, n: int) -> list[str]:
    """Of four layers the third sees all positions and the first those of a window, but for the model's own first."""
    return [FULL if i % 4 == 2 else SLIDING if i and i % 4 == 0 else CONV for i in range(n)]


_LFM2_IGNORED = (
    *("block_mlp_init_scale", "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init"),
    *("conv_dim", "conv_dim_out", "conv_use_xavier_init", "use_pos_enc", "full_attn_idxs"),
)


def _lfm2_sizes(*given: Any, **more: Any) -> dict[str, Any]:
    return without(sizes(*given, **{**_LFM2, **more}), "head_dim", "hidden_act", "rms_norm_eps")


def _dense(said: Said, n: int) -> list[bool]:
    count = said.size("num_dense_layers", least=0)
    return [i < count for i in range(n)]


def _say_dense(dense: list[bool], draft: Draft) -> None:
    if not all(dense[: sum(dense)]):
        raise Mismatch("mlp")
    draft.put("num_dense_layers", sum(dense))


def _must_say(said: Said, n: int) -> list[str]:  # noqa: ARG001  (as other families read it)
    said.fail("layer_types", "must be a list with a type for each layer", None)


_LFM2_EXPERTS = {
    **experts(
        *("num_experts", "moe_intermediate_size"),
        {
            "scores": "sigmoid",
            "normalized": Flag("norm_topk_prob"),
            "correction": Flag("use_expert_bias", {True: True, False: None}),
            "scale": Number("routed_scaling_factor", neutral=1.0),
        },
    ),
    "activation": "silu",
}


class _Indices(Kinds):
    """Bamba's layers: Mamba-2 but where a list says attention."""

    def types(self, said: Said) -> list[str]:
        n = said.size(self.count, most=MOST_LAYERS)
        found = _listed("attn_layer_indices", said, n) or []
        return [FULL if i in found else RECURRENT for i in range(n)]

    def name(self, layer: str) -> str:
        return "attention" if layer == FULL else "mamba2"

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        return [RECURRENT, FULL] if "branches" in layer else [FULL, RECURRENT]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        draft.put("attn_layer_indices", [i for i, kind in enumerate(types) if kind == FULL])


def _d_head(said: Said) -> int:
    inner, heads = said.size("mamba_expand") * said.size("hidden_size"), said.size("mamba_n_heads")
    if said.value("mamba_d_head") != "auto" and said.size("mamba_d_head") * heads == inner:
        return said.size("mamba_d_head")
    if said.value("mamba_d_head") != "auto" or inner % heads:
        said.fail("mamba_n_heads", f"x mamba_d_head must be mamba_expand x hidden_size ({inner:,})", heads)
    return inner // heads


def _say_d_head(value: Any, draft: Draft) -> None:
    draft.put("mamba_d_head", value)
    heads = draft.get("mamba_n_heads")
    inner = value * heads if value and heads else 0
    if not inner or inner % draft.d_model:
        raise Mismatch("mamba2.d_head")
    draft.put("mamba_expand", inner // draft.d_model)


MAMBA2_SIZES: dict[str, Any] = {
    "mamba_n_heads": 128,
    "mamba_d_head": "auto",
    "mamba_n_groups": 1,
    "mamba_d_state": 256,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
"""The defaults of Bamba's class, which those of Falcon-H1 and Granite 4 have too."""


BAMBA = mamba2(
    Size("mamba_n_heads"),
    Made(_d_head, _say_d_head),
    Size("mamba_d_state"),
    n_groups=divided("mamba_n_groups", "mamba_n_heads"),
    d_conv=Size("mamba_d_conv"),
    chunk_size=Size("mamba_chunk_size"),
    bias=Flag("mamba_proj_bias"),
    conv_bias=Flag("mamba_conv_bias"),
    norm=rmsnorm(),
)
_INFINITE = (float("inf"), {"__float__": "Infinity"})  # as Python writes it, and as transformers does
NO_LIMIT = ((None, *([0.0, most] for most in _INFINITE)), "limits of steps are not supported in this family")


_ALL = (
    Family(
        "lfm2",
        "Lfm2Config",
        ("Lfm2ForCausalLM", "Lfm2Model"),
        _lfm2_sizes(
            *(65536, 2560, 12288, 32, 32, 8, 128000),
            block_multiple_of=256,
            block_ffn_dim_multiplier=1.0,
            block_auto_adjust_ff_dim=True,
            full_attn_idxs=None,
        ),
        both_kinds(_LFM2_ATTENTION, CONV, "conv", _CONV, {**_SILU, "d_ff": Made(_lfm2_d_ff, _say_d_ff)}, _NORM),
        decoder(_NORM),
        Mixed(_attentions, {FULL: "attention", CONV: "conv"}, "full_attn_idxs"),
        aliases=_OLD_LFM2,
        ignored=tuple(name for name in _LFM2_IGNORED if name != "full_attn_idxs"),
    ),
    Family(
        "lfm2_moe",
        "Lfm2MoeConfig",
        ("Lfm2MoeForCausalLM", "Lfm2MoeModel"),
        _lfm2_sizes(
            *(65536, 2048, 7168, 32, 32, 8, 128000),
            moe_intermediate_size=1792,
            num_dense_layers=2,
            num_experts_per_tok=4,
            num_experts=32,
            use_expert_bias=True,
            routed_scaling_factor=1.0,
            norm_topk_prob=True,
        ),
        both_kinds(_LFM2_ATTENTION, CONV, "conv", _CONV, ByMixture(_LFM2_EXPERTS, _SILU), _NORM),
        decoder(_NORM),
        SparseMixed(Mixed(_must_say, {FULL: "attention", CONV: "conv"}), _dense, _say_dense),
        aliases={**_OLD_LFM2, "num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, *_LFM2_IGNORED),
    ),
    Family(
        "lfm3",
        "Lfm3Config",
        ("Lfm3ForCausalLM", "Lfm3Model"),
        without(
            sizes(
                *(128_000, 2048, 7680, 24, 16, 4, 128_000),
                **{**_LFM2, "conv_L_cache": 7, "head_dim": 128},
                sliding_window=256,
                use_sandwich_norm=True,
                use_attention_gate=True,
                attention_bias=False,
            ),
            *("hidden_act", "rms_norm_eps"),
        ),
        ByLayer({FULL: _LFM3_SHORT, SLIDING: _LFM3_SHORT, CONV: _LFM3_BRANCHES}),
        decoder(_NORM),
        Mixed(_lfm3_types, {FULL: "global", SLIDING: "local", CONV: "conv"}),
        aliases={"norm_eps": ("rms_norm_eps",)},
    ),
    Family(
        "bamba",
        "BambaConfig",
        ("BambaForCausalLM", "BambaModel"),
        without(
            sizes(
                *(128000, 4096, 14336, 32, 32, 8, 262144),
                rms_norm_eps=1e-5,
                attn_layer_indices=None,
                **MAMBA2_SIZES,
                attention_bias=False,
                mlp_bias=False,
            ),
            "head_dim",
        ),
        both_kinds(
            {**ATTENTION, "d_head": QUOTIENT, "rotary": Rotary(QUOTIENT, partial=0.5), "bias": ATTENTION_BIAS},
            *(RECURRENT, "mamba2", BAMBA),
            {**GATED, "bias": MLP_BIAS},
            rmsnorm(),
        ),
        decoder(rmsnorm()),
        _Indices(),
        only={"time_step_limit": NO_LIMIT},
        ignored=("num_logits_to_keep", "z_loss_coefficient", "attn_rotary_emb", "mamba_dt_rank"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
