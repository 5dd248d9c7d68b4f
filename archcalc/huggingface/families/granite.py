"""Granite with windows, sinks, and an angle base for each layer, dense or with experts; and among Mamba-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.cohere import AFTER, EMBEDDING, GRANITE, GRANITE_SHARED, LOGITS, MULTIPLIERS
from archcalc.huggingface.families.convolving import BAMBA, MAMBA2_SIZES, NO_LIMIT
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED
from archcalc.huggingface.families.mixtures import TRAINING, experts
from archcalc.huggingface.family import D_HEAD, SLIDING_WINDOW, Family, decoder, rmsnorm, sizes, without
from archcalc.huggingface.hybrid import RECURRENT, Mixed, both_kinds
from archcalc.huggingface.layers import FULL, SLIDING, LayerTypes
from archcalc.huggingface.leaves import Draft, Made, Number, Size, attention_of, inside, write
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import Said

_SHARED = "shared_intermediate_size"
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


class _Hybrid(Mixed):
    """Types of layers as they are called today, or in files of IBM's."""

    def types(self, said: Said) -> list[str]:
        return [_OLDER.get(kind, kind) for kind in super().types(said)]

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        return [kind for kind in super().candidates(layer) if kind not in _OLDER]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write([{FULL: "attention", RECURRENT: "mamba"}[kind] for kind in types], draft)


_OLDER = {"attention": FULL, "mamba": RECURRENT}
_MOE = experts("num_local_experts", "intermediate_size", AFTER, shared={**GATED, "d_ff": Size(_SHARED)})
_DENSE = {**GATED, "d_ff": Size(_SHARED)}


def _mixture(said: Said) -> Any:
    """Experts beside an MLP that all tokens go through; of none there is the MLP alone."""
    return inside(_MOE if said.size("num_local_experts", least=0) else _DENSE, said)


def _say_mixture(value: Any, draft: Draft) -> None:
    mixed = value is not None and value["kind"] == "experts"
    write(_MOE if mixed else _DENSE, value, draft)
    if not mixed:
        draft.put("num_local_experts", 0)


def _turned(said: Said) -> Any:
    return _ROTARY.read(said) if said.value("position_embedding_type") == "rope" else None


def _say_turned(value: Any, draft: Draft) -> None:
    draft.put("position_embedding_type", "nope" if value is None else "rope")
    if value is not None:
        _ROTARY.write(value, draft)


_HYBRID_ATTENTION = {**GRANITE["attention"], "bias": ATTENTION_BIAS, "rotary": Made(_turned, _say_turned)}
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
    Family(
        "granitemoehybrid",
        "GraniteMoeHybridConfig",
        ("GraniteMoeHybridForCausalLM", "GraniteMoeHybridModel"),
        sizes(
            *(32000, 4096, 11008, 32, 32, None, 2048),
            **without(MULTIPLIERS, "mlp_bias"),
            num_local_experts=8,
            num_experts_per_tok=2,
            shared_intermediate_size=1024,
            position_embedding_type=None,
            layer_types=None,
            **MAMBA2_SIZES,
        ),
        both_kinds(
            _HYBRID_ATTENTION,
            *(RECURRENT, "mamba2", BAMBA),
            Made(_mixture, _say_mixture),
            rmsnorm(),
            scale=Number("residual_multiplier", 1.0),
        ),
        _DECODER,
        _Hybrid(
            lambda _, n: [RECURRENT] * n,
            {FULL: "attention", RECURRENT: "mamba2", **dict.fromkeys(_OLDER, "")},
        ),
        aliases={"layer_types": ("layers_block_type",)},
        only={
            "time_step_limit": NO_LIMIT,
            "normalization_function": (("rmsnorm",), "must be rmsnorm in this family"),
        },
        ignored=(*TRAINING, "init_method", "mamba_dt_rank"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
