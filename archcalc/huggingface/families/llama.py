"""Llama and its kin: pre-norm by RMSNorm, rotary positions, a gated MLP, one kind of layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from archcalc.huggingface.family import D_HEAD, HEADS, KV_HEADS, QUOTIENT, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.leaves import Activation, Draft, Flag, Made, Size
from archcalc.huggingface.rope import AlphaRotary, Rotary
from archcalc.huggingface.said import Said

GATED: dict[str, Any] = {
    "kind": "gated",
    "d_ff": Size("intermediate_size"),
    "activation": Activation("hidden_act"),
    "bias": False,
}
PLAIN: dict[str, Any] = {**GATED, "kind": "plain"}
ATTENTION: dict[str, Any] = {
    "kind": "multi_head",
    "n_heads": HEADS,
    "n_kv_heads": KV_HEADS,
    "d_head": D_HEAD,
    "bias": False,
    "rotary": Rotary(D_HEAD),
}
ATTENTION_BIAS, MLP_BIAS = Flag("attention_bias"), Flag("mlp_bias")
LAYER: dict[str, Any] = {"norm": rmsnorm(), "attention": ATTENTION, "mlp": GATED}
QKV = {"query": True, "key": True, "value": True, "output": False}


def layer(attention: dict[str, Any] | None = None, mlp: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Llama's layer, with other fields of attention and MLP, and more of its own."""
    return {**LAYER, "attention": {**ATTENTION, **(attention or {})}, "mlp": {**GATED, **(mlp or {})}, **more}


def with_biases(theta: float = 10_000.0) -> dict[str, Any]:
    """Llama's own: both kinds of biases may be there."""
    return layer({"bias": ATTENTION_BIAS, "rotary": Rotary(D_HEAD, theta)}, {"bias": MLP_BIAS})


BIASES = {"attention_bias": False, "mlp_bias": False}


def _same_bias(said: Said) -> None:
    """InternLM 3 in transformers has biases in all projections or in none."""
    if said.flag("attention_bias") != said.flag("mlp_bias"):
        said.fail("attention_bias", "must be as mlp_bias, since one setting serves both", said.value("attention_bias"))


def _as_wide(said: Said) -> None:
    """Helium's output projection is hidden_size x hidden_size."""
    heads, d_head, width = said.size("num_attention_heads"), D_HEAD.read(said), said.size("hidden_size")
    if heads * d_head != width:
        said.fail("head_dim", f"x num_attention_heads must be hidden_size ({width:,})", d_head)


def _rows(said: Said) -> int | None:
    """The tokens that have a logit, where not all have one."""
    if said.none("output_vocab_size"):
        said.value("output_vocab_size", counts=False)
        return None
    rows = said.size("output_vocab_size")
    return None if rows == said.size("vocab_size") else rows


def _say_rows(value: Any, draft: Draft) -> None:
    if value is not None:
        draft.put("output_vocab_size", value)


_APERTUS = Family(
    "apertus",
    "ApertusConfig",
    ("ApertusForCausalLM", "ApertusModel"),
    sizes(131072, 4096, 14336, 32, 32, None, 65536, rms_norm_eps=1e-5, hidden_act="xielu", attention_bias=False),
    {
        **LAYER,
        "attention": {
            **ATTENTION,
            "bias": ATTENTION_BIAS,
            "rotary": Rotary(
                D_HEAD,
                12_000_000.0,
                default={
                    "rope_type": "llama3",
                    "rope_theta": 12_000_000.0,
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                },
            ),
            "qk_norm": rmsnorm(),
        },
        "mlp": PLAIN,
    },
    decoder(rmsnorm()),
    only={"qk_norm": ((True,), "is read as true by this family"), "post_norm": ((False,), "is not supported")},
)
_ALL = (
    Family(
        "llama",
        "LlamaConfig",
        ("LlamaForCausalLM", "LlamaModel", "LLaMAForCausalLM"),
        sizes(32000, 4096, 11008, 32, 32, None, 2048, **BIASES),
        with_biases(),
        decoder(rmsnorm()),
        ignored=("is_llama_config",),
    ),
    Family(
        "exaone",
        "ExaoneConfig",
        ("ExaoneForCausalLM", "ExaoneModel"),
        sizes(102400, 4096, 14336, 32, 32, 8, 4096, rms_norm_eps=1e-5, **BIASES),
        with_biases(500_000.0),
        decoder(rmsnorm()),
        aliases={
            "num_hidden_layers": ("num_layers",),
            "rms_norm_eps": ("layer_norm_epsilon",),
            "hidden_act": ("activation_function",),
        },
    ),
    Family(
        "internlm3",
        "InternLM3Config",
        ("InternLM3ForCausalLM", "InternLM3Model"),
        sizes(128512, 4096, 10240, 48, 32, 2, 32768, rms_norm_eps=1e-5, head_dim=128, **BIASES),
        with_biases(),
        decoder(rmsnorm()),
        aliases={"attention_bias": ("qkv_bias",), "mlp_bias": ("bias",)},
        checks=(_same_bias,),
    ),
    Family(
        "iquestcoder",
        "IQuestCoderConfig",
        ("IQuestCoderForCausalLM", "IQuestCoderModel"),
        sizes(76800, 5120, 27648, 80, 40, 8, 131072, rms_norm_eps=1e-5, head_dim=128, **BIASES),
        with_biases(),
        decoder(rmsnorm()),
    ),
    Family(
        "emu3_text_model",
        "Emu3TextConfig",
        ("Emu3ForCausalLM", "Emu3TextModel"),
        sizes(184622, 4096, 14336, 32, 32, 8, 9216, rms_norm_eps=1e-5, **BIASES),
        with_biases(1_000_000.0),
        decoder(rmsnorm()),
    ),
    Family(
        "seed_oss",
        "SeedOssConfig",
        ("SeedOssForCausalLM", "SeedOssModel"),
        sizes(
            *(155136, 4096, 27648, 64, 80, 8, 524288),
            **{**BIASES, "head_dim": 128, "attention_bias": True, "attention_out_bias": False},
        ),
        layer(
            {
                "bias": {
                    **dict.fromkeys(("query", "key", "value"), ATTENTION_BIAS),
                    "output": Flag("attention_out_bias"),
                }
            },
            {"bias": MLP_BIAS},
        ),
        decoder(rmsnorm()),
    ),
    Family(
        "helium",
        "HeliumConfig",
        ("HeliumForCausalLM", "HeliumModel"),
        sizes(48000, 2560, 7040, 24, 20, 20, 4096, rms_norm_eps=1e-8, head_dim=128, **BIASES),
        layer(
            {
                "bias": Flag("attention_bias", {True: QKV, False: False}),
                "rotary": Rotary(D_HEAD, 100_000.0, pairing="neighbours"),
            },
            {"bias": MLP_BIAS},
        ),
        decoder(rmsnorm()),
        checks=(_as_wide,),
    ),
    Family(
        "ernie4_5",
        "Ernie4_5Config",
        ("Ernie4_5ForCausalLM", "Ernie4_5Model", "Ernie4_5_ForCausalLM"),
        sizes(
            *(103424, 1024, 3072, 18, 16, 2, 131072),
            rms_norm_eps=1e-5,
            head_dim=128,
            tie_word_embeddings=True,
            use_bias=False,
        ),
        layer(
            {"bias": Flag("use_bias"), "rotary": Rotary(D_HEAD, 500_000.0, pairing="neighbours")},
            {"bias": Flag("use_bias")},
        ),
        decoder(rmsnorm()),
    ),
    Family(
        "hunyuan_v1_dense",
        "HunYuanDenseV1Config",
        ("HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Model"),
        sizes(290943, 4096, 11008, 32, 32, None, 2048, rms_norm_eps=1e-5, attention_bias=False),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": AlphaRotary(D_HEAD),
                "qk_norm": rmsnorm(),
                "qk_norm_place": "after",
            }
        ),
        decoder(rmsnorm()),
        aliases={"head_dim": ("attention_head_dim",)},
        ignored=("eod_token_id", "im_start_id", "im_end_id", "im_newline_id", "text_start_id", "text_end_id"),
        only={"use_qk_norm": ((True,), "is read as true by this family")},
    ),
    Family(
        "arcee",
        "ArceeConfig",
        ("ArceeForCausalLM", "ArceeModel"),
        sizes(32000, 2560, 18432, 32, 32, None, 4096, rms_norm_eps=1e-5, hidden_act="relu2", **BIASES),
        {**LAYER, "attention": {**ATTENTION, "bias": ATTENTION_BIAS}, "mlp": {**PLAIN, "bias": MLP_BIAS}},
        decoder(rmsnorm()),
    ),
    Family(
        "bitnet",
        "BitNetConfig",
        ("BitNetForCausalLM", "BitNetModel"),
        without(
            sizes(
                *(128256, 2560, 6912, 30, 20, 5, 2048),
                rms_norm_eps=1e-5,
                hidden_act="relu2",
                attention_bias=False,
            ),
            "head_dim",
        ),
        layer(
            {
                "d_head": QUOTIENT,
                "bias": ATTENTION_BIAS,
                "rotary": Rotary(QUOTIENT, 500_000.0),
                "sub_norm": rmsnorm(),
            },
            {"sub_norm": rmsnorm()},
        ),
        decoder(rmsnorm()),
    ),
    _APERTUS,
    replace(
        _APERTUS,
        model_type="apertus1p5_text",
        config_class="Apertus1p5TextConfig",
        architectures=("Apertus1p5TextForCausalLM", "Apertus1p5TextModel"),
        defaults={**_APERTUS.defaults, "vocab_size": 266752, "output_vocab_size": None},
        template=decoder(rmsnorm(), unembedding={"rows": Made(_rows, _say_rows)}),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
