"""The families, by model_type and by the names of their classes; a family's module is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.errors import Invalid, Problem, nearest, written

if TYPE_CHECKING:
    from archcalc.huggingface.family import Family

_TENANTS = {
    "gpt": "gpt2 openai-gpt gpt_bigcode gptj codegen gpt_neo",
    "llama": "llama exaone internlm3 iquestcoder emu3_text_model seed_oss helium ernie4_5 hunyuan_v1_dense arcee "
    "bitnet apertus apertus1p5_text",
    "mistral": "mistral ministral ministral3 cwm smollm3",
    "qwen": "qwen2 qwen3 qwen2_vl_text qwen2_5_vl_text qwen3_vl_text",
    "gemma": "gemma gemma2 gemma3_text vaultgemma",
    "gemma4": "gemma4_text gemma4_unified_text",
    "olmo": "olmo olmo2 olmo3 exaone4",
    "cohere": "cohere cohere2 cohere_compass_text granite hyperclovax glm glm4 granitemoe granitemoeshared",
    "phi": "phi phi3 stablelm starcoder2 nemotron persimmon jais2 nanochat",
    "neox": "gpt_neox gpt_neox_japanese falcon",
    "bloom": "bloom mpt opt biogpt",
    "sinusoidal": "xglm ctrl",
    "modernbert": "modernbert-decoder",
    "hybrids": "nemotron_h",
    "convolving": "lfm2 lfm2_moe lfm3 bamba",
    "parallel": "falcon_h1",
    "mamba": "mamba falcon_mamba jamba mamba2",
    "delta": "qwen3_next qwen3_5_text qwen3_5_moe_text lara_mini",
    "zamba": "zamba2",
    "kimi": "kimi_linear bailing_hybrid",
    "olmohybrid": "olmo_hybrid",
    "minimax": "minimax",
    "mixtures": "mixtral qwen2_moe qwen3_moe olmoe flex_olmo",
    "sinks": "gpt_oss mimo_v2_flash flint",
    "llama4": "llama4_text",
    "ernie": "ernie4_5_moe hunyuan_v1_moe",
    "routed": "solar_open exaone_moe phimoe qwen3_vl_moe_text",
    "command": "cohere2_moe",
    "laguna": "laguna",
    "step": "step3p5",
    "gated": "afmoe hy_v3 mellum kolibri1",
    "granite": "granite_swa granitemoe_swa granitemoehybrid",
    "balanced": "glm4_moe sarvam_moe glm4v_moe_text dots1 minimax_m2",
    "deepseek": "deepseek_v3 deepseek_v2 sarvam_mla glm4_moe_lite",
    "turned": "aria_text dbrx",
    "mixed_latents": "axk1 mistral4",
    "latent": "youtu minicpm3",
    "indexed": "deepseek_v32 glm_moe_dsa",
    "longcat": "longcat_flash",
}
MODULES: dict[str, str] = {model_type: module for module, names in _TENANTS.items() for model_type in names.split()}
"""The module that has the table of a model_type, in the order in which an export tries them."""


_SAME = {
    "gpt-sw3": "gpt2",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "stablelm_epoch": "stablelm",
    "kimi_k2": "deepseek_v3",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
}
"""Other names of types that are known."""


class Found(NamedTuple):
    """The family of a config, the mapping that it reads (the whole, or its text_config), and what was left out."""

    family: Family
    config: dict[str, Any]
    inside: str = ""
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def family(model_type: str) -> Family:
    """The table of a model_type that is supported."""
    found: dict[str, Family] = import_module(f"archcalc.huggingface.families.{MODULES[model_type]}").FAMILIES
    return found[model_type]


def families() -> Iterator[Family]:
    """Every table."""
    return (family(model_type) for model_type in MODULES)


def find(config: dict[str, Any], file: str) -> Found:
    """The family of a config. Raises Invalid where it is not known, or not supported yet."""
    model_type = config.get("model_type")
    if model_type is None:
        model_type = _by_class(config, file)
    if not isinstance(model_type, str):
        raise Invalid(Problem(file, "must be text", "model_type", value=written(model_type)))
    model_type = _SAME.get(model_type, model_type)
    if model_type in MODULES:
        return Found(family(model_type), config)
    from archcalc.huggingface.families.wrappers import WRAPPERS, text_of

    if model_type in WRAPPERS:
        text, inside, note = text_of(config, model_type, file)
        kind = text["model_type"]
        kind = _SAME.get(kind, kind) if isinstance(kind, str) else kind
        if isinstance(kind, str) and kind in MODULES:
            return Found(
                family(kind), text, inside, (note,), tuple(key for key in config if key not in (*text, inside))
            )
        raise Invalid(_unknown(kind, file, f"{inside}.model_type"))
    raise Invalid(_unknown(model_type, file, "model_type", _inside(config)))


def text_of_unknown(config: dict[str, Any]) -> str | None:
    """The key of the text model in a config of a type that is not known, where that is of a type that is."""
    from archcalc.huggingface.families.wrappers import TEXT, WRAPPERS

    whole = config.get("model_type")
    if not isinstance(whole, str) or _SAME.get(whole, whole) in MODULES or whole in WRAPPERS:
        return None
    for key in TEXT:
        text = config.get(key)
        kind = text.get("model_type") if isinstance(text, dict) else None
        if isinstance(kind, str) and _SAME.get(kind, kind) in MODULES:
            return key
    return None


def described_text(config: dict[str, Any], file: str) -> dict[str, Any]:
    """A config, or the mapping of the text model in it where the whole is of a type that is not known."""
    from archcalc.huggingface.families.wrappers import text_part

    return text_part(config, file) if text_of_unknown(config) else config


def _inside(config: dict[str, Any]) -> str | None:
    """How the text model of a type that is not known can be read, where it is of one that is."""
    key = text_of_unknown(config)
    return f"SPEC@part=text reads its {key} alone, a {config[key]['model_type']}" if key else None


def _unknown(model_type: Any, file: str, key: str, inside: str | None = None) -> Problem:
    """What is said of a type that no table knows: the feature that it needs, or the nearest that are known."""
    from archcalc.huggingface.families.absent import FEATURES
    from archcalc.huggingface.families.wrappers import WRAPPERS

    value = written(model_type)
    if not isinstance(model_type, str):
        return Problem(file, "must be text", key, value=value)
    if inside is not None:
        return Problem(file, "is a model of more than text that is not known", key, value=value, suggestion=inside)
    if model_type in FEATURES:
        return Problem(file, f"{FEATURES[model_type]} not supported yet", key, value=value)
    near = nearest(model_type, [*MODULES, *WRAPPERS, *FEATURES], 3)
    fix = f"nearest: {', '.join(near)}" if near else None
    return Problem(file, "is not a known type of model", key, value=value, suggestion=fix)


def _by_class(config: dict[str, Any], file: str) -> str:
    """The model_type of the classes that a config names."""
    said = config.get("architectures")
    names = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    for one in families():
        if any(name in one.architectures for name in names):
            return one.model_type
    if names:
        raise Invalid(Problem(file, "does not name a known class", "architectures", value=written(names)))
    raise Invalid(Problem(file, "is missing", "model_type"))
