"""OLMo and EXAONE 4: norms without gains (1), or norms of what each branch made (2, 3, EXAONE 4)."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, layer
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import ByLayer, Draft, Made, Number
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

_NORM = {"kind": "layernorm", "bias": False, "gain": False, "epsilon": 1e-5}
_POST: dict[str, Any] = {"norm": None, "post_norm": rmsnorm()}
_QK = {"qk_norm": rmsnorm(), "qk_norm_over": "width"}
_OLMO = {"attention_bias": False, "rms_norm_eps": 1e-5}
_PATTERN = "sliding_window_pattern"


def _three_of_four(said: Said, n: int) -> list[str]:  # noqa: ARG001  (no key changes it)
    return [SLIDING if (i + 1) % 4 else FULL for i in range(n)]


def exaone_types(said: Said, n: int) -> list[str]:
    """A period, or a pattern in letters: "LLLG"."""
    if said.none("sliding_window") or said.none(_PATTERN):
        said.value(_PATTERN, counts=False)
        return [FULL] * n
    pattern = said.value(_PATTERN)
    if not isinstance(pattern, str):
        step = said.size(_PATTERN, most=MOST_LAYERS)
        return [SLIDING if (i + 1) % step else FULL for i in range(n)]
    if not pattern or set(pattern) - {"L", "G"}:
        said.fail(_PATTERN, "must be a number or letters L and G", pattern)
    return [SLIDING if pattern[i % len(pattern)] == "L" else FULL for i in range(n)]


class ExaoneTypes(LayerTypes):
    """Where no layer has a window but layers have positions, the config has no window."""

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        if SLIDING not in types and "rope_parameters" in draft:
            draft.put("sliding_window", None)


_ROTARY = Rotary(D_HEAD)


def _exaone_rotary(said: Said) -> Any:
    """Layers without a window have no positions either, where others have one."""
    turns = said.layer.startswith(SLIDING) or said.none("sliding_window")
    return _ROTARY.read(said) if turns else None


EXAONE_ROTARY = Made(_exaone_rotary, _ROTARY.write)

_ALL = (
    Family(
        "olmo",
        "OlmoConfig",
        ("OlmoForCausalLM", "OlmoModel"),
        without(sizes(50304, 4096, 11008, 32, 32, None, 2048, attention_bias=False, clip_qkv=None), "rms_norm_eps"),
        layer({"bias": ATTENTION_BIAS, "clip": Number("clip_qkv", optional=True)}, norm=_NORM),
        decoder(_NORM),
    ),
    Family(
        "olmo2",
        "Olmo2Config",
        ("Olmo2ForCausalLM", "Olmo2Model"),
        sizes(50304, 4096, 11008, 32, 32, None, 2048, **_OLMO),
        layer({"bias": ATTENTION_BIAS, **_QK}, **_POST),
        decoder(rmsnorm()),
    ),
    Family(
        "olmo3",
        "Olmo3Config",
        ("Olmo3ForCausalLM", "Olmo3Model"),
        sizes(50304, 4096, 11008, 32, 32, None, 2048, **_OLMO, sliding_window=4096, layer_types=None),
        layer(
            {
                "bias": ATTENTION_BIAS,
                "rotary": ByLayer(
                    {
                        FULL: Rotary(D_HEAD, 500_000.0, nested=True),
                        SLIDING: Rotary(D_HEAD, 500_000.0, theta_key="", nested=True, scales=False),
                    }
                ),
                **_QK,
                "window": SLIDING_WINDOW,
            },
            **_POST,
        ),
        decoder(rmsnorm()),
        LayerTypes(_three_of_four),
    ),
    Family(
        "exaone4",
        "Exaone4Config",
        ("Exaone4ForCausalLM", "Exaone4Model"),
        sizes(
            *(102400, 4096, 16384, 32, 32, 32, 2048),
            rms_norm_eps=1e-5,
            sliding_window=4096,
            sliding_window_pattern=4,
            layer_types=None,
        ),
        layer(
            {
                "rotary": EXAONE_ROTARY,
                "qk_norm": rmsnorm(),
                "window": SLIDING_WINDOW,
            },
            **_POST,
        ),
        decoder(rmsnorm()),
        ExaoneTypes(exaone_types),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
