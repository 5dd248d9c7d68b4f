"""Models of images or sound around a text model: what is counted are the decoder and the head that transformers builds."""

import sys
from pathlib import Path

import pytest
from examples import a_third

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
from samples import SAMPLES

import archcalc
from archcalc.huggingface.families.wrappers import WRAPPERS
from archcalc.huggingface.importing import import_config
from archcalc.spec.source import Document
from archcalc.spec.validation import validate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

BUILT = (
    *("idefics2", "qianfan_ocr", "minicpmv4_6", "minicpmv4_7", "minicpm_ocr", "video_llama_3", "pp_chart2table"),
    *("deepseek_vl_hybrid", "kimi_k25", "qwen3_asr", "moss_transcribe_diarize", "glmasr", "audioflamingo3"),
    *("musicflamingo", "vibevoice_asr", "granite_speech", "granite_speech_plus", "lfm2_vl", "lfm3_vl"),
)
USUAL = {
    "hidden_size": 60, "intermediate_size": 50, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "vocab_size": 101,
}  # fmt: skip


def whole(model_type):
    """transformers' class of the whole, which generates."""
    from transformers.models.auto import modeling_auto

    mappings = [names for name, names in vars(modeling_auto).items() if name.endswith("MAPPING_NAMES")]
    named = [found for names in mappings if (found := names.get(model_type))]
    classes = [one for found in named for one in ((found,) if isinstance(found, str) else found)]
    return getattr(transformers, next(name for name in classes if name.endswith("ForConditionalGeneration")))


@pytest.mark.parametrize("model_type", a_third(BUILT))
@pytest.mark.parametrize(
    ("outer", "inner"),
    [(True, False), (False, True), *(pytest.param(x, x, marks=pytest.mark.prove) for x in (True, False))],
)
def test_the_text_model_has_the_parameters_of_transformers_decoder_and_head(model_type, outer, inner):
    text = WRAPPERS[model_type].text
    sizes = next((said for kind, said in SAMPLES.values() if kind == text), USUAL)
    inside = {**sizes, "model_type": text, "tie_word_embeddings": inner}
    config = transformers.AutoConfig.for_model(model_type, text_config=inside, tie_word_embeddings=outer)
    with torch.device("meta"):
        theirs = whole(model_type)(config)
    theirs.tie_weights()
    parts = (theirs.get_decoder(), theirs.get_output_embeddings())
    learned = {id(p): p.numel() for part in parts for p in part.parameters() if p.requires_grad}
    data = import_config(config.to_dict(), "config.json", "whole").data
    spec = validate(Document("config.json", data), archcalc.Model)
    assert archcalc.params(spec).stored == sum(learned.values())
    assert data["assumptions"][0].startswith(f"only the text model of {model_type} is counted, without ")


def test_the_text_model_may_have_another_name_of_its_type():
    """Kimi K2.5's says kimi_k2, whose architecture is DeepSeek-V3's."""
    text = {**next(said for kind, said in SAMPLES.values() if kind == "deepseek_v3"), "model_type": "kimi_k2"}
    whole = {"model_type": "kimi_k25", "text_config": text, "vision_config": {}, "tie_word_embeddings": False}
    found = [
        import_config(config, "config.json", "x").data for config in (whole, {**text, "tie_word_embeddings": False})
    ]
    assert found[0]["layers"] == found[1]["layers"]
