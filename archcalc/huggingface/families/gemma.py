"""Gemma: gains of 1 + weight, embeddings scaled by the root of the width, norms around each branch (2 and 3)."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, layer
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes, every
from archcalc.huggingface.leaves import Activation, ByLayer, Draft, Made, Mismatch, Number
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_NORM = rmsnorm(unit_offset=True)
_SCALAR = "query_pre_attn_scalar"


def _scale(said: Said) -> float | None:
    """query_pre_attn_scalar ^ -0.5, where that is not the usual 1 / sqrt(d_head)."""
    scalar = said.size(_SCALAR, counts=False)
    return None if scalar == D_HEAD.read(said) else float(scalar**-0.5)


def _write_scale(value: Any, draft: Draft) -> None:
    scalar = draft.d_head if value is None else round(value**-2)
    if value is not None and (scalar < 1 or scalar**-0.5 != value):
        raise Mismatch("attention.scale")
    draft.put(_SCALAR, scalar)


_ATTENTION: dict[str, Any] = {
    "bias": ATTENTION_BIAS,
    "window": SLIDING_WINDOW,
    "scale": Made(_scale, _write_scale),
    "softcap": Number("attn_logit_softcapping", optional=True),
}
_MLP = {"activation": Activation("hidden_activation")}
_AROUND = decoder(
    _NORM,
    embedding={"scale": "sqrt_d_model"},
    unembedding={"softcap": Number("final_logit_softcapping", optional=True)},
)
_GELU = ((None, "gelu", "gelu_pytorch_tanh", "gelu_new"), "is not read by this family, whose MLP has the tanh GELU")


def _alternating(said: Said, n: int) -> list[str]:  # noqa: ARG001  (no key changes it)
    return [FULL if i % 2 else SLIDING for i in range(n)]


def _sizes(*given: int | None, **more: Any) -> dict[str, Any]:
    """Gemma names its activation otherwise than Llama, and has windows."""
    found = sizes(*given, head_dim=256, tie_word_embeddings=True, attention_bias=False)
    own = {"hidden_activation": "gelu_pytorch_tanh", _SCALAR: 256, "sliding_window": 4096, "layer_types": None}
    return without({**found, **own, **more}, "hidden_act")


_CAPS = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}
_ALL = (
    Family(
        "gemma",
        "GemmaConfig",
        ("GemmaForCausalLM", "GemmaModel"),
        without(
            _sizes(256000, 3072, 24576, 28, 16, 16, 8192),
            *("hidden_activation", _SCALAR, "sliding_window", "layer_types"),
        )
        | {"hidden_act": "gelu_pytorch_tanh"},
        layer({"bias": ATTENTION_BIAS}, {"activation": Activation("hidden_act", {"gelu": "gelu_tanh"})}, norm=_NORM),
        decoder(_NORM, embedding={"scale": "sqrt_d_model"}),
        only={"hidden_activation": _GELU},
        ignored=("num_image_tokens",),  # PaliGemma writes it into its text model
    ),
    Family(
        "gemma2",
        "Gemma2Config",
        ("Gemma2ForCausalLM", "Gemma2Model"),
        _sizes(256000, 2304, 9216, 26, 8, 4, 8192, **_CAPS),
        layer(_ATTENTION, _MLP, norm=_NORM, post_norm=_NORM),
        _AROUND,
        LayerTypes(_alternating),
        only={"hidden_act": _GELU},
        ignored=("sliding_window_size", "num_image_tokens"),
    ),
    Family(
        "gemma3_text",
        "Gemma3TextConfig",
        ("Gemma3ForCausalLM", "Gemma3TextModel"),
        _sizes(
            *(262208, 2304, 9216, 26, 8, 4, 131072),
            **{**dict.fromkeys(_CAPS), "rope_local_base_freq": None, "sliding_window_pattern": 6},
        ),
        layer(
            {
                **_ATTENTION,
                "qk_norm": _NORM,
                "rotary": ByLayer(
                    {
                        FULL: Rotary(D_HEAD, 1_000_000.0, nested=True),
                        SLIDING: Rotary(D_HEAD, theta_key="rope_local_base_freq", nested=True, scales=False),
                    }
                ),
            },
            _MLP,
            norm=_NORM,
            post_norm=_NORM,
        ),
        _AROUND,
        LayerTypes(lambda said, n: every("sliding_window_pattern", said, n)),
        aliases={"sliding_window_pattern": ("_sliding_window_pattern",)},
        only={"hidden_act": _GELU},
    ),
    Family(
        "vaultgemma",
        "VaultGemmaConfig",
        ("VaultGemmaForCausalLM", "VaultGemmaModel"),
        _sizes(256000, 2304, 9216, 26, 8, 4, 8192, **_CAPS),
        layer(_ATTENTION, _MLP, norm=_NORM),
        _AROUND,
        LayerTypes(_alternating),
        only={"hidden_act": _GELU},
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
