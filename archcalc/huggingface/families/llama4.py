"""Llama 4: layers in chunks with rotary positions and layers without either, experts whose input is weighed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, layer
from archcalc.huggingface.families.mixtures import TRAINING, ByMixture, experts
from archcalc.huggingface.family import D_HEAD, Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import DENSE, FULL, Kinds
from archcalc.huggingface.leaves import Draft, Made, Mismatch, Number, Size, attention_of, inside, write
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

_CHUNKED, _NOPE = "chunked_attention", "/nope"
_TURNS = "no_rope_layers"  # where that says 1 there are rotary positions


class _Types(Kinds):
    """Chunks or none, rotary positions or none, experts or none."""

    def types(self, said: Said) -> list[str]:
        n = said.size(self.count, most=MOST_LAYERS)
        turns, dense = self._turns(said, n), self._dense(said, n)
        chunked = self._chunked(said, turns)
        return [(_CHUNKED if chunked[i] else FULL) + _NOPE * (not turns[i]) + DENSE * dense[i] for i in range(n)]

    @staticmethod
    def _turns(said: Said, n: int) -> list[bool]:
        found = said.value(_TURNS, counts=False)
        if not found:
            step = said.size("no_rope_layer_interval", most=MOST_LAYERS)
            return [(i + 1) % step != 0 for i in range(n)]
        if not isinstance(found, list) or len(found) != n or any(one not in (0, 1) for one in found):
            said.fail(_TURNS, f"must be a list with 0 or 1 for each of {n:,} layers", found)
        return [bool(one) for one in found]

    @staticmethod
    def _dense(said: Said, n: int) -> list[bool]:
        found = said.value("moe_layers", counts=False)
        if found is None:
            step = said.size("interleave_moe_layer_step", most=MOST_LAYERS)
            return [(i + 1) % step != 0 for i in range(n)]
        if not isinstance(found, list) or any(type(one) is not int for one in found):
            said.fail("moe_layers", "must be a list of layers", found)
        return [i not in found for i in range(n)]

    @staticmethod
    def _chunked(said: Said, turns: list[bool]) -> list[bool]:
        found = said.value("layer_types", counts=False)
        if found is None:
            return [one and not said.none("attention_chunk_size") for one in turns]
        if (
            not isinstance(found, list)
            or len(found) != len(turns)
            or any(one not in (_CHUNKED, FULL) for one in found)
        ):
            said.fail("layer_types", f"must be a list with {_CHUNKED} or {FULL} for each layer", found)
        return [one == _CHUNKED for one in found]

    def name(self, layer: str) -> str:
        words = {_CHUNKED: "chunked", FULL: "full"}[attention_of(layer)]
        return words + "_nope" * (_NOPE in layer) + "_dense" * layer.endswith(DENSE)

    def candidates(self, layer: Mapping[str, Any]) -> list[str]:
        attention = layer.get("attention", {})
        kind = FULL if attention.get("chunk") is None else _CHUNKED
        dense = layer.get("mlp", {}).get("kind") != "experts"
        return [kind + _NOPE * (attention.get("rotary") is None) + DENSE * dense]

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        draft.put("layer_types", [attention_of(kind) for kind in types])
        draft.put(_TURNS, [int(_NOPE not in kind) for kind in types])
        draft.put("moe_layers", [i for i, kind in enumerate(types) if not kind.endswith(DENSE)])
        if not any(draft[_TURNS]):  # a list of zeros is read as such, but an empty one is not
            draft.put("no_rope_layer_interval", 1)


_ROTARY = Rotary(D_HEAD, 500_000.0, pairing="neighbours")
_NORM = rmsnorm(gain=False)


def _rotary(said: Said) -> Any:
    return None if _NOPE in said.layer else _ROTARY.read(said)


def _chunk(said: Said) -> int | None:
    if not said.layer.startswith(_CHUNKED):
        return None
    if said.none("attention_chunk_size"):
        said.fail("attention_chunk_size", f"must be an integer, since layers are of type {_CHUNKED}", None)
    return said.size("attention_chunk_size")


def _say_chunk(value: Any, draft: Draft) -> None:
    if value is not None:
        draft.put("attention_chunk_size", value)


def _qk_norm(said: Said) -> Any:
    return inside(_NORM, said) if said.flag("use_qk_norm") and _NOPE not in said.layer else None


def _say_qk_norm(value: Any, draft: Draft) -> None:
    if _NOPE in draft.layer:
        if value is not None:
            raise Mismatch("attention.qk_norm")
        return
    draft.put("use_qk_norm", value is not None)
    if value is not None:
        write(_NORM, value, draft)


def _qk_place(said: Said) -> str | None:
    return "after" if said.flag("use_qk_norm") and _NOPE not in said.layer else None


_GROWTH = {"rate": Number("attn_scale"), "interval": Size("floor_scale"), "first": 1}


def _growth(said: Said) -> Any:
    """Of queries without rotary positions."""
    return inside(_GROWTH, said) if said.flag("attn_temperature_tuning") and _NOPE in said.layer else None


def _say_growth(value: Any, draft: Draft) -> None:
    if _NOPE not in draft.layer:
        if value is not None:
            raise Mismatch("attention.query_growth")
        return
    draft.put("attn_temperature_tuning", value is not None)
    if value is not None:
        write(_GROWTH, value, draft)


_EXPERTS = experts(
    *("num_local_experts", "intermediate_size"),
    {"scores": "sigmoid_of_chosen", "normalized": False, "weighs": "input"},
    shared=GATED,
)
_ALL = (
    Family(
        "llama4_text",
        "Llama4TextConfig",
        ("Llama4ForCausalLM", "Llama4TextModel"),
        {
            **sizes(*(202048, 5120, 8192, 48, 40, 8, 131072), rms_norm_eps=1e-5, attention_bias=False),
            "head_dim": 128,
            "intermediate_size_mlp": 16384,
            "num_local_experts": 16,
            "num_experts_per_tok": 1,
            "moe_layers": None,
            "interleave_moe_layer_step": 1,
            "use_qk_norm": True,
            "no_rope_layers": None,
            "no_rope_layer_interval": 4,
            "attention_chunk_size": 8192,
            "layer_types": None,
            "attn_temperature_tuning": True,
            "floor_scale": 8192,
            "attn_scale": 0.1,
        },
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": Made(_rotary, _ROTARY.write),
                    "qk_norm": Made(_qk_norm, _say_qk_norm),
                    "qk_norm_place": Made(_qk_place),
                    "query_growth": Made(_growth, _say_growth),
                    "chunk": Made(_chunk, _say_chunk),
                }
            ),
            "mlp": ByMixture(_EXPERTS, {**GATED, "d_ff": Size("intermediate_size_mlp")}),
        },
        decoder(rmsnorm()),
        _Types(),
        aliases={"num_local_experts": ("num_experts",)},
        ignored=(*TRAINING, "for_llm_compressor"),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
