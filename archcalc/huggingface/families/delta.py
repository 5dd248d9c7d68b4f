"""Layers of a gated delta net among others: Qwen3-Next, Qwen3.5 and Lara Mini."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION, ATTENTION_BIAS, GATED
from archcalc.huggingface.families.mixtures import MOE, TRAINING, ByMixture, by_step, experts, say_list
from archcalc.huggingface.families.qwen import IMAGES
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, SparseMixed, both_kinds, branch
from archcalc.huggingface.layers import FULL, SLIDING
from archcalc.huggingface.leaves import Activation, ByLayer, Flag, Leaf, Made, Size
from archcalc.huggingface.modules import Modules
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

CHUNK = 64  # of transformers' and FLA's kernels


def _every(said: Said, n: int) -> list[str]:
    step = said.size("full_attention_interval")
    return [RECURRENT if (i + 1) % step else FULL for i in range(n)]


def key_heads(said: Said, of_keys: Leaf, of_values: Leaf) -> int:
    """The heads of keys, which must divide those of values."""
    groups, heads = of_keys.read(said), of_values.read(said)
    if heads % groups:
        said.fail("linear_num_key_heads", f"must divide linear_num_value_heads ({heads:,})", groups)
    return int(groups)


_KEY_HEADS, _VALUE_HEADS = Size("linear_num_key_heads"), Size("linear_num_value_heads")
_NORM = rmsnorm(unit_offset=True)
_DELTA = {
    "kind": "gated_delta",
    "n_heads": _VALUE_HEADS,
    "n_groups": Made(
        lambda said: key_heads(said, _KEY_HEADS, _VALUE_HEADS),
        lambda value, draft: draft.put("linear_num_key_heads", value),
    ),
    "d_head": Size("linear_value_head_dim"),
    "d_state": Size("linear_key_head_dim"),
    "d_conv": Size("linear_conv_kernel_dim"),
    "chunk_size": CHUNK,
    "activation": Activation("hidden_act"),
    "norm": rmsnorm(),
    "norm_over": "head",
    "norm_place": "before",
}


def _layers(mlp: Any, **rotary: Any) -> ByLayer:
    """Both kinds of layers with the same MLP or mixture of them."""
    attention = {**ATTENTION, "rotary": Rotary(D_HEAD, partial=0.25, **rotary), "qk_norm": _NORM, "gate": "feature"}
    return both_kinds(attention, RECURRENT, "linear_attention", _DELTA, mlp, _NORM)


_TYPES = Mixed(_every, {FULL: "attention", RECURRENT: "linear_attention"})


def _sizes(*given: Any, **more: Any) -> dict[str, Any]:
    linear: dict[str, Any] = {
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "full_attention_interval": 4,
        "layer_types": None,
    }
    return sizes(*given, **{**linear, "head_dim": 256, **more})


_MIXED = experts(
    *("num_experts", "moe_intermediate_size"),
    {"scores": "softmax", "normalized": Flag("norm_topk_prob")},
    shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
    shared_gate=True,
)
_ALWAYS_NORMED = {**_MIXED, "router": {"scores": "softmax", "normalized": True}}
_MOE = {**MOE, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512}
_ONLY: dict[str, Any] = {
    "attention_bias": ((False,), "biases of gated attention are not supported yet"),
    "attn_output_gate": ((True,), "this family gates what attention puts out"),
    "mlp_only_layers": ((None, []), "layers without experts are not supported in this family"),
}


_LARA_PATTERN = (RECURRENT, SLIDING, RECURRENT, FULL, SLIDING)
_LARA_ATTENTION = {
    **ATTENTION,
    "bias": ATTENTION_BIAS,
    "rotary": ByLayer({SLIDING: Rotary(D_HEAD), FULL: None}),
    "qk_norm": rmsnorm(),
    "window": SLIDING_WINDOW,
}
_LARA_EXPERTS = {name: value for name, value in _MIXED.items() if name != "shared_gate"}
_LARA_SHORT = {"norm": rmsnorm(), "attention": _LARA_ATTENTION, "mlp": _LARA_EXPERTS}
_LARA_BRANCHES = {"branches": [branch("linear_attention", _DELTA, rmsnorm()), branch("mlp", _LARA_EXPERTS, rmsnorm())]}


_DEDICATED = "mtp_use_dedicated_embeddings"


def _full(said: Said, _types: list[str], n: int) -> list[str]:
    """One layer with attention to all positions, and experts where the model has them; several share a projection."""
    return [FULL] if n == 1 and not said.config.get(_DEDICATED) else []


_MODULES = Modules(("mtp_num_hidden_layers", "num_nextn_predict_layers"), _full, (_DEDICATED,))

_ALL = (
    Family(
        "qwen3_next",
        "Qwen3NextConfig",
        ("Qwen3NextForCausalLM", "Qwen3NextModel"),
        _sizes(
            *(151936, 2048, 5632, 48, 16, 2, 32768),
            **{**_MOE, "num_experts": 512, "num_experts_per_tok": 10, "norm_topk_prob": True},
            decoder_sparse_step=1,
            mlp_only_layers=None,
        ),
        _layers(ByMixture(_MIXED)),
        decoder(_NORM),
        SparseMixed(_TYPES, by_step, say_list),
        only={name: _ONLY[name] for name in ("attention_bias", "attn_output_gate")},
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, "mamba_ssm_dtype"),
        modules=_MODULES,
    ),
    Family(
        "qwen3_5_text",
        "Qwen3_5TextConfig",
        ("Qwen3_5ForCausalLM", "Qwen3_5TextModel"),
        _sizes(248320, 4096, 12288, 32, 16, 4, 32768),
        _layers(GATED, **IMAGES),
        decoder(_NORM),
        _TYPES,
        only=_ONLY,
        ignored=("mamba_ssm_dtype",),
        modules=_MODULES,
    ),
    Family(
        "qwen3_5_moe_text",
        "Qwen3_5MoeTextConfig",
        ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextModel"),
        without(
            _sizes(
                *(248320, 2048, None, 40, 16, 2, 32768),
                **{**_MOE, "num_experts": 256, "num_experts_per_tok": 8},
            ),
            *("intermediate_size", "norm_topk_prob"),
        ),
        _layers(_ALWAYS_NORMED, **IMAGES),
        decoder(_NORM),
        _TYPES,
        only={**_ONLY, "norm_topk_prob": ((True,), "this family norms the chosen scores")},
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, "mamba_ssm_dtype", "intermediate_size"),
        modules=_MODULES,
    ),
    Family(
        "lara_mini",
        "LaraMiniConfig",
        ("LaraMiniForCausalLM", "LaraMiniModel"),
        without(
            _sizes(
                *(151936, 1024, None, 34, 16, 4, 131072),
                **{**_MOE, "num_experts": 128, "num_experts_per_tok": 4, "norm_topk_prob": True, "head_dim": 128},
                linear_num_key_heads=8,
                linear_num_value_heads=16,
                attention_bias=False,
                sliding_window=512,
                tie_word_embeddings=True,
            ),
            *("intermediate_size", "full_attention_interval"),
        ),
        ByLayer({FULL: _LARA_SHORT, SLIDING: _LARA_SHORT, RECURRENT: _LARA_BRANCHES}),
        decoder(rmsnorm()),
        Mixed(
            lambda _, n: [_LARA_PATTERN[i % len(_LARA_PATTERN)] for i in range(n)],
            {FULL: "global", SLIDING: "local", RECURRENT: "linear_attention"},
        ),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*TRAINING, "intermediate_size"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
