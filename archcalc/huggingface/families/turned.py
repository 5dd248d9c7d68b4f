"""Mixtures whose experts are stored in an order of their own: Aria's text model, DBRX."""

from __future__ import annotations

from typing import Any

from archcalc.huggingface.families.llama import ATTENTION_BIAS, BIASES, GATED, MLP_BIAS, layer
from archcalc.huggingface.families.mixtures import TRAINING, experts, shared_of
from archcalc.huggingface.family import Family, decoder, rmsnorm, sizes
from archcalc.huggingface.layers import Kinds
from archcalc.huggingface.leaves import Draft, Made, Mismatch, Number, Quotient, Shared, Size
from archcalc.huggingface.rope import KEYS, Rotary
from archcalc.huggingface.said import Said

_NESTED = ("attn_config", "ffn_config")
_D_HEAD = Quotient("d_model", "n_heads", down=True)
_THETA = "attn_config.rope_theta"
_POWER = "ffn_config.moe_normalize_expert_weights"
_ACT = "ffn_config.ffn_act_fn"


class _DbrxRotary(Rotary):
    """The base stands among the settings of attention, and is written there too, since DBRX's class asks for it."""

    def write(self, value: Any, draft: Draft) -> None:
        super().write(value, draft)
        if value is not None:
            draft.put(_THETA, value["theta"])


def _normalized(said: Said) -> bool:
    """Whether chosen scores are divided by their sum, as the norm of power 1 is."""
    power = said.value(_POWER)
    if power not in (None, 1) or isinstance(power, bool):
        said.fail(_POWER, "must be 1 or null; scores divided by another norm are not supported", power)
    return power is not None


def _say_normalized(value: Any, draft: Draft) -> None:
    draft.put(_POWER, 1.0 if value else None)


def _act(said: Said) -> str:
    value = said.value(_ACT)
    name = "silu" if value is None else value.get("name", "silu") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        said.fail(_ACT, "is not a supported activation", value, f"supported: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _say_act(value: Any, draft: Draft) -> None:
    name = next((theirs for theirs, ours in _ACTIVATIONS.items() if ours == value), None)
    if name is None:
        raise Mismatch("mlp.activation")
    draft.put(_ACT, {"name": name})


_ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_NORM = {"kind": "layernorm", "bias": False, "epsilon": 1e-5}

_ALL = (
    Family(
        "aria_text",
        "AriaTextConfig",
        ("AriaTextForCausalLM", "AriaTextModel"),
        sizes(
            *(32000, 4096, 4096, 32, 32, None, 2048),
            **BIASES,
            moe_num_experts=8,
            moe_topk=2,
            moe_num_shared_experts=2,
        ),
        {
            **layer({"bias": ATTENTION_BIAS}),
            "mlp": {
                **experts(
                    *("moe_num_experts", "intermediate_size"),
                    {"scores": "softmax_of_chosen", "normalized": False},
                    "moe_topk",
                    shared=shared_of("moe_num_shared_experts", "intermediate_size", {**GATED, "bias": MLP_BIAS}),
                ),
                "activation": "silu",  # whatever hidden_act says, which the shared MLP alone reads
            },
        },
        decoder(rmsnorm()),
        ignored=(*TRAINING, "moe_z_loss_coeff", "moe_aux_loss_coeff"),
    ),
    Family(
        "dbrx",
        "DbrxConfig",
        ("DbrxForCausalLM", "DbrxModel"),
        {
            **{key: default for key, default in KEYS.items() if key != "rope_theta"},
            "d_model": 2048,
            "n_heads": 16,
            "n_layers": 24,
            "max_position_embeddings": 2048,
            "vocab_size": 32000,
            "attn_config.clip_qkv": None,
            "attn_config.kv_n_heads": 1,
            _THETA: None,
            _ACT: None,
            "ffn_config.ffn_hidden_size": 3584,
            "ffn_config.moe_num_experts": 4,
            "ffn_config.moe_top_k": 1,
            _POWER: 1.0,
        },
        {
            "norm": _NORM,
            "attention": {
                "kind": "multi_head",
                "n_heads": Size("n_heads"),
                "n_kv_heads": Shared("attn_config.kv_n_heads", "n_heads"),
                "d_head": _D_HEAD,
                "bias": False,
                "rotary": _DbrxRotary(_D_HEAD, theta_key=_THETA),
                "clip": Number("attn_config.clip_qkv", optional=True),
            },
            "mlp": {
                **experts(
                    *("ffn_config.moe_num_experts", "ffn_config.ffn_hidden_size"),
                    {"scores": "softmax", "normalized": Made(_normalized, _say_normalized)},
                    "ffn_config.moe_top_k",
                ),
                "activation": Made(_act, _say_act),
            },
        },
        {
            **decoder(_NORM, unembedding={"tied": False}),
            "context_length": Size("max_position_embeddings"),
            "d_model": Size("d_model"),
        },
        Kinds("n_layers"),
        nested=_NESTED,
        aliases={
            "d_model": ("hidden_size",),
            "n_heads": ("num_attention_heads",),
            "n_layers": ("num_hidden_layers",),
            "max_position_embeddings": ("max_seq_len",),
        },
        only={"tie_word_embeddings": ((False,), "this family has a head of its own")},
        ignored=(
            *TRAINING,
            *("resid_pdrop", "emb_pdrop", "attn_config.attn_pdrop", "attn_config.attn_impl", "num_key_value_heads"),
            *("ffn_config.moe_jitter_eps", "ffn_config.moe_loss_weight", "ffn_config.hidden_size"),
            *("ffn_config.uniform_expert_assignment", *(f"{name}.tie_word_embeddings" for name in _NESTED)),
        ),
    ),
)

FAMILIES = {one.model_type: one for one in _ALL}
