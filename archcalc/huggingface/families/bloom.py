"""BLOOM, MPT, OPT, BioGPT: ALiBi, or learned positions that start at 2."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.gpt import around, multi_head, plain
from archcalc.huggingface.family import Family, layernorm
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Activation, Draft, Flag, Made, Size, Times
from archcalc.huggingface.said import Said

_BLOOM_NORM = layernorm("layer_norm_epsilon")
_BLOOM_CONTEXT = 2048


def _bloom_context(said: Said) -> int:
    if not said.none("seq_length"):
        return said.size("seq_length")
    said.assume(
        f"config.json says no context length, which ALiBi does not need; {_BLOOM_CONTEXT:,} is taken, as BLOOM trained"
    )
    return _BLOOM_CONTEXT


_MPT_NORM = layernorm("layer_norm_epsilon", bias=False)
_MPT_ATTENTION: dict[str, tuple[tuple[Any, ...], str]] = {
    "attn_type": (("multihead_attention",), "another kind of attention is not read by transformers"),
    "alibi": ((True,), "positions other than ALiBi are not read by transformers"),
    "alibi_bias_max": ((8,), "other slopes are not supported yet"),
    "prefix_lm": ((False,), "bidirectional prefixes are not supported yet"),
    "qk_ln": ((False,), "norms of queries and keys are not read by transformers"),
    "rope": ((False,), "positions other than ALiBi are not read by transformers"),
    "sliding_window_size": ((-1,), "windows are not read by transformers"),
}
_MPT_HARMLESS = (
    *("attn_pdrop", "attn_impl", "attn_uses_sequence_id", "softmax_scale", "clip_qkv", "model_type"),
    *("transformers_version", "dtype", "torch_dtype", "kv_n_heads", "fused_qkv", "architectures"),
)


def _attn_config(said: Said) -> dict[str, Any]:
    """The settings of attention, which stand in a mapping of their own."""
    found = said.value("attn_config", counts=False)
    if found is None:
        return {}
    if not isinstance(found, dict):
        said.fail("attn_config", "must be a mapping", found)
    return dict(found)


def _check_mpt(said: Said) -> None:
    from archcalc.huggingface.ignored import matters_not

    inside = _attn_config(said)
    for name, value in inside.items():
        if name in _MPT_ATTENTION:
            fine, what = _MPT_ATTENTION[name]
            if value is not None and value not in fine:
                said.note(said.problem("attn_config", f"{name}: {what}", value))
        elif name not in _MPT_HARMLESS and not matters_not(name) and value not in (None, False):
            said.note(said.problem("attn_config", f"{name} is not known; it may bear on the counts", value))


def _mpt_number(name: str) -> Made:
    def read(said: Said) -> float | None:
        value = _attn_config(said).get(name)
        if value is None or value is False or value == 0:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            said.fail("attn_config", f"{name} must be a number above 0", value)
        return float(value)

    def write(value: Any, draft: Draft) -> None:
        if value is not None:
            draft.setdefault("attn_config", {})[name] = value

    return Made(read, write)


def _affine_norm(key: str) -> Any:
    """OPT's: gains and biases are there or not, both at once, and the epsilon is PyTorch's."""
    return {
        "kind": "layernorm",
        "bias": Flag(key),
        "gain": Flag(key, {True: None, False: False}),
        "epsilon": 1e-5,
    }


_OPT_NORM = _affine_norm("layer_norm_elementwise_affine")
_BEFORE, _PROJECTED = "do_layer_norm_before", "word_embed_proj_dim"
_OPT_WIDTH = Made(
    lambda said: (
        None if said.none(_PROJECTED) or said.size(_PROJECTED) == said.size("hidden_size") else said.size(_PROJECTED)
    ),
    lambda value, draft: None if value is None else draft.put(_PROJECTED, value),
)
_OPT_FINAL = Flag(
    _BEFORE,
    {True: Flag("_remove_final_layer_norm", {False: _OPT_NORM, True: None}), False: None},
)
_PLAIN_NORM = {"kind": "layernorm", "bias": True, "epsilon": 1e-5}

_ALL = (
    Family(
        "bloom",
        "BloomConfig",
        ("BloomForCausalLM", "BloomModel"),
        {
            "vocab_size": 250880,
            "hidden_size": 64,
            "n_layer": 2,
            "n_head": 8,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
            "seq_length": None,
            "head_dim": None,
        },
        {
            "norm": _BLOOM_NORM,
            "attention": multi_head("hidden_size", "n_head", alibi=True),
            "mlp": {
                "kind": "plain",
                "d_ff": Times(4, "hidden_size"),
                "activation": "gelu_tanh",
                "bias": True,
            },
        },
        {
            **around(
                *("hidden_size", "seq_length", _BLOOM_NORM),
                embedding={"positions": "none", "norm": _BLOOM_NORM},
            ),
            "context_length": Made(_bloom_context, lambda value, draft: draft.put("seq_length", value)),
        },
        Kinds("n_layer"),
        aliases={
            "hidden_size": ("n_embed",),
            "n_layer": ("num_hidden_layers",),
            "n_head": ("num_attention_heads",),
        },
        ignored=(
            *("masked_softmax_fusion", "bias_dropout_fusion", "slow_but_exact", "skip_bias_add"),
            *("skip_bias_add_qkv", "offset_alibi"),
        ),
        only={
            "apply_residual_connection_post_layernorm": ((False,), "residuals after the norm are not supported yet")
        },
    ),
    Family(
        "mpt",
        "MptConfig",
        ("MptForCausalLM", "MptModel", "MPTForCausalLM"),
        {
            "vocab_size": 50368,
            "d_model": 2048,
            "n_heads": 16,
            "n_layers": 24,
            "max_seq_len": 2048,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
            "attn_config": None,
            "head_dim": None,
        },
        {
            "norm": _MPT_NORM,
            "attention": multi_head(
                *("d_model", "n_heads"),
                bias=False,
                alibi=True,
                scale=_mpt_number("softmax_scale"),
                clip=_mpt_number("clip_qkv"),
            ),
            "mlp": {"kind": "plain", "d_ff": Times(4, "d_model"), "activation": "gelu", "bias": False},
        },
        around("d_model", "max_seq_len", _MPT_NORM, embedding={"positions": "none"}),
        Kinds("n_layers"),
        aliases={
            "d_model": ("hidden_size",),
            "n_heads": ("num_attention_heads",),
            "n_layers": ("num_hidden_layers",),
        },
        ignored=(
            *("init_config", "init_device", "learned_pos_emb", "tokenizer_name", "verbose", "embedding_fraction"),
            *("fc_type", "ffn_config", "use_pad_tok_in_ffn"),
        ),
        only={
            "expansion_ratio": ((4, None), "is not read by transformers, whose MLP is 4 x d_model wide"),
            "no_bias": ((True,), "biases are not read by transformers"),
            "logit_scale": ((None,), "is not read by transformers"),
            "norm_type": (("low_precision_layernorm", "layernorm", None), "is not read by transformers"),
        },
        checks=(_check_mpt,),
    ),
    Family(
        "opt",
        "OPTConfig",
        ("OPTForCausalLM", "OPTModel"),
        {
            "vocab_size": 50272,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "ffn_dim": 3072,
            "max_position_embeddings": 2048,
            _BEFORE: True,
            "_remove_final_layer_norm": False,
            _PROJECTED: None,
            "num_attention_heads": 12,
            "activation_function": "relu",
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": Flag(_BEFORE, {True: _OPT_NORM, False: None}),
            "attention": multi_head("hidden_size", "num_attention_heads", bias=Flag("enable_bias")),
            "mlp": plain(Size("ffn_dim"), Activation("activation_function"), bias=Flag("enable_bias")),
            "stream_norm": Flag(_BEFORE, {True: None, False: _OPT_NORM}),
        },
        around(
            *("hidden_size", "max_position_embeddings", _OPT_FINAL),
            embedding={"positions": "learned", "extra_positions": 2, "d_embedding": _OPT_WIDTH},
            unembedding={"d_embedding": _OPT_WIDTH},
        ),
        std="init_std",
    ),
    Family(
        "biogpt",
        "BioGptConfig",
        ("BioGptForCausalLM", "BioGptModel"),
        {
            "vocab_size": 42384,
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "hidden_act": "gelu",
            "max_position_embeddings": 1024,
            "scale_embedding": True,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": _PLAIN_NORM,
            "attention": multi_head("hidden_size", "num_attention_heads"),
            "mlp": plain(Size("intermediate_size"), Activation("hidden_act")),
        },
        around(
            *("hidden_size", "max_position_embeddings", _PLAIN_NORM),
            embedding={
                "positions": "learned",
                "extra_positions": 2,
                "scale": Flag("scale_embedding", {True: "sqrt_d_model", False: None}),
            },
        ),
        ignored=("layer_norm_eps",),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
