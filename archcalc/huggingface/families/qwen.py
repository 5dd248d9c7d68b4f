"""Qwen: Llama's layers with biases of query, key and value (2), or norms of queries and keys (3)."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION, LAYER, QKV
from archcalc.huggingface.family import SLIDING_WINDOW, Family, decoder, rmsnorm
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Flag
from archcalc.huggingface.rope import KEYS
from archcalc.huggingface.said import Said


def _late(said: Said, n: int) -> list[str]:
    """Windows from layer max_window_layers on, where they are used at all."""
    if not said.flag("use_sliding_window") or said.none("sliding_window"):
        return [FULL] * n
    first = said.size("max_window_layers", least=0)
    return [SLIDING if i >= first else FULL for i in range(n)]


_DEFAULTS: dict[str, Any] = {
    **KEYS,
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
_QWEN2 = Family(
    "qwen2",
    "Qwen2Config",
    ("Qwen2ForCausalLM", "Qwen2Model"),
    _DEFAULTS,
    {**LAYER, "attention": {**ATTENTION, "bias": QKV, "window": SLIDING_WINDOW}},
    decoder(rmsnorm()),
    LayerTypes(_late),
)
_QWEN3 = Family(
    "qwen3",
    "Qwen3Config",
    ("Qwen3ForCausalLM", "Qwen3Model"),
    {**_DEFAULTS, "head_dim": 128, "attention_bias": False},
    {
        **LAYER,
        "attention": {
            **ATTENTION,
            "bias": Flag("attention_bias"),
            "qk_norm": rmsnorm(),
            "window": SLIDING_WINDOW,
        },
    },
    decoder(rmsnorm()),
    LayerTypes(_late),
)

FAMILIES = {one.model_type: one for one in (_QWEN2, _QWEN3)}
