"""Configs of models of text and images or sound: the text model, which alone is counted, stands inside."""

from __future__ import annotations

from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, written


class Wrapper(NamedTuple):
    """Where the text model stands, what it is where it does not say, and what is left out.

    `flat` says that old files have the text model's keys at the top; `either` that a tie of either mapping is one;
    `unties` that the class has a head of its own, whatever is said. `defaults` are those of its class that are not the
    text model's, `drops` keys of such a file that are of other parts.
    """

    text: str
    leaves_out: str = "the vision encoder and what connects it"
    flat: bool = False
    either: bool = False
    unties: bool = False
    defaults: tuple[tuple[str, Any], ...] = ()
    drops: tuple[str, ...] = ()


_HEARS = "the audio encoder and what connects it"
WRAPPERS: dict[str, Wrapper] = {
    **dict.fromkeys(("gemma3",), Wrapper("gemma3_text")),
    "gemma4": Wrapper("gemma4_text", "the encoders of images and sound and what connects them"),
    "gemma4_unified": Wrapper("gemma4_unified_text", "what makes vectors of images and sound"),
    **dict.fromkeys(("mistral3",), Wrapper("mistral")),
    **dict.fromkeys(("paligemma",), Wrapper("gemma")),
    **dict.fromkeys(("llava_next", "vipllava", "video_llava", "deepseek_vl", "janus"), Wrapper("llama")),
    **dict.fromkeys(("idefics3", "smolvlm", "perception_lm"), Wrapper("llama")),
    **dict.fromkeys(("llava", "llava_next_video"), Wrapper("llama", either=True)),
    **dict.fromkeys(("llava_onevision",), Wrapper("qwen2", either=True)),
    **dict.fromkeys(("internvl", "got_ocr2", "ovis2", "fast_vlm"), Wrapper("qwen2")),
    **dict.fromkeys(("aya_vision", "cohere2_vision"), Wrapper("cohere2")),
    "lighton_ocr": Wrapper("qwen3"),
    "exaone4_5": Wrapper("exaone4"),
    "hyperclovax_vision_v2": Wrapper("hyperclovax"),
    "aria": Wrapper("aria_text"),
    "cohere_compass": Wrapper("cohere_compass_text"),
    "apertus1p5": Wrapper("apertus1p5_text", "the tokenizers of images and sound"),
    "emu3": Wrapper("emu3_text_model", "the tokenizer of images"),
    "fuyu": Wrapper("persimmon", "the projection of image patches", flat=True),
    "phi4_multimodal": Wrapper(
        "phi3",
        "the encoders of images and sound, what connects them, and adapters for them",
        flat=True,
        defaults=(
            ("vocab_size", 200064),
            ("num_key_value_heads", 8),
            ("max_position_embeddings", 131072),
            ("original_max_position_embeddings", 4096),
        ),
        drops=("vision_lora", "speech_lora", "embd_layer", "audio_processor", "img_processor"),
    ),
    "qwen2_vl": Wrapper("qwen2_vl_text", flat=True, either=True),
    "qwen2_5_vl": Wrapper("qwen2_5_vl_text", flat=True, either=True),
    "qwen3_vl": Wrapper("qwen3_vl_text"),
    "llama4": Wrapper("llama4_text"),
    "glm4v_moe": Wrapper("glm4v_moe_text"),
    "qwen3_vl_moe": Wrapper("qwen3_vl_moe_text"),
    "qwen3_5": Wrapper("qwen3_5_text"),
    "qwen3_5_moe": Wrapper("qwen3_5_moe_text"),
    **dict.fromkeys(("idefics2",), Wrapper("mistral")),
    **dict.fromkeys(("qianfan_ocr",), Wrapper("qwen3")),
    **dict.fromkeys(("minicpmv4_6", "minicpmv4_7", "minicpm_ocr"), Wrapper("qwen3_5_text")),
    **dict.fromkeys(("video_llama_3", "pp_chart2table"), Wrapper("qwen2")),
    "deepseek_vl_hybrid": Wrapper("llama"),
    "kimi_k25": Wrapper("deepseek_v3"),
    "nemotron_h_omni": Wrapper("nemotron_h", "the encoders of images and sound and what connects them", unties=True),
    **dict.fromkeys(("qwen3_asr", "moss_transcribe_diarize"), Wrapper("qwen3", _HEARS)),
    "glmasr": Wrapper("llama", _HEARS),
    **dict.fromkeys(("audioflamingo3", "musicflamingo", "vibevoice_asr"), Wrapper("qwen2", _HEARS, unties=True)),
    **dict.fromkeys(
        ("granite_speech", "granite_speech_plus"),
        Wrapper("granite", "the audio encoder, what connects it, and adapters for it"),
    ),
    "lfm2_vl": Wrapper("lfm2"),
    "lfm3_vl": Wrapper("lfm3"),
    "step3p7": Wrapper("step3p5", flat=True),
    "voxtral": Wrapper("llama", _HEARS, unties=True),
    "qwen2_audio": Wrapper("qwen2", _HEARS, unties=True),
}
"""By the model_type of the whole."""

TEXT = ("text_config", "llm_config", "language_config")
_TIE = "tie_word_embeddings"
_FLAT_OUT = ("vision_config", "audio_config", "image_size", "patch_size", "num_channels", "model_type")


def text_part(config: dict[str, Any], file: str) -> dict[str, Any]:
    """The mapping of the text model, whatever the whole is. Raises Invalid where there is none."""
    key = next((key for key in TEXT if isinstance(config.get(key), dict)), None)
    if key is None:
        raise Invalid(Problem(file, f"has no part that is a text model: none of {', '.join(TEXT)} is a mapping"))
    text = {_TIE: config[_TIE]} if config.get(_TIE) is not None else {}
    quantized = config.get("quantization_config")
    return {**({"quantization_config": quantized} if quantized is not None else {}), **config[key], **text}


def text_of(config: dict[str, Any], model_type: str, file: str) -> tuple[dict[str, Any], str, str]:
    """The mapping of the text model, the key that has it, and a sentence that says what is left out."""
    wrapper = WRAPPERS[model_type]
    key = next((key for key in TEXT if config.get(key) is not None), None)
    if key is None and wrapper.flat and config.get("hidden_size") is not None:
        text = {name: value for name, value in config.items() if name not in (*_FLAT_OUT, *wrapper.drops)}
        text = {**dict(wrapper.defaults), **text}
    elif key is None:
        raise Invalid(Problem(file, "is missing, or null", "text_config"))
    elif not isinstance(config[key], dict):
        raise Invalid(Problem(file, "must be a mapping", key, value=written(config[key])))
    else:
        text = dict(config[key])
    if text.get("model_type") in (None, model_type):
        text["model_type"] = wrapper.text
    if wrapper.unties:
        text[_TIE] = False
    elif key is not None and config.get(_TIE) is not None:
        tied = config[_TIE]
        text[_TIE] = text.get(_TIE) or tied if wrapper.either else tied
    quantized = config.get("quantization_config")
    if quantized is not None:
        text.setdefault("quantization_config", quantized)
    note = f"only the text model of {model_type} is counted, without {wrapper.leaves_out}"
    if key is not None and config.get(_TIE) is None and not (wrapper.unties or wrapper.either):
        note += f"; {_TIE} is that of {key}, since the file says none for the whole"
    return text, key or "", note
