"""Cohere's mixtures: layers without positions, shared experts that may be averaged in, two kinds of norms."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.cohere import COHERE, COHERE_NORM
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, layer
from archcalc.huggingface.families.mixtures import (
    TRAINING,
    ByMixture,
    by_types,
    experts,
    say_types,
    shared_of,
)
from archcalc.huggingface.family import (
    D_HEAD,
    SLIDING_WINDOW,
    Family,
    rmsnorm,
    sizes,
)
from archcalc.huggingface.layers import DENSE, FULL, SLIDING, LayerTypes, Sparse
from archcalc.huggingface.leaves import Draft, Leaf, Made, Mismatch, inside, write
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said


class _CohereTypes(LayerTypes):
    """Windows in all but each so-many-th layer; the first ones, without experts, have a period of their own."""

    def __init__(self) -> None:
        super().__init__(self._periods)

    @staticmethod
    def _periods(said: Said, n: int) -> list[str]:
        dense = min(_first_dense(said), n)
        steps = [said.size(key, most=MOST_LAYERS) for key in ("prefix_dense_sliding_window_pattern", _STEP)]
        return [
            SLIDING if (i + 1) % step else FULL
            for count, step in ((dense, steps[0]), (n - dense, steps[1]))
            for i in range(count)
        ]


_STEP = "sliding_window_pattern"


def _first_dense(said: Said) -> int:
    return 0 if said.none("first_k_dense_replace") else said.size("first_k_dense_replace", least=0)


def _cohere_first(said: Said, n: int) -> list[bool]:
    count = _first_dense(said)
    return [i < count for i in range(n)]


class _Rotary(Rotary):
    """Whose own mapping rules, whatever stands beside it: transformers writes the default base there."""

    def _beside(self, said: Said, name: str) -> Any:  # noqa: ARG002
        return None


_COHERE_ROTARY = _Rotary(D_HEAD, pairing="neighbours")


def _cohere_rotary(said: Said) -> Any:
    """Layers without a window have no positions, but dense ones where none of those has a window."""
    step = said.size("prefix_dense_sliding_window_pattern", most=MOST_LAYERS)
    turns = said.layer.startswith(SLIDING) or (said.layer.endswith(DENSE) and step == 1)
    return _COHERE_ROTARY.read(said) if turns else None


def _say_cohere_rotary(value: Any, draft: Draft) -> None:
    if not draft.layer.startswith(SLIDING) and draft.layer.endswith(DENSE):
        draft.put("prefix_dense_sliding_window_pattern", 4 if value is None else 1)
    _COHERE_ROTARY.write(value, draft)


class _CohereNorm(Leaf):
    """RMSNorm where its epsilon is said, else LayerNorm without a bias."""

    def read(self, said: Said) -> Any:
        rms = not said.none("rms_norm_eps")
        return inside(rmsnorm() if rms else COHERE_NORM, said)

    def write(self, value: Any, draft: Draft) -> None:
        rms = isinstance(value, dict) and value.get("kind") == "rmsnorm"
        write(rmsnorm() if rms else COHERE_NORM, value, draft)
        if not rms:
            draft.put("rms_norm_eps", None)


class _CohereRouter(Leaf):
    """Of the chosen experts' scores the softmax, or the sigmoid of each, which may be divided by their sum."""

    def read(self, said: Said) -> Any:
        kind = said.value("expert_selection_fn")
        if kind not in ("softmax", "sigmoid"):
            said.fail("expert_selection_fn", "must be softmax or sigmoid", kind)
        if kind == "softmax":
            return {"scores": "softmax_of_chosen", "normalized": False}
        return {"scores": "sigmoid_of_chosen", "normalized": said.flag("norm_topk_prob")}

    def write(self, value: Any, draft: Draft) -> None:
        for kind, scores in (("softmax", "softmax_of_chosen"), ("sigmoid", "sigmoid_of_chosen")):
            if value.get("scores") == scores and set(value) == {"scores", "normalized"}:
                draft.put("expert_selection_fn", kind)
                if kind == "sigmoid":
                    draft.put("norm_topk_prob", value["normalized"])
                return
        raise Mismatch("mlp.router")


def _averaged(said: Said) -> bool | None:
    if said.size("num_shared_experts", least=0) == 0:
        return None
    how = said.value("shared_expert_combination_strategy")
    if how not in ("sum", "average"):
        said.fail("shared_expert_combination_strategy", "must be sum or average", how)
    return True if how == "average" else None


def _cohere_dense(said: Said) -> int:
    key = "prefix_dense_intermediate_size"
    if said.none(key):
        said.value(key)
        return said.size("intermediate_size")
    return said.size(key)


_COHERE_MOE = experts(
    *("num_experts", "intermediate_size", _CohereRouter()),
    shared=shared_of("num_shared_experts", "intermediate_size"),
    shared_average=Made(
        _averaged, lambda value, draft: draft.put("shared_expert_combination_strategy", "average" if value else "sum")
    ),
)
_COHERE_DENSE = {
    **GATED,
    "d_ff": Made(_cohere_dense, lambda value, draft: draft.put("prefix_dense_intermediate_size", value)),
}
_ALL = (
    Family(
        "cohere2_moe",
        "Cohere2MoeConfig",
        ("Cohere2MoeForCausalLM", "Cohere2MoeModel"),
        {
            **sizes(256000, 8192, 22528, 40, 64, None, 8192, tie_word_embeddings=True, attention_bias=False),
            "head_dim": 128,
            "rope_theta": 10000.0,
            "layer_norm_eps": 1e-5,
            "rms_norm_eps": None,
            "logit_scale": 0.0625,
            "sliding_window": 4096,
            "layer_types": None,
            "mlp_layer_types": None,
            "first_k_dense_replace": None,
            "sliding_window_pattern": 4,
            "prefix_dense_sliding_window_pattern": 1,
            "prefix_dense_intermediate_size": None,
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "num_shared_experts": 0,
            "shared_expert_combination_strategy": "average",
            "expert_selection_fn": "softmax",
            "norm_topk_prob": True,
        },
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": Made(_cohere_rotary, _say_cohere_rotary),
                    "window": SLIDING_WINDOW,
                },
                norm=_CohereNorm(),
                parallel="shared",
            ),
            "mlp": ByMixture(_COHERE_MOE, _COHERE_DENSE),
        },
        {**COHERE, "final_norm": _CohereNorm()},
        Sparse(_CohereTypes(), by_types(_cohere_first), say_types),
        aliases={"num_experts": ("num_local_experts",), _STEP: ("_sliding_window_pattern",)},
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
