"""Cohere, Granite, GLM: attention and MLP side by side, multipliers, norms around each branch; Granite's mixtures."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, BIASES, GATED, MLP_BIAS, QKV, layer
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.families.qwen import IMAGES
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, layernorm, rmsnorm, sizes, without
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes, every
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Made, Mismatch, Number, Size, attention_of, inside
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

COHERE_NORM = layernorm("layer_norm_eps", bias=False)


def _cohere_sizes(**more: Any) -> dict[str, Any]:
    found = sizes(256000, 8192, 22528, 40, 64, None, 8192, tie_word_embeddings=True, attention_bias=False)
    return without({**found, "layer_norm_eps": 1e-5, "logit_scale": 0.0625, **more}, "rms_norm_eps")


class _ByType(Rotary):
    """Settings for each type of layer, which null leaves without positions."""

    def read(self, said: Said) -> dict[str, Any] | None:
        whole, layer = said.value("rope_parameters", counts=False), attention_of(said.layer)
        if not isinstance(whole, dict) or layer not in whole:
            said.fail("rope_parameters", f"must have a mapping, or null, for {layer}", whole)
        return None if whole[layer] is None else super().read(said)

    def write(self, value: Any, draft: Draft) -> None:
        if value is not None:
            super().write(value, draft)
        elif draft.setdefault("rope_parameters", {}).setdefault(attention_of(draft.layer)) is not None:
            raise Mismatch("rotary")


COHERE = decoder(COHERE_NORM, unembedding={"scale": Number("logit_scale", 1.0)})
_SAME = {
    "use_gated_activation": ((True,), "plain MLPs are not read by this family"),
    "use_parallel_block": ((True,), "is read as true by this family"),
    "use_embedding_sharing": ((True, False), "must be true or false"),
    "position_embedding_type": (("rope_gptj", None), "is not supported by this family"),
    "order_of_interleaved_layers": (("local_attn_first", None), "is not supported by this family"),
    "rotary_pct": ((1, 1.0, None), "is not read by this family"),
    "use_qk_norm": ((False, None), "is not read by this family"),
}


def _attention_scale(said: Said) -> float | None:
    """attention_multiplier, where that is not the usual 1 / sqrt(d_head)."""
    d_head = D_HEAD.read(said)
    if said.none("attention_multiplier"):
        said.value("attention_multiplier", counts=False)
        return None
    value = said.number("attention_multiplier")
    return None if value == d_head**-0.5 else value


def _write_attention_scale(value: Any, draft: Draft) -> None:
    draft.put("attention_multiplier", draft.d_head**-0.5 if value is None else value)


def _logits_divided(said: Said) -> float | None:
    value = said.number("logits_scaling")
    return None if value == 1 else 1 / value


def _write_divided(value: Any, draft: Draft) -> None:
    draft.put("logits_scaling", 1.0 if value is None else 1 / value)


LOGITS = Made(_logits_divided, _write_divided)
MULTIPLIERS: dict[str, Any] = {
    **BIASES,
    "embedding_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": 1.0,
}
GRANITE = layer(
    {"bias": ATTENTION_BIAS, "scale": Made(_attention_scale, _write_attention_scale)},
    {"bias": MLP_BIAS},
    scale=Number("residual_multiplier", 1.0),
)
EMBEDDING = {"scale": Number("embedding_multiplier", 1.0)}
_GLM_ROTARY = Rotary(D_HEAD, partial=0.5, pairing="neighbours")
_GLM = layer({"bias": Flag("attention_bias", {True: QKV, False: False}), "rotary": _GLM_ROTARY})
_GLM_SIZES = sizes(
    *(151552, 4096, 13696, 40, 32, 2, 131072), head_dim=128, rms_norm_eps=1.5625e-07, attention_bias=True
)

_GRANITES = {key: value for key, value in MULTIPLIERS.items() if key != "mlp_bias"}


AFTER = {"scores": "softmax_of_chosen", "normalized": False}


def _granite_shared(said: Said) -> Any:
    """The MLP that all tokens go through; a width of 0 is none."""
    if said.size("shared_intermediate_size", least=0) == 0:
        return None
    return inside({**GATED, "d_ff": Size("shared_intermediate_size")}, said)


def _say_granite_shared(value: Any, draft: Draft) -> None:
    draft.put("shared_intermediate_size", 0 if value is None else value["d_ff"])


GRANITE_SHARED = Made(_granite_shared, _say_granite_shared)

_ALL = (
    Family(
        "cohere",
        "CohereConfig",
        ("CohereForCausalLM", "CohereModel"),
        _cohere_sizes(use_qk_norm=False),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": Rotary(D_HEAD, 500_000.0, pairing="neighbours"),
                "qk_norm": Flag("use_qk_norm", {True: COHERE_NORM, False: None}),
                "qk_norm_over": Flag("use_qk_norm", {True: "heads", False: None}),
            },
            norm=COHERE_NORM,
            parallel="shared",
        ),
        COHERE,
    ),
    Family(
        "cohere2",
        "Cohere2Config",
        ("Cohere2ForCausalLM", "Cohere2Model"),
        _cohere_sizes(sliding_window=4096, layer_types=None, sliding_window_pattern=4),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": ByLayer({SLIDING: Rotary(D_HEAD, pairing="neighbours"), FULL: None}),
                "window": SLIDING_WINDOW,
            },
            norm=COHERE_NORM,
            parallel="shared",
        ),
        COHERE,
        LayerTypes(lambda said, n: every("sliding_window_pattern", said, n)),
        aliases={"sliding_window_pattern": ("_sliding_window_pattern", "layer_switch")},
        only=_SAME,
    ),
    Family(
        "cohere_compass_text",
        "CohereCompassTextConfig",
        ("CohereCompassForCausalLM", "CohereCompassTextModel"),
        _cohere_sizes(sliding_window=4096, layer_types=None, logit_scale=None),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": _ByType(D_HEAD, nested=True, scales=False, **IMAGES),
                "window": SLIDING_WINDOW,
            },
            norm=COHERE_NORM,
            parallel="shared",
        ),
        decoder(COHERE_NORM, unembedding={"scale": Number("logit_scale", 1.0, optional=True)}),
        LayerTypes(lambda _, n: [FULL] * n),
        only=_SAME,
        ignored=("pooling",),
    ),
    Family(
        "granite",
        "GraniteConfig",
        ("GraniteForCausalLM", "GraniteModel"),
        sizes(32000, 4096, 11008, 32, 32, None, 2048, **MULTIPLIERS),
        GRANITE,
        decoder(rmsnorm(), embedding=EMBEDDING, unembedding={"scale": LOGITS}),
    ),
    Family(
        "hyperclovax",
        "HyperCLOVAXConfig",
        ("HyperCLOVAXForCausalLM", "HyperCLOVAXModel"),
        sizes(
            *(32000, 4096, 11008, 32, 32, None, 2048),
            **{**MULTIPLIERS, "attention_multiplier": None, "use_post_norm": True},
        ),
        {**GRANITE, "post_norm": Flag("use_post_norm", {True: rmsnorm(), False: None})},
        decoder(rmsnorm(), embedding=EMBEDDING, unembedding={"scale": Number("logits_scaling", 1.0)}),
    ),
    Family("glm", "GlmConfig", ("GlmForCausalLM", "GlmModel"), _GLM_SIZES, _GLM, decoder(rmsnorm())),
    Family(
        "glm4",
        "Glm4Config",
        ("Glm4ForCausalLM", "Glm4Model"),
        _GLM_SIZES,
        {**_GLM, "post_norm": rmsnorm()},
        decoder(rmsnorm()),
    ),
    *(
        Family(
            *(name, f"GraniteMoe{shared}Config", (f"GraniteMoe{shared}ForCausalLM", f"GraniteMoe{shared}Model")),
            sizes(
                *(32000, 4096, 11008, 32, 32, None, 2048),
                **{**_GRANITES, "num_local_experts": 8, "num_experts_per_tok": 2, **more},
            ),
            {
                **{key: value for key, value in GRANITE.items() if key != "mlp"},
                "attention": {**GRANITE["attention"], "bias": ATTENTION_BIAS},
                "mlp": experts("num_local_experts", "intermediate_size", AFTER, **shared_mlp),
            },
            decoder(
                rmsnorm(),
                embedding=EMBEDDING,
                unembedding={"scale": LOGITS},
            ),
            ignored=TRAINING,
        )
        for name, shared, more, shared_mlp in (
            ("granitemoe", "", {}, {}),
            ("granitemoeshared", "Shared", {"shared_intermediate_size": 0}, {"shared": GRANITE_SHARED}),
        )
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
