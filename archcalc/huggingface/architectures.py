"""How the files of each architecture of llama.cpp say a config.json: one row an architecture, data alone.

The keys are those of its converter (conversion/ in its repository); what no key says is what its graph of the
architecture computes (src/models/), such as the activation, or whether the probabilities of chosen experts are divided
by their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Config = dict[str, Any]
Settle = Callable[[Config, Mapping[str, Any], set[str]], None]


class Architecture(NamedTuple):
    """How the files of an architecture of llama.cpp are read.

    Attributes:
        model_type: the family of transformers' models that it is.
        keys: the key of config.json for each key below the architecture's name that a file must have.
        optional: the same for those that it may lack; config.json then has the value of `fixed`, or nothing.
        fixed: what llama.cpp computes and no key says.
        settle: what follows from other keys and from the names of tensors.
        permuted: whether the converter wove the two halves of each head's rows of queries and keys.
        offset: what the converter added to the gains of norms.
        in_part: whether a part of each head may be turned alone; the file then says how wide it is.
        scaling: further settings of rotary positions that are scaled; a family with some has scaled ones by default.
        factors: the tensors that hold factors of its frequencies, where it may have some.
        unscaled: multipliers that a key of 0 leaves out.
        mixture: the row of files that say how many experts they have, where that is another family.
    """

    model_type: str
    keys: Mapping[str, str]
    optional: Mapping[str, str]
    fixed: Mapping[str, Any] = MappingProxyType({})
    settle: tuple[Settle, ...] = ()
    permuted: bool = False
    offset: float = 0.0
    in_part: bool = False
    scaling: Mapping[str, Any] = MappingProxyType({})
    factors: tuple[str, ...] = ()
    unscaled: tuple[str, ...] = ()
    mixture: Architecture | None = None


FREQUENCIES = "rope_freqs.weight"
SHORT, LONG = "rope_factors_short.weight", "rope_factors_long.weight"
"""Tensors that are no weights of a model but settings of its positions."""
THETA = 10_000.0
"""llama.cpp's base of the angles, where no key says one."""
_COMMON = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_RMS = {**_COMMON, "attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_LAYERNORM = {**_COMMON, "attention.layer_norm_epsilon": "layer_norm_eps"}
_KV = {"attention.head_count_kv": "num_key_value_heads", "rope.freq_base": "rope_theta"}
_OPTIONAL = {**_KV, "attention.key_length": "head_dim"}
_WINDOW = {"attention.sliding_window": "sliding_window"}
_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
_LOCAL_EXPERTS = {"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"}
_D_EXPERT = {"expert_feed_forward_length": "moe_intermediate_size"}
_MULTIPLIERS = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def _where(key: str, tensor: str) -> Settle:
    """A key of config.json that is true where the first layer has a tensor."""

    def settle(config: Config, _: Mapping[str, Any], names: set[str]) -> None:
        config[key] = f"blk.0.{tensor}" in names

    return settle


_ATTENTION_BIAS, _MLP_BIAS = _where("attention_bias", "attn_q.bias"), _where("mlp_bias", "ffn_up.bias")


def even_width(config: Config) -> int | None:
    """The width of the model over its heads, which llama.cpp takes for a head's; None where no number is."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    return width // heads if type(heads) is int and type(width) is int and heads > 0 else None


def _scale_of_gemma(largest: int) -> Settle:
    """No key has the scale of the scores: llama.cpp takes a head's width, in the largest model d_model / n_heads."""

    def settle(config: Config, _: Mapping[str, Any], __: set[str]) -> None:
        whole = config["num_hidden_layers"] == largest
        scalar = even_width(config) if whole else config.get("head_dim")
        if scalar is not None:
            config["query_pre_attn_scalar"] = scalar

    return settle


def _scale_of_granite(config: Config, _: Mapping[str, Any], __: set[str]) -> None:
    """No scale, or one of 0, is that of a head's width: `llama_model_granite`."""
    width = config.get("head_dim")
    if not config.get("attention_multiplier") and type(width) is int and width > 0:
        config["attention_multiplier"] = width**-0.5


def _widths_of_qwen(config: Config, _: Mapping[str, Any], __: set[str]) -> None:
    """Files from before keys had the widths of experts: `llama_model_qwen2moe` has them follow from the MLP's."""
    width, chosen = config["intermediate_size"], config["num_experts_per_tok"]
    if isinstance(width, int) and isinstance(chosen, int) and chosen:
        config.setdefault("moe_intermediate_size", width // chosen)
        config.setdefault("shared_expert_intermediate_size", width)


def _window_of_phi(config: Config, keys: Mapping[str, Any], _: set[str]) -> None:
    """No window is a window of 0; the context that was trained with stands beside the settings of positions."""
    config["sliding_window"] = config.get("sliding_window") or None
    if original := keys.get("phi3.rope.scaling.original_context_length"):
        config["original_max_position_embeddings"] = original


_SILU = {"rope_theta": THETA, "hidden_act": "silu"}
_GEMMA2 = {"rope_theta": THETA, "hidden_activation": "gelu_pytorch_tanh"}
_LLAMA = Architecture(
    "llama", _RMS, _OPTIONAL, _SILU, (_ATTENTION_BIAS, _MLP_BIAS), permuted=True, factors=(FREQUENCIES,)
)
_QWEN3 = _LLAMA._replace(model_type="qwen3", settle=(_ATTENTION_BIAS,), permuted=False, factors=())
_MIXTRAL = _LLAMA._replace(model_type="mixtral", keys={**_RMS, **_LOCAL_EXPERTS}, settle=())
_COMMAND = Architecture(
    "cohere",
    {**_LAYERNORM, "logit_scale": "logit_scale"},
    _OPTIONAL,
    _SILU,
    (_ATTENTION_BIAS, _where("use_qk_norm", "attn_q_norm.weight")),
    unscaled=("logit_scale",),
)
_GRANITE = _LLAMA._replace(
    model_type="granite",
    optional={**_OPTIONAL, **_MULTIPLIERS},
    settle=(_ATTENTION_BIAS, _MLP_BIAS, _scale_of_granite),
    unscaled=("embedding_multiplier", "residual_multiplier", "logits_scaling"),
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA._replace(mixture=_MIXTRAL),
    "smollm3": _LLAMA._replace(model_type="smollm3", fixed={**_SILU, "no_rope_layer_interval": 4}, factors=()),
    "granite": _GRANITE,
    "granitemoe": _GRANITE._replace(
        model_type="granitemoeshared",
        keys={**_RMS, **_LOCAL_EXPERTS},
        optional={**_GRANITE.optional, "expert_shared_feed_forward_length": "shared_intermediate_size"},
        settle=(_ATTENTION_BIAS, _scale_of_granite),
    ),
    "qwen2": _QWEN3._replace(model_type="qwen2", settle=()),
    "qwen2moe": Architecture(
        "qwen2_moe",
        {**_RMS, **_EXPERTS},
        {**_KV, **_D_EXPERT, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        {**_SILU, "norm_topk_prob": False},
        (_where("qkv_bias", "attn_q.bias"), _widths_of_qwen),
    ),
    "qwen3": _QWEN3,
    "qwen3moe": _QWEN3._replace(
        model_type="qwen3_moe", keys={**_RMS, **_EXPERTS, **_D_EXPERT}, fixed={**_SILU, "norm_topk_prob": True}
    ),
    "olmo2": _QWEN3._replace(model_type="olmo2"),
    "olmoe": _QWEN3._replace(model_type="olmoe", keys={**_RMS, **_EXPERTS}, fixed={**_SILU, "norm_topk_prob": False}),
    "phi2": Architecture(
        "phi",
        _LAYERNORM,
        _OPTIONAL,
        {"rope_theta": THETA, "hidden_act": "gelu_new"},
        (_where("qk_layernorm", "attn_q_norm.weight"),),
        in_part=True,
    ),
    "phi3": Architecture(
        "phi3",
        _RMS,
        {**_OPTIONAL, **_WINDOW},
        {**_SILU, "sliding_window": None},
        (_window_of_phi,),
        in_part=True,
        factors=(SHORT, LONG),
    ),
    "starcoder2": Architecture(
        "starcoder2",
        {**_COMMON, "attention.layer_norm_epsilon": "norm_epsilon"},
        _OPTIONAL,
        {"rope_theta": THETA, "hidden_act": "gelu_pytorch_tanh"},
        (_where("use_bias", "attn_q.bias"),),
    ),
    "glm4": _QWEN3._replace(model_type="glm4", in_part=True),
    "command-r": _COMMAND,
    "cohere2": _COMMAND._replace(
        model_type="cohere2",
        keys={**_COMMAND.keys, **_WINDOW},
        fixed={**_SILU, "sliding_window_pattern": 4},
        settle=(_ATTENTION_BIAS,),
    ),
    "gpt-oss": _QWEN3._replace(
        model_type="gpt_oss",
        keys={**_RMS, **_LOCAL_EXPERTS, **_WINDOW, "expert_feed_forward_length": "intermediate_size"},
        scaling={"truncate": False},
    ),
    "gpt2": Architecture(
        "gpt2",
        {
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        {},
        {"activation_function": "gelu_new"},
    ),
    "gemma": Architecture(
        "gemma",
        _RMS,
        _OPTIONAL,
        {"rope_theta": THETA, "hidden_act": "gelu_pytorch_tanh"},
        (_ATTENTION_BIAS,),
        offset=1.0,
    ),
    "gemma2": Architecture(
        "gemma2",
        {**_RMS, **_WINDOW, **_CAPS},
        _OPTIONAL,
        _GEMMA2,
        (_ATTENTION_BIAS, _scale_of_gemma(46)),
        offset=1.0,
    ),
    "gemma3": Architecture(
        "gemma3_text",
        {**_RMS, **_WINDOW},
        {**_OPTIONAL, **_CAPS, "rope.freq_base_swa": "rope_local_base_freq"},
        {**_GEMMA2, "rope_local_base_freq": THETA, "sliding_window_pattern": 6},
        (_ATTENTION_BIAS, _scale_of_gemma(62)),
        offset=1.0,
    ),
}
"""By the names that `general.architecture` has."""
