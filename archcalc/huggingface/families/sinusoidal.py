"""Sinusoidal positions: XGLM, CTRL."""

from __future__ import annotations

from archcalc.huggingface.families.gpt import OLD_NAMES, around, multi_head, plain
from archcalc.huggingface.family import Family, layernorm
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Activation, Flag, Size

_XGLM_NORM = {"kind": "layernorm", "bias": True, "epsilon": 1e-5}
_CTRL_NORM = {**_XGLM_NORM, "epsilon": 1e-6}  # of layers, whatever layer_norm_epsilon says

_ALL = (
    Family(
        "xglm",
        "XGLMConfig",
        ("XGLMForCausalLM", "XGLMModel"),
        {
            "vocab_size": 256008,
            "max_position_embeddings": 2048,
            "d_model": 1024,
            "ffn_dim": 4096,
            "num_layers": 24,
            "attention_heads": 16,
            "activation_function": "gelu",
            "scale_embedding": True,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": _XGLM_NORM,
            "attention": multi_head("d_model", "attention_heads"),
            "mlp": plain(Size("ffn_dim"), Activation("activation_function")),
        },
        around(
            *("d_model", "max_position_embeddings", _XGLM_NORM),
            embedding={
                "positions": "sinusoidal",
                "sinusoids": "tensor2tensor",
                "first_position": 2,
                "scale": Flag("scale_embedding", {True: "sqrt_d_model", False: None}),
            },
        ),
        Kinds("num_layers"),
        aliases={
            "d_model": ("hidden_size",),
            "num_layers": ("num_hidden_layers",),
            "attention_heads": ("num_attention_heads",),
        },
        std="init_std",
    ),
    Family(
        "ctrl",
        "CTRLConfig",
        ("CTRLLMHeadModel", "CTRLModel"),
        {
            "vocab_size": 246534,
            "n_positions": 256,
            "n_embd": 1280,
            "dff": 8192,
            "n_layer": 48,
            "n_head": 16,
            "layer_norm_epsilon": 1e-6,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": _CTRL_NORM,
            "attention": multi_head("n_embd", "n_head"),
            "mlp": {"kind": "plain", "d_ff": Size("dff"), "activation": "relu", "bias": True},
        },
        around(
            *("n_embd", "n_positions", layernorm("layer_norm_epsilon")),
            embedding={"positions": "sinusoidal", "scale": "sqrt_d_model"},
            unembedding={"bias": True},
        ),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=("from_tf", "n_ctx"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
