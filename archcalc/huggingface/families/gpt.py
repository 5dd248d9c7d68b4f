"""GPT-2 and its kin of the years before Llama: LayerNorm, learned positions, a plain MLP with biases."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.family import Family, layernorm, without
from archcalc.huggingface.layers import Kinds, LayerTypes
from archcalc.huggingface.leaves import Activation, Draft, Flag, Leaf, Made, Mismatch, Quotient, Size, Times
from archcalc.huggingface.rope import FixedRotary
from archcalc.huggingface.said import Said

OLD_NAMES = {
    "n_embd": ("hidden_size",),
    "n_layer": ("num_hidden_layers",),
    "n_head": ("num_attention_heads",),
    "n_positions": ("max_position_embeddings",),
}
_NORM = layernorm("layer_norm_epsilon")


def multi_head(width: str, heads: str, **more: Any) -> dict[str, Any]:
    """As many key and value heads as queries, of hidden_size / heads."""
    n_heads = Size(heads)
    return {
        "kind": "multi_head",
        "n_heads": n_heads,
        "n_kv_heads": n_heads,
        "d_head": Quotient(width, heads),
        "bias": True,
        **more,
    }


def plain(d_ff: Leaf, activation: Leaf, bias: Any = True) -> dict[str, Any]:  # noqa: FBT002  (a part of a template)
    """A plain MLP."""
    return {"kind": "plain", "d_ff": d_ff, "activation": activation, "bias": bias}


def around(width: str, context: str, norm: Any, *, embedding: Any = None, unembedding: Any = None) -> dict[str, Any]:
    """The spec around the layers."""
    return {
        "vocab_size": Size("vocab_size"),
        "context_length": Size(context),
        "d_model": Size(width),
        "embedding": embedding or {"positions": "learned"},
        "final_norm": norm,
        "unembedding": {"tied": Flag("tie_word_embeddings"), "bias": False, **(unembedding or {})},
    }


_GPT2: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "head_dim": None,
}
_ATTENTION = multi_head("n_embd", "n_head")
_MLP = plain(Size("n_inner", Times(4, "n_embd")), Activation("activation_function"))
_UPCAST = ((False, True, None), "must be true or false")
_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "scale_attn_weights": ((True,), "attention without the scale of its scores is not supported"),
    "scale_attn_by_inverse_layer_idx": ((False,), "scores that are scaled by the layer's index are not supported"),
    "reorder_and_upcast_attn": _UPCAST,
}
_TURNED = {
    **_GPT2,
    "vocab_size": 50400,
    "n_positions": 2048,
    "n_embd": 4096,
    "n_layer": 28,
    "n_head": 16,
    "rotary_dim": 64,
    "tie_word_embeddings": False,
}
_PARALLEL = {
    "norm": _NORM,
    "attention": {**_ATTENTION, "bias": False, "rotary": FixedRotary("rotary_dim", _ATTENTION["d_head"])},
    "mlp": _MLP,
    "parallel": "shared",
}


def _queries_share(said: Said) -> int:
    return 1 if said.flag("multi_query") else said.size("n_head")


def _write_shared(value: Any, draft: Draft) -> None:
    if value not in (1, draft["n_head"]):
        raise Mismatch("attention.n_kv_heads")
    draft.put("multi_query", value == 1)


class _Alternating(LayerTypes):
    """GPT-Neo: a list of "global" and "local", or a shorter one with repeats."""

    def __init__(self) -> None:
        super().__init__(lambda _, n: ["global"] * n, {"global": "global", "local": "local"})

    def types(self, said: Said) -> list[str]:
        n = said.size("num_layers", most=10_000)
        found = said.value("attention_layers", counts=False)
        if found is None:
            found = self._expanded(said, said.value("attention_types"), n)
            key = "attention_types"
        else:
            key = "attention_layers"
        if not isinstance(found, list) or any(kind not in self.names for kind in found if isinstance(kind, str)):
            said.fail(key, "must be a list of 'global' and 'local'", found)
        if len(found) != n or not all(isinstance(kind, str) for kind in found):
            said.fail(key, f"must say the type of each of {n:,} layers", len(found))
        return list(found)

    def _expanded(self, said: Said, types: Any, n: int) -> list[str]:
        """[[["global", "local"], 12]] as a list of 24."""
        found: list[str] = []
        for item in types if isinstance(types, list) else [types]:
            if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], list):
                said.fail("attention_types", "must be a list such as [[['global', 'local'], 12]]", types)
            kinds, times = item
            if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times * len(kinds) <= n - len(found):
                said.fail("attention_types", f"must say the type of each of {n:,} layers", types)
            found += kinds * times
        return found

    def candidates(self, layer: Any) -> list[str]:
        return ["global" if layer.get("attention", {}).get("window") is None else "local"]

    def write(self, types: list[str], draft: Draft) -> None:
        draft.put("num_layers", len(types))
        draft.put("attention_types", [[types, 1]])


_ALL = (
    Family(
        "gpt2",
        "GPT2Config",
        ("GPT2LMHeadModel", "GPT2Model"),
        _GPT2,
        {"norm": _NORM, "attention": _ATTENTION, "mlp": _MLP},
        around("n_embd", "n_positions", _NORM),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=("n_ctx",),
        only=_ONLY,
        residual="scaled",
    ),
    Family(
        "openai-gpt",
        "OpenAIGPTConfig",
        ("OpenAIGPTLMHeadModel", "OpenAIGPTModel"),
        {
            **without(_GPT2, "n_inner", "activation_function"),
            "vocab_size": 40478,
            "n_positions": 512,
            "afn": "gelu",
        },
        {
            "norm": None,
            "attention": _ATTENTION,
            "mlp": plain(
                Times(4, "n_embd"),
                Activation("afn", {"gelu": "gelu_tanh", "silu": "silu", "swish": "silu", "relu": "relu"}, alone=True),
            ),
            "stream_norm": _NORM,
        },
        around("n_embd", "n_positions", None),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=("n_ctx", "n_special"),
    ),
    Family(
        "gpt_bigcode",
        "GPTBigCodeConfig",
        ("GPTBigCodeForCausalLM", "GPTBigCodeModel"),
        {**_GPT2, "activation_function": "gelu_pytorch_tanh", "multi_query": True},
        {
            "norm": _NORM,
            "attention": {**_ATTENTION, "n_kv_heads": Made(_queries_share, _write_shared)},
            "mlp": _MLP,
        },
        around("n_embd", "n_positions", _NORM),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=(
            *("n_ctx", "inference_runner", "validate_runner_input", "pre_allocate_kv_cache", "max_batch_size"),
            *("runner_max_sequence_length", "pad_key_length", "num_key_value_heads"),
        ),
        only={"scale_attn_weights": _ONLY["scale_attn_weights"]},
    ),
    Family(
        "gptj",
        "GPTJConfig",
        ("GPTJForCausalLM", "GPTJModel"),
        _TURNED,
        _PARALLEL,
        around(
            *("n_embd", "n_positions", _NORM),
            embedding={"positions": "none"},
            unembedding={"bias": True},
        ),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=("n_ctx",),
        only={
            "scale_attn_weights": _ONLY["scale_attn_weights"],
            "rotary": ((True,), "is read as true by this family"),
        },
    ),
    Family(
        "codegen",
        "CodeGenConfig",
        ("CodeGenForCausalLM", "CodeGenModel"),
        _TURNED,
        _PARALLEL,
        around(
            *("n_embd", "n_positions", _NORM),
            embedding={"positions": "none"},
            unembedding={"bias": True},
        ),
        Kinds("n_layer"),
        aliases=OLD_NAMES,
        ignored=("n_ctx",),
        only={"scale_attn_weights": _ONLY["scale_attn_weights"]},
    ),
    Family(
        "gpt_neo",
        "GPTNeoConfig",
        ("GPTNeoForCausalLM", "GPTNeoModel"),
        {
            "vocab_size": 50257,
            "max_position_embeddings": 2048,
            "hidden_size": 2048,
            "num_layers": 24,
            "num_heads": 16,
            "attention_types": [[["global", "local"], 12]],
            "attention_layers": None,
            "intermediate_size": None,
            "window_size": 256,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": _NORM,
            "attention": multi_head(
                *("hidden_size", "num_heads"),
                bias={"query": False, "key": False, "value": False, "output": True},
                scale=1.0,
                window=Made(
                    lambda said: said.size("window_size") if said.layer == "local" else None,
                    lambda value, draft: None if value is None else draft.put("window_size", value),
                ),
            ),
            "mlp": plain(Size("intermediate_size", Times(4, "hidden_size")), Activation("activation_function")),
        },
        around("hidden_size", "max_position_embeddings", _NORM),
        _Alternating(),
        aliases={"num_layers": ("num_hidden_layers",), "num_heads": ("num_attention_heads",)},
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
