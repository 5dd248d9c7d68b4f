"""Where each field came from, what was taken where nothing is said, and what was left aside."""

import pytest

from archcalc.errors import Invalid
from archcalc.huggingface.exporting import shape
from archcalc.huggingface.importing import import_config
from archcalc.huggingface.reading import parse_config
from archcalc.spec.catalogue import load
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 128000,
    "initializer_range": 0.02,
}


def test_a_spec_says_what_the_config_says():
    found = import_config(LLAMA, "llama3-8b/config.json")
    assert found.data == {
        "schema": 0,
        "name": "llama3-8b",
        "source": "config.json (llama, transformers config)",
        "vocab_size": 128256,
        "context_length": 8192,
        "d_model": 4096,
        "embedding": {"positions": "none"},
        "layers": [
            {
                "repeat": 32,
                "norm": {"kind": "rmsnorm", "epsilon": 1e-5},
                "attention": {
                    "kind": "multi_head",
                    "n_heads": 32,
                    "n_kv_heads": 8,
                    "d_head": 128,
                    "bias": False,
                    "rotary": {"d_rotary": 128, "theta": 500000.0},
                },
                "mlp": {"kind": "gated", "d_ff": 14336, "activation": "silu", "bias": False},
            }
        ],
        "final_norm": {"kind": "rmsnorm", "epsilon": 1e-5},
        "unembedding": {"tied": False, "bias": False},
        "initialization": {"std": 0.02, "residual": "plain"},
        "assumptions": [
            "not in config.json, and taken from transformers' LlamaConfig: "
            "head_dim 128, attention_bias false, mlp_bias false"
        ],
    }


def test_each_field_knows_its_keys():
    origins = import_config(LLAMA, "config.json").origins
    assert origins["d_model"] == ["hidden_size"]
    assert origins["layers.0.repeat"] == ["num_hidden_layers"]
    assert origins["layers.0.attention.n_kv_heads"] == ["num_attention_heads", "num_key_value_heads"]
    assert origins["layers.0.attention.d_head"] == ["hidden_size", "num_attention_heads"]
    assert origins["layers.0.attention.rotary"] == ["hidden_size", "num_attention_heads", "rope_theta"]
    assert origins["layers.0.attention.bias"] == ["attention_bias"]  # which the file does not say
    places = list(origins)
    assert places.index("d_model") < places.index("layers.0.repeat") < places.index("final_norm.epsilon")
    assert origins["unembedding.tied"] == ["tie_word_embeddings"]
    assert origins["layers.0.norm.epsilon"] == ["rms_norm_eps"]


def test_the_keys_are_those_of_the_file():
    origins = import_config({"model_type": "gpt2", "hidden_size": 1024, "n_head": 16}, "config.json").origins
    assert origins["d_model"] == ["hidden_size"]
    assert origins["layers.0.attention.n_heads"] == ["n_head"]
    text = {"vocab_size": 1000, "hidden_size": 4096, "sliding_window": None}
    origins = import_config({"model_type": "mistral3", "text_config": text}, "config.json").origins
    assert origins["vocab_size"] == ["text_config.vocab_size"]


def test_defaults_that_bear_on_a_count_are_told_with_what_null_means():
    found = import_config({"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16}, "config.json")
    assert dict(found.defaults) == {
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_inner": 4096,
        "activation_function": "gelu_new",
        "tie_word_embeddings": True,
    }
    (line,) = found.data["assumptions"]
    assert line == (
        "not in config.json, and taken from transformers' GPT2Config: vocab_size 50257, n_positions 1024, "
        "tie_word_embeddings true, n_inner 4096, activation_function gelu_new"
    )


def test_keys_that_do_not_matter_are_listed():
    assert import_config(LLAMA, "config.json").ignored == [
        *("architectures", "model_type", "torch_dtype", "bos_token_id"),
    ]


NEO = {"model_type": "gpt_neo", "num_layers": 2, "attention_layers": ["global", "local"]}
QWEN = {"model_type": "qwen2", "num_hidden_layers": 2}
GEMMA = {"model_type": "gemma3_text", "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}


@pytest.mark.parametrize(
    ("config", "key", "place"),
    [
        ({**QWEN, "use_sliding_window": False, "max_window_layers": 1}, "max_window_layers", None),
        ({**QWEN, "layer_types": ["full_attention"] * 2, "use_sliding_window": True}, "use_sliding_window", "repeat"),
        ({**GEMMA, "sliding_window_pattern": 2}, "sliding_window_pattern", None),
        ({**NEO, "attention_types": [[["global"], 2]]}, "attention_types", None),
        ({**QWEN, "initializer_range": 0}, "initializer_range", None),
    ],
)
def test_a_key_that_is_known_is_in_one_of_the_two_lists(config, key, place):
    found = import_config(config, "config.json")
    assert [key] * (place is None) == [one for one in found.ignored if one == key]
    assert [where for where, keys in found.origins.items() if key in keys] == [f"layers.0.{place}"] * bool(place)
    assert {*config} == {*found.ignored, *(key for keys in found.origins.values() for key in keys)} & {*config}


@pytest.mark.parametrize("value", [None, False, [], {}, ""])
def test_an_unknown_key_that_says_nothing_does_not_matter(value):
    assert "flux" in import_config({**LLAMA, "flux": value}, "config.json").ignored


def test_quantized_weights_are_said_and_change_no_count():
    quantized = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}
    found = import_config({**LLAMA, "quantization_config": quantized}, "config.json").data
    assert found["assumptions"][-1] == (
        "weights are stored quantized (fp8): that changes their bytes, and no count of parameters"
    )
    plain = import_config(LLAMA, "config.json").data
    assert found["layers"] == plain["layers"]


@pytest.mark.parametrize("name", ["LlamaModel", "LlamaForSequenceClassification", "MyOwnForCausalLM"])
def test_another_class_than_the_one_that_is_counted_is_told(name):
    assumptions = import_config({**LLAMA, "architectures": [name]}, "config.json").data["assumptions"]
    assert assumptions[0] == f"config.json names {name}; what is counted is LlamaForCausalLM"


def test_gpt2_is_the_gpt2_of_the_catalogue():
    """Its config on the Hub, in the keys that bear on the model."""
    config = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_ctx": 1024, "n_positions": 1024}
    config |= {"vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    assert shape(import_config(config, "config.json").data) == shape(plain(load("gpt2")))


def test_classes_decide_where_no_type_is_said():
    config = {key: value for key, value in LLAMA.items() if key != "model_type"}
    assert import_config(config, "config.json").data["layers"] == import_config(LLAMA, "config.json").data["layers"]


@pytest.mark.parametrize(
    ("file", "said", "name"),
    [
        ("models/llama3-8b/config.json", None, "llama3-8b"),
        ("Qwen--Qwen3-0.6B_config.json", None, "Qwen--Qwen3-0.6B"),
        ("my.model.json", None, "my.model"),
        ("config.json", "meta-llama/Llama-3.1-8B", "Llama-3.1-8B"),
        ("a b/config.json", "x/\x1b[31mé\u202e", "31m"),
        ("-/config.json", "...", "llama-model"),
        ("ü/config.json", 7, "llama-model"),
        (f"{'a' * 300}/config.json", None, "a" * 100),
    ],
)
def test_a_name_is_that_of_the_checkpoint_or_its_folder(file, said, name):
    data = import_config({**LLAMA, "_name_or_path": said}, file).data
    assert data["name"] == name
    Model.model_validate(data)


def test_layers_that_differ_are_kinds_and_a_pattern():
    data = import_config({"model_type": "gemma2", "num_hidden_layers": 26}, "config.json").data
    (group,) = data["layers"]
    assert (group["repeat"], group["pattern"]) == (26, ["local", "global"])
    assert group["kinds"]["local"]["attention"]["window"] == 4096
    assert "window" not in group["kinds"]["global"]["attention"]


def test_a_list_of_layers_rules_over_the_number_that_makes_it():
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = {"model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window_pattern": 2, "layer_types": types}
    (group,) = import_config(config, "config.json").data["layers"]
    assert group["pattern"] == ["global", "local"]  # and starts again after two
    qwen = {"model_type": "qwen2", "num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 128}
    (group,) = import_config({**qwen, "layer_types": types}, "config.json").data["layers"]
    assert group["kinds"]["local"]["attention"]["window"] == 128


def test_smollm3_has_no_positions_in_each_fourth_layer():
    (group,) = import_config({"model_type": "smollm3"}, "config.json").data["layers"]
    assert group["pattern"] == ["rotary"] * 3 + ["without_positions"]
    assert "rotary" not in group["kinds"]["without_positions"]["attention"]
    listed = {"model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layers": [0, 1, 1, 1]}
    (group,) = import_config(listed, "config.json").data["layers"]
    assert group["pattern"] == ["without_positions", "rotary", "rotary", "rotary"]


def test_exaone4_may_say_its_pattern_in_letters():
    config = {"model_type": "exaone4", "num_hidden_layers": 8, "sliding_window_pattern": "LLLG"}
    (group,) = import_config(config, "config.json").data["layers"]
    assert group["pattern"] == ["local", "local", "local", "global"]
    assert "rotary" not in group["kinds"]["global"]["attention"]
    (group,) = import_config({**config, "sliding_window": None}, "config.json").data["layers"]
    assert "rotary" in group["attention"]
    assert "window" not in group["attention"]


# The seven wrappers of which transformers' class was built with every pair of ties.
@pytest.mark.parametrize(
    ("model_type", "outer", "inner", "tied"),
    [
        ("gemma3", None, None, True),
        ("gemma3", False, True, False),
        ("mistral3", None, None, False),  # the text model's class; the outer class would tie, its checkpoints do not
        ("mistral3", None, True, True),
        ("mistral3", True, False, True),
        ("llava", False, True, True),
        ("qwen2_vl", False, False, False),
        ("qwen3_vl", True, False, True),
        ("idefics3", False, True, False),
        ("voxtral", True, True, False),  # transformers' class has a head of its own, whatever is said
        ("qwen2_audio", None, True, False),
    ],
)
def test_a_tie_is_the_wrappers_where_it_says_one(model_type, outer, inner, tied):
    text = {"num_hidden_layers": 2} | ({} if inner is None else {"tie_word_embeddings": inner})
    config = {"model_type": model_type, "text_config": text, "vision_config": {"depth": 2}}
    config |= {} if outer is None else {"tie_word_embeddings": outer}
    data = import_config(config, "config.json").data
    assert data["unembedding"]["tied"] is tied
    assert data["assumptions"][0].startswith(f"only the text model of {model_type} is counted, without ")
    asks_inside = outer is None and model_type in ("gemma3", "mistral3")
    assert ("is that of text_config" in data["assumptions"][0]) is asks_inside


@pytest.mark.parametrize("inner", ["gemma", "gemma2"])
def test_paligemma_writes_the_tokens_of_an_image_into_its_text_model(inner):
    text = {"model_type": inner, "num_hidden_layers": 2, "num_image_tokens": 256}
    data = import_config({"model_type": "paligemma", "text_config": text, "vision_config": {}}, "config.json").data
    assert data["layers"][0]["repeat"] == 2


def test_phi_4_multimodal_has_sizes_of_its_class_where_it_says_none():
    flat = {"model_type": "phi4_multimodal", "hidden_size": 3072, "vision_config": {}, "vision_lora": {"r": 256}}
    data = import_config(flat, "config.json").data
    assert (data["vocab_size"], data["context_length"]) == (200_064, 131_072)  # of Phi4MultimodalConfig
    assert data["layers"][0]["attention"]["n_kv_heads"] == 8
    assert "adapters" in data["assumptions"][0]


def test_an_old_file_has_the_text_models_keys_at_the_top():
    flat = {"model_type": "qwen2_vl", "hidden_size": 1536, "num_attention_heads": 12, "num_key_value_heads": 2}
    flat |= {"tie_word_embeddings": True, "vision_config": {"depth": 32}, "vision_start_token_id": 1}
    flat |= {"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}
    data = import_config(flat, "config.json").data
    assert (data["d_model"], data["unembedding"]["tied"]) == (1536, True)
    assert data["layers"][0]["attention"]["rotary"] == {"d_rotary": 128, "theta": 1_000_000.0}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"{", "c.json:1:2: is not JSON: Expecting property name enclosed in double quotes"),
        (b"[]", "c.json: is not a JSON object; got list"),
        (b'{"a": 1, "a": 2}', "c.json: has the key 'a' twice"),
        (b'{"a": NaN}', "c.json: has NaN, which JSON does not have"),
        (b'{"a": -Infinity}', "c.json: has -Infinity, which JSON does not have"),
        (b"\xff", "c.json:1:1: is not UTF-8; got b'\\xff'"),
        (b"[" * 200_000, "c.json: is not readable JSON: nested too deeply, or a number is too long"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "c.json: is not readable JSON: nested too deeply, or a number is too long"),
        (b" " * (4 * 2**20 + 1), "c.json: is larger than 4,194,304 bytes"),
        (b"[" + b"1," * 500_000, "c.json: has more than 400,000 values"),
    ],
)
def test_a_file_that_is_no_config_is_told(data, line):
    with pytest.raises(Invalid) as caught:
        parse_config(data, "c.json")
    assert str(caught.value) == line


def test_a_config_is_read_with_a_mark_of_its_encoding():
    assert parse_config(b'\xef\xbb\xbf{"model_type": "llama"}', "c.json") == {"model_type": "llama"}
