"""Mixtures of experts: Mixtral, Qwen2-MoE and Qwen3-MoE, OLMoE, GLM-4.5 and dots.llm1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.huggingface.families.cohere import GRANITE, MULTIPLIERS, SCALED_EMBEDDING, logits_divided, write_divided
from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, QKV, layer
from archcalc.huggingface.family import (
    D_HEAD,
    QUOTIENT,
    SLIDING_WINDOW,
    WINDOW,
    Family,
    decoder,
    rmsnorm,
    sizes,
    without,
)
from archcalc.huggingface.layers import DENSE, FULL, SLIDING, Kinds, LayerTypes, Sparse
from archcalc.huggingface.leaves import (
    Activation,
    Draft,
    Flag,
    Leaf,
    Made,
    Mismatch,
    Number,
    Quotient,
    Size,
    resolve,
    write,
)
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

_TRAINING = ("output_router_logits", "router_aux_loss_coef", "router_jitter_noise")
"""Losses and noise of training, which change no count."""


def _experts(n: str, d_ff: str, router: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Gated experts, of which num_experts_per_tok are chosen."""
    return {
        "kind": "experts",
        "n_experts": Size(n),
        "n_experts_per_token": Size("num_experts_per_tok"),
        "d_ff": Size(d_ff),
        "gated": True,
        "activation": Activation("hidden_act"),
        "router": router,
        **more,
    }


class _ByMixture(Leaf):
    """The MLP of a layer: dense in some layers, experts in the rest."""

    def __init__(self, experts: dict[str, Any]) -> None:
        self.experts = experts

    def _template(self, kind: str) -> dict[str, Any]:
        return GATED if kind.endswith(DENSE) else self.experts

    def read(self, said: Said) -> Any:
        return resolve(self._template(said.layer), said, {})

    def write(self, value: Any, draft: Draft) -> None:
        write(self._template(draft.layer), value, draft)


_ROUNDED = Size("head_dim", Quotient("hidden_size", "num_attention_heads", down=True))
_SOFTMAX = {"scores": "softmax", "normalized": Flag("norm_topk_prob")}


def _by_step(said: Said, n: int) -> list[bool]:
    """Layers without experts: those of a list, and all but each so-many-th."""
    said.value("mlp_only_layers")
    named = [] if said.none("mlp_only_layers") else said.value("mlp_only_layers")
    if not isinstance(named, list) or any(type(i) is not int for i in named):
        said.fail("mlp_only_layers", "must be a list of layers", named)
    step = said.size("decoder_sparse_step", most=MOST_LAYERS)
    return [i in named or (i + 1) % step != 0 for i in range(n)]


def _say_list(dense: list[bool], draft: Draft) -> None:
    draft.put("mlp_only_layers", [i for i, is_dense in enumerate(dense) if is_dense])
    draft.put("decoder_sparse_step", 1)


def _first(said: Said, n: int) -> list[bool]:
    """The first layers have no experts."""
    count = said.size("first_k_dense_replace", least=0)
    return [i < count for i in range(n)]


def _say_first(dense: list[bool], draft: Draft) -> None:
    count = sum(dense)
    if not all(dense[:count]):
        raise Mismatch("mlp")
    draft.put("first_k_dense_replace", count)


def _qwen2_windows(said: Said, n: int) -> list[str]:
    """Every other layer has a window, up to layer max_window_layers, where windows are used at all."""
    if not said.flag("use_sliding_window") or said.none("sliding_window"):
        return [FULL] * n
    last = said.size("max_window_layers", least=0)
    return [SLIDING if (i + 1) % 2 and i < last else FULL for i in range(n)]


def _dots_windows(said: Said, n: int) -> list[str]:
    if said.none("sliding_window"):
        return [FULL] * n
    first = said.size("max_window_layers", least=0)
    return [SLIDING if i >= first else FULL for i in range(n)]


class _Used(LayerTypes):
    """Types whose windows hold only where the config says that they are used."""

    def write(self, types: list[str], draft: Draft) -> None:
        super().write(types, draft)
        if SLIDING in types:
            draft.put("use_sliding_window", value=True)


def _window_where_used(said: Said) -> int | None:
    if not said.flag("use_sliding_window"):
        return None
    read: int | None = WINDOW.read(said)
    return read


def _say_window(value: Any, draft: Draft) -> None:
    draft.put("use_sliding_window", value is not None)
    draft.put("sliding_window", value)


_USED_WINDOW = Made(_window_where_used, _say_window)


def _groups(key: str) -> Leaf:
    """Groups of experts; one is none."""

    def read(said: Said) -> int | None:
        if said.none(key) or said.none("n_group"):
            said.value(key)
            return None
        count = said.size(key)
        return count if said.size("n_group") > 1 else None

    return Made(read, lambda value, draft: draft.put(key, 1 if value is None else value))


def _groups_share(said: Said) -> None:
    """Groups are of two experts at least, whose best two say how good they are."""
    groups = 1 if said.none("n_group") else said.size("n_group")
    experts = said.size("n_routed_experts")
    if experts % groups or experts < 2 * groups:
        said.fail("n_group", f"must divide n_routed_experts ({experts:,}) into groups of at least 2", groups)


_BALANCED = {
    "scores": "sigmoid",
    "normalized": Flag("norm_topk_prob"),
    "correction": True,
    "scale": Number("routed_scaling_factor", neutral=1.0),
}


def _shared_d_ff(said: Said) -> int:
    return said.size("n_shared_experts") * said.size("moe_intermediate_size")


def _say_shared(value: Any, draft: Draft) -> None:
    one = draft.get("moe_intermediate_size", 1)
    if value is None or value % one:
        raise Mismatch("mlp.shared.d_ff")
    draft.put("n_shared_experts", value // one)


_ALWAYS = {**GATED, "d_ff": Made(_shared_d_ff, _say_shared)}
_GROUPED = {"n_groups": _groups("n_group"), "n_groups_chosen": _groups("topk_group")}
_DEEPSEEK = _ByMixture(_experts("n_routed_experts", "moe_intermediate_size", _BALANCED, **_GROUPED, shared=_ALWAYS))
_QWEN2 = _experts(
    *("num_experts", "moe_intermediate_size", _SOFTMAX),
    shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
    shared_gate=True,
)
_QWEN3 = _experts("num_experts", "moe_intermediate_size", _SOFTMAX)
_GRANITES = {key: value for key, value in MULTIPLIERS.items() if key != "mlp_bias"}
_AFTER = {"scores": "softmax_of_chosen", "normalized": False}


def _granite_shared(said: Said) -> Any:
    """The MLP that all tokens go through; a width of 0 is none."""
    if said.size("shared_intermediate_size", least=0) == 0:
        return None
    return resolve({**GATED, "d_ff": Size("shared_intermediate_size")}, said, {})


def _say_granite_shared(value: Any, draft: Draft) -> None:
    draft.put("shared_intermediate_size", 0 if value is None else value["d_ff"])


_GRANITE_SHARED = Made(_granite_shared, _say_granite_shared)
_MOE: dict[str, Any] = {
    "moe_intermediate_size": 1408,
    "num_experts_per_tok": 8,
    "norm_topk_prob": False,
}
_DEEP: dict[str, Any] = {
    **_MOE,
    "n_shared_experts": 1,
    "n_routed_experts": 128,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "attention_bias": False,
}


def _sparse(attention: Kinds, dense: Callable[[Said, int], list[bool]]) -> Sparse:
    return Sparse(attention, dense, _say_list if dense is _by_step else _say_first)


def _deep_layer(attention: dict[str, Any]) -> dict[str, Any]:
    return {**layer(attention), "mlp": _DEEPSEEK}


_ALL = (
    Family(
        "mixtral",
        "MixtralConfig",
        ("MixtralForCausalLM", "MixtralModel"),
        sizes(
            *(32000, 4096, 14336, 32, 32, 8, 131072),
            rms_norm_eps=1e-5,
            sliding_window=None,
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
        {
            **layer({"rotary": Rotary(D_HEAD, 1_000_000.0), "window": WINDOW}),
            "mlp": _experts("num_local_experts", "intermediate_size", {"scores": "softmax", "normalized": True}),
        },
        decoder(rmsnorm()),
        aliases={"num_local_experts": ("num_experts",)},
        ignored=_TRAINING,
    ),
    Family(
        "qwen2_moe",
        "Qwen2MoeConfig",
        ("Qwen2MoeForCausalLM", "Qwen2MoeModel"),
        without(
            sizes(
                *(151936, 2048, 5632, 24, 16, 16, 32768),
                **_MOE,
                num_experts=60,
                shared_expert_intermediate_size=5632,
                qkv_bias=True,
                decoder_sparse_step=1,
                mlp_only_layers=None,
                layer_types=None,
                use_sliding_window=False,
                sliding_window=4096,
                max_window_layers=28,
            )
            | {"num_experts_per_tok": 4},
            "head_dim",
        ),
        {
            **layer(
                {
                    "d_head": QUOTIENT,
                    "rotary": Rotary(QUOTIENT),
                    "bias": Flag("qkv_bias", {True: QKV, False: False}),
                    "window": SLIDING_WINDOW,
                }
            ),
            "mlp": _ByMixture(_QWEN2),
        },
        decoder(rmsnorm()),
        _sparse(_Used(_qwen2_windows), _by_step),
        ignored=_TRAINING,
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeConfig",
        ("Qwen3MoeForCausalLM", "Qwen3MoeModel"),
        sizes(
            *(151936, 2048, 6144, 24, 32, 4, 32768),
            **_MOE,
            num_experts=128,
            decoder_sparse_step=1,
            mlp_only_layers=None,
            attention_bias=False,
            use_sliding_window=False,
            sliding_window=4096,
        )
        | {"moe_intermediate_size": 768},
        {
            **layer({"bias": ATTENTION_BIAS, "qk_norm": rmsnorm(), "window": _USED_WINDOW}),
            "mlp": _ByMixture(_QWEN3),
        },
        decoder(rmsnorm()),
        _sparse(Kinds(), _by_step),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=(*_TRAINING, "max_window_layers"),
    ),
    Family(
        "olmoe",
        "OlmoeConfig",
        ("OlmoeForCausalLM", "OlmoeModel"),
        sizes(
            *(50304, 2048, 2048, 16, 16, None, 4096),
            rms_norm_eps=1e-5,
            attention_bias=False,
            num_experts_per_tok=8,
            num_experts=64,
            norm_topk_prob=False,
        ),
        {
            **layer({"bias": ATTENTION_BIAS, "qk_norm": rmsnorm(), "qk_norm_over": "width"}),
            "mlp": _experts("num_experts", "intermediate_size", _SOFTMAX),
        },
        decoder(rmsnorm()),
        aliases={"num_experts": ("num_local_experts",)},
        only={"clip_qkv": ((None,), "queries and keys that are clipped after their norms are not supported yet")},
        ignored=_TRAINING,
    ),
    Family(
        "glm4_moe",
        "Glm4MoeConfig",
        ("Glm4MoeForCausalLM", "Glm4MoeModel"),
        sizes(
            *(151552, 4096, 10944, 46, 96, 8, 131072),
            **_DEEP,
            rms_norm_eps=1e-5,
            use_qk_norm=False,
        )
        | {"norm_topk_prob": True},
        _deep_layer(
            {
                "bias": Flag("attention_bias", {True: QKV, False: False}),
                "d_head": _ROUNDED,
                "rotary": Rotary(_ROUNDED, partial=0.5),
                "qk_norm": Flag("use_qk_norm", {True: rmsnorm(), False: None}),
            }
        ),
        decoder(rmsnorm()),
        _sparse(Kinds(), _first),
        ignored=(*_TRAINING, "num_nextn_predict_layers", "num_mtp_layers"),
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(_groups_share,),
    ),
    Family(
        "dots1",
        "Dots1Config",
        ("Dots1ForCausalLM", "Dots1Model"),
        sizes(
            *(152064, 4608, 10944, 62, 32, 32, 2048),
            **_DEEP,
            sliding_window=4096,
            max_window_layers=62,
            layer_types=None,
        )
        | {
            "first_k_dense_replace": 0,
            "n_routed_experts": None,
            "n_shared_experts": None,
            "num_experts_per_tok": None,
        },
        _deep_layer({"bias": ATTENTION_BIAS, "qk_norm": rmsnorm(), "window": SLIDING_WINDOW}),
        decoder(rmsnorm()),
        _sparse(LayerTypes(_dots_windows), _first),
        ignored=_TRAINING,
        aliases={"n_routed_experts": ("num_local_experts",)},
        checks=(_groups_share,),
    ),
    Family(
        "minimax_m2",
        "MiniMaxM2Config",
        ("MiniMaxM2ForCausalLM", "MiniMaxM2Model"),
        sizes(*(200064, 3072, 1536, 62, 48, 8, 196608), num_local_experts=256, num_experts_per_tok=8)
        | {"head_dim": 128},
        {
            **layer(
                {
                    "rotary": Rotary(D_HEAD, 5_000_000.0, partial=1.0, default=None),
                    "qk_norm": rmsnorm(),
                    "qk_norm_over": "width",
                }
            ),
            "mlp": _experts(
                *("num_local_experts", "intermediate_size"),
                {"scores": "sigmoid", "normalized": True, "correction": True},
            ),
        },
        decoder(rmsnorm()),
        aliases={"num_local_experts": ("num_experts",)},
        only={
            "scoring_func": (("sigmoid",), "scores that are not sigmoids are not supported in this family"),
            "use_qk_norm": ((True,), "this family norms queries and keys"),
            "qk_norm_type": (("per_layer",), "this family norms all heads together"),
            "use_routing_bias": ((True,), "this family has a correction of its scores"),
            "shared_intermediate_size": ((0,), "this family has no shared experts"),
        },
        ignored=(*_TRAINING, "rotary_dim", "attn_type_list", "mtp_transformer_layers", "num_mtp_modules", "use_mtp"),
    ),
    Family(
        "flex_olmo",
        "FlexOlmoConfig",
        ("FlexOlmoForCausalLM", "FlexOlmoModel"),
        sizes(
            *(100352, 4096, 11008, 32, 32, None, 4096),
            attention_bias=False,
            num_experts_per_tok=5,
            num_experts=7,
            norm_topk_prob=False,
        ),
        {
            **layer(
                {
                    "bias": ATTENTION_BIAS,
                    "rotary": Rotary(D_HEAD, 500_000.0),
                    "qk_norm": rmsnorm(),
                    "qk_norm_over": "width",
                },
                norm=None,
                post_norm=rmsnorm(),
            ),
            "mlp": _experts("num_experts", "intermediate_size", _SOFTMAX),
        },
        decoder(rmsnorm()),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=_TRAINING,
    ),
    *(
        Family(
            *(name, f"GraniteMoe{shared}Config", (f"GraniteMoe{shared}ForCausalLM", f"GraniteMoe{shared}Model")),
            sizes(
                *(32000, 4096, 11008, 32, 32, None, 2048),
                **{**_GRANITES, "num_local_experts": 8, "num_experts_per_tok": 2, **more},
            ),
            {
                **{key: value for key, value in GRANITE.items() if key != "mlp"},
                "attention": {**GRANITE["attention"], "bias": ATTENTION_BIAS},
                "mlp": _experts("num_local_experts", "intermediate_size", _AFTER, **shared_mlp),
            },
            decoder(
                rmsnorm(),
                embedding=SCALED_EMBEDDING,
                unembedding={"scale": Made(logits_divided, write_divided)},
            ),
            ignored=_TRAINING,
        )
        for name, shared, more, shared_mlp in (
            ("granitemoe", "", {}, {}),
            ("granitemoeshared", "Shared", {"shared_intermediate_size": 0}, {"shared": _GRANITE_SHARED}),
        )
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
