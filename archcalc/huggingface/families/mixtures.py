"""Mixtures of experts by softmax: Mixtral, Qwen2-MoE and Qwen3-MoE, OLMoE, FlexOlmo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, GATED, QKV, layer
from archcalc.huggingface.families.qwen import Windows
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
from archcalc.huggingface.layers import DENSE, FULL, SLIDING, Kinds, Sparse, refuse_unlike
from archcalc.huggingface.leaves import (
    Activation,
    Draft,
    Flag,
    Leaf,
    Made,
    Mismatch,
    Size,
    inside,
    write,
)
from archcalc.huggingface.rope import Rotary
from archcalc.huggingface.said import MOST_LAYERS, Said

TRAINING = ("output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "moe_router_dtype")
"""Losses and noise of training, which change no count."""


def _chosen(n: str, key: str) -> Callable[[Said], int]:
    """How many experts a token goes through, of so many."""

    def read(said: Said) -> int:
        count, most = said.size(key), said.size(n)
        if count > most:
            said.fail(key, f"must be at most {n} ({most:,})", count)
        return count

    return read


def experts(n: str, d_ff: str, router: Any, chosen: str = "num_experts_per_tok", /, **more: Any) -> dict[str, Any]:
    """Gated experts, of which so many are chosen as a key says."""
    return {
        "kind": "experts",
        "n_experts": Size(n),
        "n_experts_per_token": Made(_chosen(n, chosen), lambda value, draft: draft.put(chosen, value)),
        "d_ff": Size(d_ff),
        "gated": True,
        "activation": Activation("hidden_act"),
        "router": router,
        **more,
    }


class ByMixture(Leaf):
    """The MLP of a layer: dense in some layers, experts in the rest."""

    def __init__(self, experts: dict[str, Any], dense: dict[str, Any] = GATED) -> None:
        self.experts, self.dense = experts, dense

    def _template(self, kind: str) -> dict[str, Any]:
        return self.dense if kind.endswith(DENSE) else self.experts

    def read(self, said: Said) -> Any:
        return inside(self._template(said.layer), said)

    def write(self, value: Any, draft: Draft) -> None:
        write(self._template(draft.layer), value, draft)


_TYPES = "mlp_layer_types"


def by_types(otherwise: Callable[[Said, int], list[bool]], listed: str = "") -> Callable[[Said, int], list[bool]]:
    """Layers without experts by a list of "dense" and "sparse"; where there is none, as `otherwise` says.

    `listed` is a key by which other files list the same, for `otherwise`: both must say one thing.
    """

    def read(said: Said, n: int) -> list[bool]:
        if said.none(_TYPES):
            said.value(_TYPES, counts=False)
            return otherwise(said, n)
        found = said.value(_TYPES, counts=False)
        if not isinstance(found, list) or len(found) != n or any(one not in ("dense", "sparse") for one in found):
            said.fail(_TYPES, f'must be a list with "dense" or "sparse" for each of {n:,} layers', found)
        dense = [one == "dense" for one in found]
        if listed and said.says(listed):
            refuse_unlike(said, _TYPES, dense, listed, otherwise(said, n))
        return dense

    return read


def say_types(dense: list[bool], draft: Draft) -> None:
    """Say which layers have no experts in that list."""
    draft.put(_TYPES, ["dense" if one else "sparse" for one in dense])


def shared_of(count: str, d_ff: str, template: dict[str, Any] = GATED) -> Leaf:
    """The MLP that all tokens go through, as wide as so many experts; of none there is none."""

    def read(said: Said) -> Any:
        n = said.size(count, least=0)
        return inside({**template, "d_ff": n * said.size(d_ff)}, said) if n else None

    def say(value: Any, draft: Draft) -> None:
        if value is None:
            draft.put(count, 0)
            return
        times, rest = divmod(value["d_ff"], draft.get(d_ff, 1))
        if rest:
            raise Mismatch("mlp.shared.d_ff")
        write({**template, "d_ff": value["d_ff"]}, value, draft)
        draft.put(count, times)

    return Made(read, say)


_SOFTMAX = {"scores": "softmax", "normalized": Flag("norm_topk_prob")}


def by_step(said: Said, n: int) -> list[bool]:
    """Layers without experts: those of a list, and all but each so-many-th."""
    named = said.value("mlp_only_layers")
    named = [] if named is None else named
    if not isinstance(named, list) or any(type(i) is not int for i in named):
        said.fail("mlp_only_layers", "must be a list of layers", named)
    step = said.size("decoder_sparse_step", most=MOST_LAYERS)
    return [i in named or (i + 1) % step != 0 for i in range(n)]


def say_list(dense: list[bool], draft: Draft) -> None:
    draft.put("mlp_only_layers", [i for i, is_dense in enumerate(dense) if is_dense])
    draft.put("decoder_sparse_step", 1)


def _qwen2_windows(said: Said, n: int) -> list[str]:
    """Every other layer has a window, up to layer max_window_layers, where windows are used at all."""
    if not said.flag("use_sliding_window") or said.none("sliding_window"):
        return [FULL] * n
    last = said.size("max_window_layers", least=0)
    return [SLIDING if (i + 1) % 2 and i < last else FULL for i in range(n)]


def _window_where_used(said: Said) -> int | None:
    if not said.flag("use_sliding_window"):
        return None
    read: int | None = WINDOW.read(said)
    return read


def _say_window(value: Any, draft: Draft) -> None:
    draft.put("use_sliding_window", value is not None)
    draft.put("sliding_window", value)


_USED_WINDOW = Made(_window_where_used, _say_window)
_QWEN2 = experts(
    *("num_experts", "moe_intermediate_size", _SOFTMAX),
    shared={**GATED, "d_ff": Size("shared_expert_intermediate_size")},
    shared_gate=True,
)
_QWEN3 = experts("num_experts", "moe_intermediate_size", _SOFTMAX)
MOE: dict[str, Any] = {"moe_intermediate_size": 1408, "num_experts_per_tok": 8, "norm_topk_prob": False}


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
            "mlp": experts("num_local_experts", "intermediate_size", {"scores": "softmax", "normalized": True}),
        },
        decoder(rmsnorm()),
        aliases={"num_local_experts": ("num_experts",)},
        ignored=TRAINING,
    ),
    Family(
        "qwen2_moe",
        "Qwen2MoeConfig",
        ("Qwen2MoeForCausalLM", "Qwen2MoeModel"),
        without(
            sizes(
                *(151936, 2048, 5632, 24, 16, 16, 32768),
                **MOE,
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
            "mlp": ByMixture(_QWEN2),
        },
        decoder(rmsnorm()),
        Sparse(Windows(_qwen2_windows), by_step, say_list),
        ignored=TRAINING,
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeConfig",
        ("Qwen3MoeForCausalLM", "Qwen3MoeModel"),
        sizes(
            *(151936, 2048, 6144, 24, 32, 4, 32768),
            **MOE,
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
            "mlp": ByMixture(_QWEN3),
        },
        decoder(rmsnorm()),
        Sparse(Kinds(), by_step, say_list),
        aliases={"num_experts": ("num_local_experts",)},
        only={
            "use_qk_norm": ((True,), "this family norms queries and keys"),
            "shared_expert_intermediate_size": ((0, None), "this family has no shared experts"),
        },
        ignored=(*TRAINING, "max_window_layers"),
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
            "mlp": experts("num_experts", "intermediate_size", _SOFTMAX),
        },
        decoder(rmsnorm()),
        aliases={"num_experts": ("num_local_experts",)},
        only={"clip_qkv": ((None,), "queries and keys that are clipped after their norms are not supported yet")},
        ignored=TRAINING,
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
            "mlp": experts("num_experts", "intermediate_size", _SOFTMAX),
        },
        decoder(rmsnorm()),
        aliases={"num_experts": ("num_local_experts",)},
        ignored=TRAINING,
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
