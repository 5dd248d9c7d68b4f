"""Granite with windows, sinks, and an angle base for each layer, dense or with experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.cohere import AFTER, EMBEDDING, GRANITE, GRANITE_SHARED, LOGITS, MULTIPLIERS
from archcalc.huggingface.families.llama import ATTENTION_BIAS
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Draft, Made, attention_of
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_THETAS = "layer_rope_theta"
_LARGEST_THETA = 1e15
_ALONE = "="
"""Before a base that all layers of a type have, so that it needs no place in their name."""


class _Types(LayerTypes):
    """Types of attention with the base of the angles behind a slash, 0 for no positions; nothing where no base is."""

    def __init__(self) -> None:
        super().__init__(lambda _, n: [SLIDING if i % 4 else FULL for i in range(n)])

    def types(self, said: Said) -> list[str]:
        types = super().types(said)
        thetas = said.value(_THETAS, counts=False)
        if thetas is None:
            return types
        known = isinstance(thetas, list) and all(
            type(one) in (int, float) and 0 <= one <= _LARGEST_THETA for one in thetas
        )
        if not known or len(thetas) != len(types):
            said.fail(_THETAS, f"must be a list with a number for each of {len(types):,} layers", thetas)
        pairs = list(zip(types, map(float, thetas), strict=True))
        alone = len(set(pairs)) == len(set(types))
        return [f"{kind}/{_ALONE * alone}{theta!r}" for kind, theta in pairs]

    def name(self, layer: str) -> str:
        kind, _, theta = layer.partition("/")
        if not theta or theta.startswith(_ALONE):
            return self.names[kind]
        return self.names[kind] + (f"_{float(theta):.0f}" if float(theta) else "_nope")

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        rotary = layer.get("attention", {}).get("rotary")
        theta = 0.0 if rotary is None else float(rotary["theta"])
        return [f"{kind}/{theta!r}" for kind in super().candidates(layer)]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write([attention_of(kind) for kind in types], draft)
        draft.put(_THETAS, [float(kind.partition("/")[2]) for kind in types])


_ROTARY = Rotary(D_HEAD)


def _rotary(said: Said) -> Any:
    theta = said.layer.partition("/")[2].lstrip(_ALONE)
    if theta and not float(theta):
        return None
    found = _ROTARY.read(said)
    return {**found, "theta": float(theta)} if theta and found else found


def _say_rotary(value: Any, draft: Draft) -> None:
    if value is not None:
        _ROTARY.write({**value, "theta": 10_000.0}, draft)


_ATTENTION = {
    **GRANITE["attention"],
    "rotary": Made(_rotary, _say_rotary),
    "window": SLIDING_WINDOW,
    "sinks": True,
}
_WINDOWS: dict[str, Any] = {"sliding_window": 128, "layer_types": None, _THETAS: None}
_DECODER = decoder(rmsnorm(), embedding=EMBEDDING, unembedding={"scale": LOGITS})

_ALL = (
    Family(
        "granite_swa",
        "GraniteSWAConfig",
        ("GraniteSWAForCausalLM", "GraniteSWAModel"),
        sizes(
            *(100352, 2560, 8192, 24, 20, 4, 8192),
            **MULTIPLIERS,
            **_WINDOWS,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
        ),
        {**GRANITE, "attention": _ATTENTION},
        _DECODER,
        _Types(),
    ),
    Family(
        "granitemoe_swa",
        "GraniteMoeSWAConfig",
        ("GraniteMoeSWAForCausalLM", "GraniteMoeSWAModel"),
        sizes(
            *(32000, 4096, 11008, 32, 32, None, 2048),
            **without(MULTIPLIERS, "mlp_bias"),
            **_WINDOWS,
            num_local_experts=8,
            num_experts_per_tok=2,
            shared_intermediate_size=0,
        ),
        {
            **GRANITE,
            "attention": {**_ATTENTION, "bias": ATTENTION_BIAS},
            "mlp": experts("num_local_experts", "intermediate_size", AFTER, shared=GRANITE_SHARED),
        },
        _DECODER,
        _Types(),
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
