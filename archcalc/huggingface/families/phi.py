"""Phi, StableLM, StarCoder 2, Nemotron, Persimmon, Jais 2: LayerNorm or RMSNorm with rotary positions of a part."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, BIASES, LAYER, MLP_BIAS, PLAIN, QKV, layer
from archcalc.huggingface.family import (
    D_HEAD,
    HEADS,
    QUOTIENT,
    WINDOW,
    Family,
    decoder,
    layernorm,
    rmsnorm,
    sizes,
    without,
)
from archcalc.huggingface.leaves import Activation, Flag, Number
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_NORM = layernorm("layer_norm_eps")


def _sizes(*given: int | None, **more: Any) -> dict[str, Any]:
    """A LayerNorm's epsilon has a name of its own."""
    return without({**sizes(*given), **more}, "rms_norm_eps")


_EPS = {"layer_norm_eps": 1e-5}


def _longrope_lengths(said: Said) -> None:
    """Phi-3 has a factor for each pair of features."""
    rope = said.config.get("rope_scaling") or said.config.get("rope_parameters")
    if not isinstance(rope, dict) or said.problems:
        return
    turned = Rotary(D_HEAD, partial=1.0).read(said)
    pairs = turned["d_rotary"] // 2 if turned else 0
    for name in ("short_factor", "long_factor"):
        found = rope.get(name)
        if isinstance(found, list) and len(found) != pairs:
            said.fail(
                "rope_scaling" if said.says("rope_scaling") else "rope_parameters",
                f"{name} must have {pairs:,} numbers, one for each pair of features",
                len(found),
            )


def _phi_norms_as_wide(said: Said) -> None:
    """Phi's norms of queries and keys are hidden_size / num_attention_heads wide, whatever head_dim says."""
    if not said.flag("qk_layernorm"):
        return
    width, heads, d_head = said.size("hidden_size"), said.size("num_attention_heads"), D_HEAD.read(said)
    if width // heads != d_head:
        what = f"must be hidden_size / num_attention_heads ({width // heads:,}), since qk_layernorm is true"
        said.fail("head_dim", what, d_head)


_NEMOTRON_NORM = layernorm("norm_eps", unit_offset=True)
_NO_BIAS = ((False, None), "is not read by this family")

_ALL = (
    Family(
        "phi",
        "PhiConfig",
        ("PhiForCausalLM", "PhiModel"),
        _sizes(51200, 2048, 8192, 24, 32, None, 2048, **_EPS, hidden_act="gelu_new", qk_layernorm=False),
        {
            **LAYER,
            "norm": _NORM,
            "attention": {
                **LAYER["attention"],
                "bias": True,
                "rotary": Rotary(D_HEAD, partial=0.5),
                "qk_norm": Flag("qk_layernorm", {True: _NORM, False: None}),
            },
            "mlp": {**PLAIN, "bias": True},
            "parallel": "shared",
        },
        decoder(_NORM, unembedding={"bias": True}),
        checks=(_phi_norms_as_wide,),
    ),
    Family(
        "phi3",
        "Phi3Config",
        ("Phi3ForCausalLM", "Phi3Model"),
        sizes(
            *(32064, 3072, 8192, 32, 32, None, 4096),
            rms_norm_eps=1e-5,
            original_max_position_embeddings=4096,
            sliding_window=None,
        ),
        layer({"rotary": Rotary(D_HEAD, partial=1.0, names={"yarn": "longrope"}), "window": WINDOW}),
        decoder(rmsnorm()),
        only={
            "attention_bias": _NO_BIAS,
            "mlp_bias": _NO_BIAS,
            "lm_head_bias": _NO_BIAS,
            "interpolate_factor": ((1, 1.0, None), "is not read by this family"),
            "full_attn_mod": ((1, None), "is not read by this family"),
        },
        checks=(_longrope_lengths,),
    ),
    Family(
        "stablelm",
        "StableLmConfig",
        ("StableLmForCausalLM", "StableLmModel", "StableLMEpochForCausalLM"),
        _sizes(
            *(50304, 2560, 6912, 32, 32, 32, 4096),
            **_EPS,
            use_qkv_bias=False,
            qk_layernorm=False,
            use_parallel_residual=False,
        ),
        layer(
            {
                "d_head": QUOTIENT,
                "bias": Flag("use_qkv_bias", {True: QKV, False: False}),
                "rotary": Rotary(QUOTIENT, partial=0.25),
                "qk_norm": Flag("qk_layernorm", {True: layernorm("layer_norm_eps", bias=False), False: None}),
                "qk_norm_over": Flag("qk_layernorm", {True: "heads", False: None}),
            },
            norm=_NORM,
            parallel=Flag("use_parallel_residual", {True: "shared", False: None}),
        ),
        decoder(_NORM),
        aliases={"layer_norm_eps": ("norm_eps",), "partial_rotary_factor": ("rope_pct",)},
        only={"rotary_scaling_factor": ((1, 1.0, None), "is not read by this family")},
    ),
    Family(
        "starcoder2",
        "Starcoder2Config",
        ("Starcoder2ForCausalLM", "Starcoder2Model"),
        _sizes(
            *(49152, 3072, 12288, 30, 24, 2, 4096),
            norm_epsilon=1e-5,
            initializer_range=0.018042,
            hidden_act="gelu_pytorch_tanh",
            tie_word_embeddings=True,
            sliding_window=None,
            use_bias=True,
        ),
        {
            "norm": layernorm("norm_epsilon"),
            "attention": {**LAYER["attention"], "bias": Flag("use_bias"), "window": WINDOW},
            "mlp": {**PLAIN, "bias": Flag("use_bias")},
        },
        decoder(layernorm("norm_epsilon")),
        ignored=("layer_norm_epsilon",),
        only={
            "mlp_type": (("default", None), "is not read by this family"),
            "norm_type": (("layer_norm", None), "is not read by this family"),
            "scale_attn_weights": ((True, None), "attention without the scale of its scores is not supported"),
        },
    ),
    Family(
        "nemotron",
        "NemotronConfig",
        ("NemotronForCausalLM", "NemotronModel"),
        _sizes(256000, 6144, 24576, 32, 48, None, 4096, norm_eps=1e-5, hidden_act="relu2", **BIASES),
        {
            "norm": _NEMOTRON_NORM,
            "attention": {**LAYER["attention"], "bias": ATTENTION_BIAS, "rotary": Rotary(D_HEAD, partial=0.5)},
            "mlp": {**PLAIN, "bias": MLP_BIAS},
        },
        decoder(_NEMOTRON_NORM),
        aliases={"partial_rotary_factor": ("rope_percent", "rotary_percent")},
    ),
    Family(
        "persimmon",
        "PersimmonConfig",
        ("PersimmonForCausalLM", "PersimmonModel"),
        without(
            _sizes(262144, 4096, 16384, 36, 64, None, 16384, **_EPS, hidden_act="relu2", qk_layernorm=True),
            "num_key_value_heads",
        ),
        {
            "norm": _NORM,
            "attention": {
                **LAYER["attention"],
                "n_kv_heads": HEADS,
                "d_head": QUOTIENT,
                "bias": True,
                "rotary": Rotary(QUOTIENT, partial=0.5),
                "qk_norm": Flag("qk_layernorm", {True: _NORM, False: None}),
            },
            "mlp": {**PLAIN, "bias": True},
        },
        decoder(_NORM),
    ),
    Family(
        "jais2",
        "Jais2Config",
        ("Jais2ForCausalLM", "Jais2Model"),
        _sizes(
            *(150272, 3328, 26624, 32, 26, None, 8192), **_EPS, hidden_act="relu2", attention_bias=True, mlp_bias=True
        ),
        {
            "norm": _NORM,
            "attention": {**LAYER["attention"], "bias": ATTENTION_BIAS},
            "mlp": {**PLAIN, "bias": MLP_BIAS},
        },
        decoder(_NORM),
    ),
    Family(
        "nanochat",
        "NanoChatConfig",
        ("NanoChatForCausalLM", "NanoChatModel"),
        sizes(
            *(50304, 768, 8192, 12, 6, None, 2048),
            hidden_act="relu2",
            final_logit_softcapping=15.0,
            attention_bias=False,
        ),
        {
            "norm": rmsnorm(gain=False),
            "attention": {
                **LAYER["attention"],
                "bias": ATTENTION_BIAS,
                "rotary": Rotary(D_HEAD, backwards=True),
                "qk_norm": rmsnorm(gain=False),
                "qk_norm_place": "after",
            },
            "mlp": {**PLAIN, "activation": Activation("hidden_act")},
        },
        decoder(
            rmsnorm(gain=False),
            embedding={"norm": rmsnorm(gain=False)},
            unembedding={"softcap": Number("final_logit_softcapping", optional=True)},
        ),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
