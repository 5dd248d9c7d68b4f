"""Mistral and other kin of Llama with windows: in all layers, or in some."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, BIASES, MLP_BIAS, layer
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, WINDOW, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Draft, Made, Mismatch
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_MINISTRAL3 = {
    "rope_type": "yarn",
    "rope_theta": 1_000_000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_CWM = {
    "rope_type": "llama3",
    "rope_theta": 1_000_000.0,
    "factor": 16.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}
_BETA = "llama_4_scaling_beta"
_GROWING = Rotary(D_HEAD, default=_MINISTRAL3, beside=(_BETA,))


def _growth(said: Said) -> dict[str, Any]:
    """Queries grow with their position, in steps of the context that was trained with."""
    rope = _GROWING.settings(said)
    return {"rate": rope.number(_BETA), "interval": rope.original}


def _write_growth(value: Any, draft: Draft) -> None:
    if value is None or draft.get("rope_parameters", {}).get("original_max_position_embeddings") != value["interval"]:
        raise Mismatch("query_growth")
    draft["rope_parameters"][_BETA] = value["rate"]


def _windowed(said: Said, n: int) -> list[str]:
    return [FULL if said.none("sliding_window") else SLIDING] * n


def _mixed(said: Said, n: int) -> list[str]:  # noqa: ARG001  (no key changes it)
    return [SLIDING if i % 4 else FULL for i in range(n)]


_ROTARY, _NONE = "rotary", "without positions"
_ROTATES = "no_rope_layers"


class _Positions(LayerTypes):
    """SmolLM 3: each fourth layer has no positions, and such layers may have a window."""

    def types(self, said: Said) -> list[str]:
        kinds = super().types(said)
        turned = self.turned(said, len(kinds))
        return [f"{kind} {_ROTARY if turns else _NONE}" for kind, turns in zip(kinds, turned, strict=True)]

    def turned(self, said: Said, n: int) -> list[bool]:
        """Which layers have rotary positions."""
        if said.none(_ROTATES):
            step = said.size("no_rope_layer_interval")
            return [bool((i + 1) % step) for i in range(n)]
        found = said.value(_ROTATES, counts=False)
        if not isinstance(found, list) or len(found) != n or any(turns not in (0, 1) for turns in found):
            said.fail(_ROTATES, f"must be a list of 1 or 0 for each of {n:,} layers", found)
        return list(map(bool, found))

    def name(self, layer: str) -> str:
        kind, positions = layer.split(" ", 1)
        words = ["" if positions == _ROTARY else "without_positions", "local" if kind == SLIDING else ""]
        return "_".join(filter(None, words)) or "rotary"

    def candidates(self, layer: Any) -> list[str]:
        attention = layer.get("attention", {})
        kind = FULL if attention.get("window") is None else SLIDING
        return [f"{kind} {_ROTARY if attention.get('rotary') else _NONE}"]

    def write(self, types: list[str], draft: Draft) -> None:
        split = [kind.split(" ", 1) for kind in types]
        super().write([kind for kind, _ in split], draft)
        draft.put(_ROTATES, [int(positions == _ROTARY) for _, positions in split])
        if any(kind == SLIDING for kind, _ in split):
            draft.put("use_sliding_window", value=True)


def _smollm3_types(said: Said, n: int) -> list[str]:
    if not said.flag("use_sliding_window") or said.none("sliding_window"):
        return [FULL] * n
    positions = _Positions(_smollm3_types)
    return [FULL if turns else SLIDING for turns in positions.turned(said, n)]


def _smollm3_rotary(theta: float) -> Made:
    leaf = Rotary(D_HEAD, theta)
    return Made(lambda said: leaf.read(said) if said.layer.endswith(_ROTARY) else None, leaf.write)


def _smollm3_window(said: Said) -> int | None:
    if not said.layer.startswith(SLIDING):
        return None
    if said.none("sliding_window"):
        said.fail("sliding_window", "must be an integer, since layers are of type sliding_attention", None)
    return said.size("sliding_window")


_SMOLLM3 = {
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": None,
    "layer_types": None,
    _ROTATES: None,
    "no_rope_layer_interval": 4,
}
_ALL = (
    Family(
        "mistral",
        "MistralConfig",
        ("MistralForCausalLM", "MistralModel"),
        sizes(32000, 4096, 14336, 32, 32, 8, 131072, sliding_window=4096),
        layer({"window": WINDOW}),
        decoder(rmsnorm()),
    ),
    Family(
        "ministral",
        "MinistralConfig",
        ("MinistralForCausalLM", "MinistralModel"),
        sizes(32000, 4096, 14336, 32, 32, 8, 131072, sliding_window=4096, layer_types=None),
        layer({"window": SLIDING_WINDOW}),
        decoder(rmsnorm()),
        LayerTypes(_windowed),
    ),
    Family(
        "ministral3",
        "Ministral3Config",
        ("Ministral3ForCausalLM", "Ministral3Model"),
        sizes(131072, 4096, 14336, 34, 32, 8, 262144, rms_norm_eps=1e-5, head_dim=128, sliding_window=None),
        layer({"rotary": _GROWING, "query_growth": Made(_growth, _write_growth), "window": WINDOW}),
        decoder(rmsnorm()),
    ),
    Family(
        "cwm",
        "CwmConfig",
        ("CwmForCausalLM", "CwmModel"),
        sizes(
            *(128256, 6144, 21504, 64, 48, 8, 131072),
            rms_norm_eps=1e-5,
            head_dim=128,
            mlp_bias=False,
            sliding_window=8192,
            layer_types=None,
        ),
        layer({"rotary": Rotary(D_HEAD, 1_000_000.0, default=_CWM), "window": SLIDING_WINDOW}, {"bias": MLP_BIAS}),
        decoder(rmsnorm()),
        LayerTypes(_mixed),
    ),
    Family(
        "smollm3",
        "SmolLM3Config",
        ("SmolLM3ForCausalLM", "SmolLM3Model"),
        sizes(
            *(128256, 2048, 11008, 36, 16, 4, 32768),
            **{**BIASES, **_SMOLLM3},
        ),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": _smollm3_rotary(2_000_000.0),
                "window": Made(
                    _smollm3_window, lambda value, draft: None if value is None else draft.put("sliding_window", value)
                ),
            },
            {"bias": MLP_BIAS},
        ),
        decoder(rmsnorm()),
        _Positions(_smollm3_types),
        ignored=("max_window_layers",),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
