"""Layers whose attention and Mamba-2 read one norm side by side, with multipliers on the way: Falcon-H1."""

from __future__ import annotations

import math
from typing import Any

from archcalc.huggingface.families.convolving import MAMBA2_SIZES, NO_LIMIT
from archcalc.huggingface.families.hybrids import divided, mamba2
from archcalc.huggingface.families.llama import ATTENTION, ATTENTION_BIAS, GATED, MLP_BIAS
from archcalc.huggingface.family import D_HEAD, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.hybrid import branch
from archcalc.huggingface.leaves import Draft, Flag, Leaf, Made, Mismatch, Number, Size
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said


class OneOf(Leaf):
    """One number of a list; all are 1 where it is null."""

    def __init__(self, key: str, i: int, count: int) -> None:
        self.key, self.i, self.count = key, i, count

    def read(self, said: Said) -> float | None:
        found = said.value(self.key, counts=False)
        if found is None:
            return None
        if not isinstance(found, list) or len(found) != self.count:
            said.fail(self.key, f"must be a list of {self.count} numbers", found)
        value = said.as_number(found[self.i], self.key, f"{self.key}[{self.i}]")
        return None if value == 1 else value

    def write(self, value: Any, draft: Draft) -> None:
        numbers = draft.setdefault(self.key, [None] * self.count)
        value = 1.0 if value is None else value
        if numbers[self.i] not in (None, value):
            raise Mismatch(self.key)
        numbers[self.i] = value


def _inner(said: Said) -> int:
    if not said.none("mamba_d_ssm"):
        return said.size("mamba_d_ssm")
    said.value("mamba_d_ssm")
    return said.size("mamba_expand") * said.size("hidden_size")


def _d_head(said: Said) -> int:
    inner, heads = _inner(said), said.size("mamba_n_heads")
    own = said.value("mamba_d_head")
    d_head = inner // heads if own == "auto" else said.size("mamba_d_head")
    if d_head * heads != inner:
        what = f"x mamba_d_head must be mamba_d_ssm, or mamba_expand x hidden_size ({inner:,})"
        said.fail("mamba_n_heads", what, heads)
    return d_head


def _say_d_head(value: Any, draft: Draft) -> None:
    draft.put("mamba_d_head", value)
    draft.put("mamba_d_ssm", (value or 0) * (draft["mamba_n_heads"] or 0))


def _bias(said: Said) -> bool:
    bias = said.flag("mamba_proj_bias")
    if bias != said.flag("projectors_bias"):
        what = "must be as mamba_proj_bias: biases of projections on one side are not supported yet"
        said.fail("projectors_bias", what, said.value("projectors_bias"))
    return bias


def _say_bias(value: Any, draft: Draft) -> None:
    draft.put("mamba_proj_bias", value)
    draft.put("projectors_bias", value)


def _norm_place(said: Said) -> str | None:
    if not said.flag("mamba_rms_norm"):
        said.value("mamba_norm_before_gate")
        return None
    return "before" if said.flag("mamba_norm_before_gate") else None


def _say_norm_place(value: Any, draft: Draft) -> None:
    draft.put("mamba_norm_before_gate", value == "before")


def _key_scale(said: Said) -> float | None:
    """Keys times a number are scores times that number."""
    value = said.number("key_multiplier")
    return None if value == 1 else value * D_HEAD.read(said) ** -0.5


def _say_key_scale(value: Any, draft: Draft) -> None:
    usual = draft.d_head**-0.5
    key = 1.0 if value is None else value / usual
    near = (key, math.nextafter(key, math.inf), math.nextafter(key, 0.0))
    draft.put("key_multiplier", next((one for one in near if value is None or one * usual == value), key))


_ZONES = ("gate", "value", "key", "query", "step")
_MAMBA = mamba2(
    Size("mamba_n_heads"),
    Made(_d_head, _say_d_head),
    Size("mamba_d_state"),
    n_groups=divided("mamba_n_groups", "mamba_n_heads"),
    d_conv=Size("mamba_d_conv"),
    chunk_size=Size("mamba_chunk_size"),
    bias=Made(_bias, _say_bias),
    conv_bias=Flag("mamba_conv_bias"),
    norm=Flag("mamba_rms_norm", {True: rmsnorm(), False: None}),
    norm_place=Made(_norm_place, _say_norm_place),
    **{f"{name}_scale": OneOf("ssm_multipliers", i, 5) for i, name in enumerate(_ZONES)},
)
_ATTENTION = {
    **ATTENTION,
    "bias": ATTENTION_BIAS,
    "rotary": Rotary(D_HEAD),
    "scale": Made(_key_scale, _say_key_scale),
}
_MLP = {**GATED, "bias": MLP_BIAS, "gate_scale": OneOf("mlp_multipliers", 0, 2)}
_LAYER = {
    "branches": [
        {
            **branch("mamba2", _MAMBA, rmsnorm()),
            "input_scale": Number("ssm_in_multiplier", 1.0),
            "scale": Number("ssm_out_multiplier", 1.0),
        },
        {
            **branch("attention", _ATTENTION, "shared"),
            "input_scale": Number("attention_in_multiplier", 1.0),
            "scale": Number("attention_out_multiplier", 1.0),
        },
        {**branch("mlp", _MLP, rmsnorm()), "scale": OneOf("mlp_multipliers", 1, 2)},
    ]
}
_MULTIPLIERS = dict.fromkeys(
    (
        *("embedding_multiplier", "lm_head_multiplier", "key_multiplier"),
        *("attention_in_multiplier", "attention_out_multiplier", "ssm_in_multiplier", "ssm_out_multiplier"),
    ),
    1.0,
)

_ALL = (
    Family(
        "falcon_h1",
        "FalconH1Config",
        ("FalconH1ForCausalLM", "FalconH1Model"),
        sizes(
            *(128000, 4096, 14336, 32, 32, 8, 8192),
            **_MULTIPLIERS,
            rms_norm_eps=1e-5,
            mlp_multipliers=None,
            ssm_multipliers=None,
            mamba_d_ssm=1024,
            **MAMBA2_SIZES,
            projectors_bias=False,
            mamba_norm_before_gate=True,
            mamba_rms_norm=False,
            attention_bias=False,
            mlp_bias=False,
        ),
        _LAYER,
        decoder(
            rmsnorm(),
            embedding={"scale": Number("embedding_multiplier", 1.0)},
            unembedding={"scale": Number("lm_head_multiplier", 1.0)},
        ),
        only={
            "time_step_limit": NO_LIMIT,
            "mamba_use_mlp": ((True,), "layers without MLPs are not supported in this family"),
            "attn_layer_indices": ((None,), "layers without attention are not supported in this family"),
        },
        ignored=("num_logits_to_keep", "layers_block_type", "mlp_expansion_factor"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
