"""OLMo Hybrid: layers of a gated delta net, and of OLMo 3's attention, which may have no positions."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.delta import CHUNK, key_heads
from archcalc.huggingface.families.llama import ATTENTION, ATTENTION_BIAS, GATED
from archcalc.huggingface.family import QUOTIENT, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, branch
from archcalc.huggingface.layers import FULL
from archcalc.huggingface.leaves import ByLayer, Draft, Flag, Leaf, Made, Size
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said


class _MayTurn(Rotary):
    """A base that is null in the settings turns nothing; where there are no settings the class has a base."""

    def read(self, said: Said) -> dict[str, Any] | None:
        stated = said.value("rope_parameters", counts=False)
        beside = said.config.get("rope_theta", 0)
        if (stated is None or isinstance(stated, dict)) and (stated or {}).get("rope_theta", beside) is None:
            return None
        return super().read(said)

    def write(self, value: Any, draft: Draft) -> None:
        if value is None:
            draft.put("rope_parameters", {"rope_theta": None, "rope_type": "default"})
        super().write(value, draft)


class _Both(Mixed):
    """Transformers' class takes no model with layers of one kind alone."""

    def types(self, said: Said) -> list[str]:
        found = super().types(said)
        if len(set(found)) == 1:
            said.fail("layer_types", "must have both full_attention and linear_attention", found[0])
        return found


def _types(said: Said, n: int) -> list[str]:  # noqa: ARG001  (no key changes it)
    """Each fourth layer is attention; of fewer the last."""
    return [FULL if i % 4 == 3 or (n < 4 and i == n - 1) else RECURRENT for i in range(n)]


def _key_width(said: Said) -> int:
    """Three quarters of what a head would have."""
    found = 3 * said.size("hidden_size") // (4 * _KEY_HEADS.read(said))
    if not found:
        said.fail("hidden_size", "leaves keys of delta nets no features", said.size("hidden_size"))
    return found


_KEY_HEADS = Size("linear_num_key_heads", Size("num_attention_heads"))
_VALUE_HEADS = Size("linear_num_value_heads", Size("num_attention_heads"))
_D_KEY = Size("linear_key_head_dim", Made(_key_width))
_NORM, _SILU = rmsnorm(), {**GATED, "activation": "silu"}
_DELTA = {
    "kind": "gated_delta",
    "n_heads": _VALUE_HEADS,
    "n_groups": Made(
        lambda said: key_heads(said, _KEY_HEADS, _VALUE_HEADS),
        lambda value, draft: draft.put("linear_num_key_heads", value),
    ),
    "d_head": Size("linear_value_head_dim", Made(lambda said: 2 * _D_KEY.read(said))),
    "d_state": _D_KEY,
    "d_conv": Size("linear_conv_kernel_dim"),
    "chunk_size": CHUNK,
    "activation": "silu",
    "norm": {"kind": "rmsnorm", "epsilon": 1e-5},  # whatever rms_norm_eps says
    "norm_over": "head",
    "norm_place": "before",
    "share_scale": Flag("linear_allow_neg_eigval", {True: 2.0, False: None}),
}
_ATTENTION: dict[str, Leaf | Any] = {
    **ATTENTION,
    "d_head": QUOTIENT,
    "rotary": _MayTurn(QUOTIENT),
    "bias": ATTENTION_BIAS,
    "qk_norm": _NORM,
    "qk_norm_over": "width",
}
_DRAWN = ("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor")

_ALL = (
    Family(
        "olmo_hybrid",
        "OlmoHybridConfig",
        ("OlmoHybridForCausalLM", "OlmoHybridModel"),
        without(
            sizes(
                *(100352, 3840, 11008, 32, 30, None, 65536),
                attention_bias=False,
                layer_types=None,
                linear_num_key_heads=None,
                linear_num_value_heads=None,
                linear_key_head_dim=None,
                linear_value_head_dim=None,
                linear_conv_kernel_dim=4,
                linear_allow_neg_eigval=True,
            ),
            *("head_dim", "hidden_act"),
        ),
        ByLayer(
            {
                FULL: {"norm": None, "post_norm": _NORM, "attention": _ATTENTION, "mlp": _SILU},
                RECURRENT: {
                    "branches": [branch("linear_attention", _DELTA, _NORM), branch("mlp", _SILU, _NORM)],
                },
            }
        ),
        decoder(_NORM),
        _Both(_types, {FULL: "attention", RECURRENT: "linear_attention"}),
        only={"hidden_act": (("silu", "swish"), "activations other than silu are not supported in this family")},
        ignored=_DRAWN,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
