"""Qwen: Llama's layers with biases of query, key and value (2), or norms of queries and keys (3)."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, QKV, layer
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Draft
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said


def _late(said: Said, n: int) -> list[str]:
    """Windows from layer max_window_layers on, where they are used at all."""
    if not said.flag("use_sliding_window") or said.none("sliding_window"):
        return [FULL] * n
    first = said.size("max_window_layers", least=0)
    return [SLIDING if i >= first else FULL for i in range(n)]


class Windows(LayerTypes):
    """Types whose windows hold only where the config says that they are used: else transformers forgets the window."""

    def types(self, said: Said) -> list[str]:
        found = super().types(said)
        if SLIDING in found or said.says("use_sliding_window"):
            used = said.flag("use_sliding_window")
            if SLIDING in found and not used:
                what = "must be true, since layers are of type sliding_attention"
                said.fail("use_sliding_window", what, used)
        return found

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        if SLIDING in types:
            draft.put("use_sliding_window", value=True)


def _sizes(*given: Any, **more: Any) -> dict[str, Any]:
    windows = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "layer_types": None}
    return sizes(*given, **{**windows, **more})


IMAGES: dict[str, Any] = {"names": {"mrope": "default"}, "beside": ("mrope_section", "mrope_interleaved")}
"""Angles of three sections of positions, which are one for text."""
_QWEN2 = {"bias": QKV, "window": SLIDING_WINDOW}
_QWEN2_VL = _sizes(152064, 8192, 29568, 80, 64, 8, 32768, rms_norm_eps=1e-5, max_window_layers=80)
_QWEN2_VL_LAYER = layer({**_QWEN2, "rotary": Rotary(D_HEAD, 1_000_000.0, **IMAGES)})
_QWEN3 = {"bias": ATTENTION_BIAS, "qk_norm": rmsnorm()}

_ALL = (
    Family(
        "qwen2",
        "Qwen2Config",
        ("Qwen2ForCausalLM", "Qwen2Model"),
        _sizes(151936, 4096, 22016, 32, 32, 32, 32768),
        layer(_QWEN2),
        decoder(rmsnorm()),
        Windows(_late),
        ignored=("use_mrope",),
    ),
    Family(
        "qwen3",
        "Qwen3Config",
        ("Qwen3ForCausalLM", "Qwen3Model"),
        _sizes(151936, 4096, 22016, 32, 32, 32, 32768, head_dim=128, attention_bias=False),
        layer({**_QWEN3, "window": SLIDING_WINDOW}),
        decoder(rmsnorm()),
        Windows(_late),
    ),
    Family(
        "qwen2_vl_text",
        "Qwen2VLTextConfig",
        ("Qwen2VLTextModel",),
        _QWEN2_VL,
        _QWEN2_VL_LAYER,
        decoder(rmsnorm()),
        Windows(_late),
    ),
    Family(
        "qwen2_5_vl_text",
        "Qwen2_5_VLTextConfig",
        ("Qwen2_5_VLTextModel",),
        _QWEN2_VL,
        _QWEN2_VL_LAYER,
        decoder(rmsnorm()),
        Windows(_late),
    ),
    Family(
        "qwen3_vl_text",
        "Qwen3VLTextConfig",
        ("Qwen3VLTextModel",),
        sizes(151936, 4096, 22016, 32, 32, 32, 128000, head_dim=128, attention_bias=False),
        layer({**_QWEN3, "rotary": Rotary(D_HEAD, 500_000.0, **IMAGES)}),
        decoder(rmsnorm()),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
