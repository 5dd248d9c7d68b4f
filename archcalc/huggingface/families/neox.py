"""GPT-NeoX and Falcon: attention and MLP side by side, each with a norm of its own or through one."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.gpt import around, multi_head, plain
from archcalc.huggingface.family import Family, layernorm, without
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Activation, Draft, Flag, Made, Mismatch, Quotient, Size, Times
from archcalc.huggingface.rope import KEYS, Rotary
from archcalc.huggingface.said import Said

_NORM = layernorm("layer_norm_eps")
_D_HEAD = Quotient("hidden_size", "num_attention_heads")
_OLD_ROPE = {"rope_theta": ("rotary_emb_base",), "partial_rotary_factor": ("rotary_pct",)}
_NEOX: dict[str, Any] = {
    **KEYS,
    "vocab_size": 50432,
    "hidden_size": 6144,
    "num_hidden_layers": 44,
    "num_attention_heads": 64,
    "intermediate_size": 24576,
    "hidden_act": "gelu",
    "max_position_embeddings": 2048,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "use_parallel_residual": True,
    "attention_bias": True,
    "head_dim": None,
}


class _LastBiased(Kinds):
    """GPT-NeoX Japanese: the output projection of the last layer alone has a bias."""

    def types(self, said: Said) -> list[str]:
        n = len(super().types(said))
        return [*["layer"] * (n - 1), "last"]

    def candidates(self, layer: Any) -> list[str]:
        return ["last" if layer.get("attention", {}).get("bias") is not False else "layer"]

    def write(self, types: list[str], draft: Draft) -> None:
        if "last" in types[:-1] or types[-1] != "last":
            raise Mismatch("layers")
        super().write(types, draft)


_ONE = {"query": False, "key": False, "value": False, "output": True}
_LAST_BIAS = Made(
    lambda said: dict(_ONE) if said.layer == "last" else False,
    lambda value, draft: _same(value, _ONE if draft.layer == "last" else False),
)


def _same(value: Any, wanted: Any) -> None:
    if value != wanted:
        raise Mismatch("attention.bias")


def _multiple(said: Said) -> int:
    return said.size("hidden_size") * said.size("intermediate_multiple_size")


def _write_multiple(value: Any, draft: Draft) -> None:
    if value % draft.d_model:
        raise Mismatch("mlp.d_ff")
    draft.put("intermediate_multiple_size", value // draft.d_model)


class _Falcon:
    """Three forms: one key/value head and one norm (7B), groups and two norms (40B), one after the other (RW)."""

    @staticmethod
    def new(said: Said) -> bool:
        return said.flag("new_decoder_architecture")

    @classmethod
    def parallel(cls, said: Said) -> str | None:
        if not said.flag("parallel_attn"):
            if cls.new(said):
                said.fail("parallel_attn", "must be true, since new_decoder_architecture is", value=False)
            return None
        norms = said.value("num_ln_in_parallel_attn") if not said.none("num_ln_in_parallel_attn") else None
        if norms not in (None, 1, 2) or isinstance(norms, bool):
            said.fail("num_ln_in_parallel_attn", "must be 1 or 2", norms)
        if norms == 2 and not cls.new(said):
            said.fail("num_ln_in_parallel_attn", "must be 1, since new_decoder_architecture is false", norms)
        return "own" if cls.new(said) and norms in (None, 2) else "shared"

    @classmethod
    def kv_heads(cls, said: Said) -> int:
        heads = said.size("num_attention_heads")
        if not cls.new(said):
            return 1 if said.flag("multi_query") else heads
        if said.none("num_kv_heads"):
            said.value("num_kv_heads")
            return heads
        found = said.size("num_kv_heads")
        if heads % found:
            said.fail("num_kv_heads", f"must divide num_attention_heads ({heads:,})", found)
        return found

    @staticmethod
    def write_parallel(value: Any, draft: Draft) -> None:
        draft.put("parallel_attn", value is not None)
        grouped = draft["num_kv_heads"] not in (1, draft["num_attention_heads"])
        draft.put("new_decoder_architecture", value == "own" or (value == "shared" and grouped))
        draft.put("multi_query", draft["num_kv_heads"] == 1)
        if value is not None and draft["new_decoder_architecture"]:
            draft.put("num_ln_in_parallel_attn", 2 if value == "own" else 1)

    @staticmethod
    def alibi_scale(said: Said) -> float | None:
        return float(_D_HEAD.read(said) ** -0.5) if said.flag("alibi") else None


_FALCON_NORM = layernorm("layer_norm_epsilon")
_FALCON_ROTARY = Rotary(_D_HEAD)
_ALIBI = Flag("alibi", {True: True, False: None})

_ALL = (
    Family(
        "gpt_neox",
        "GPTNeoXConfig",
        ("GPTNeoXForCausalLM", "GPTNeoXModel"),
        _NEOX,
        {
            "norm": _NORM,
            "attention": multi_head(
                "hidden_size",
                "num_attention_heads",
                bias=Flag("attention_bias"),
                rotary=Rotary(_D_HEAD, partial=0.25),
            ),
            "mlp": plain(Size("intermediate_size"), Activation("hidden_act")),
            "parallel": Flag("use_parallel_residual", {True: "own", False: None}),
        },
        around("hidden_size", "max_position_embeddings", _NORM, embedding={"positions": "none"}),
        aliases=_OLD_ROPE,
    ),
    Family(
        "gpt_neox_japanese",
        "GPTNeoXJapaneseConfig",
        ("GPTNeoXJapaneseForCausalLM", "GPTNeoXJapaneseModel"),
        {
            **without(_NEOX, "use_parallel_residual", "attention_bias", "intermediate_size"),
            "vocab_size": 32000,
            "hidden_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_multiple_size": 4,
            "tie_word_embeddings": True,
        },
        {
            "norm": _NORM,
            "attention": multi_head(
                "hidden_size", "num_attention_heads", bias=_LAST_BIAS, rotary=Rotary(_D_HEAD, partial=1.0)
            ),
            "mlp": plain(
                Made(_multiple, _write_multiple),
                Activation("hidden_act"),
                bias=False,
            ),
        },
        around("hidden_size", "max_position_embeddings", _NORM, embedding={"positions": "none"}),
        _LastBiased(),
        aliases=_OLD_ROPE,
    ),
    Family(
        "falcon",
        "FalconConfig",
        ("FalconForCausalLM", "FalconModel", "RWForCausalLM"),
        {
            **KEYS,
            "vocab_size": 65024,
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "num_ln_in_parallel_attn": None,
            "layer_norm_epsilon": 1e-5,
            "num_kv_heads": None,
            "alibi": False,
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
            "bias": False,
            "max_position_embeddings": 2048,
            "ffn_hidden_size": None,
            "activation": "gelu",
            "tie_word_embeddings": True,
            "head_dim": None,
        },
        {
            "norm": _FALCON_NORM,
            "attention": multi_head(
                "hidden_size",
                "num_attention_heads",
                n_kv_heads=Made(_Falcon.kv_heads, lambda value, draft: draft.put("num_kv_heads", value)),
                bias=Flag("bias"),
                rotary=Flag("alibi", {True: None, False: _FALCON_ROTARY}),
                alibi=_ALIBI,
                alibi_scale=Made(_Falcon.alibi_scale),
            ),
            "mlp": plain(
                Size("ffn_hidden_size", Times(4, "hidden_size")), Activation("activation"), bias=Flag("bias")
            ),
            "parallel": Made(_Falcon.parallel, _Falcon.write_parallel),
        },
        around("hidden_size", "max_position_embeddings", _FALCON_NORM, embedding={"positions": "none"}),
        aliases={
            "hidden_size": ("n_embed",),
            "num_hidden_layers": ("n_layer",),
            "num_attention_heads": ("n_head",),
            "num_kv_heads": ("n_head_kv",),
        },
        only={
            "apply_residual_connection_post_layernorm": (
                (False, None),
                "residuals after the norm are not supported yet",
            ),
            "ff_factor": ((4, None), "is not read by this family; ffn_hidden_size is"),
        },
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
