"""What is not supported is called by its name, never taken for a misspelling of what is."""

import json
import re
import time
from typing import get_args

import pytest
from command import ask
from goodspec import GOOD

from archcalc import check
from archcalc.blocks.activation import Activation
from archcalc.blocks.base import Slot, registered
from archcalc.spec.unsupported import config, family, feature, other_name

NORM, HEADS, MLP = "{kind: layernorm, bias: true}", "kind: multi_head", "kind: plain"

# An edit of a good spec, and what is said of it, without place and value.
EDITS = {
    "relative": ("positions: learned", "positions: relative", "relative positions are"),
    "sections": (
        "{positions: learned}",
        "{positions: learned, mrope_section: 1}",
        "rotary positions in several dimensions are",
    ),
    "batch norm": (
        f"final_norm: {NORM}",
        "final_norm: {kind: batch_norm}",
        "norms other than LayerNorm and RMSNorm are",
    ),
    "DeepNorm": (f"final_norm: {NORM}", "final_norm: {kind: DeepNorm}", "DeepNorm is"),
    "linear": (HEADS, "kind: retention", "linear attention of this kind is"),
    "state space": (HEADS, "kind: s4", "state-space layers of this kind are"),
    "rwkv": (HEADS, "kind: rwkv", "recurrent layers are"),
    "sparse": (HEADS, "kind: sparse", "sparse attention is"),
    "mish": ("activation: gelu_tanh", "activation: mish", "this activation is"),
    "cross": ("- repeat: 2", "- repeat: 2\n    cross_attention: true", "cross-attention is"),
    "vision": ("vocab_size: 10", "vocab_size: 10\nvision_config: {}", "vision and audio encoders are"),
    "quantized": ("vocab_size: 10", "vocab_size: 10\nquantization_config: {bits: 4}", "quantized weights are"),
}


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(old, new):
        assert old in GOOD
        (tmp_path / "s.yaml").write_text(GOOD.replace(old, new, 1))
        return ask("params", "s.yaml")

    return write


@pytest.mark.parametrize(("old", "new", "what"), EDITS.values(), ids=EDITS)
def test_a_feature_that_is_not_supported_is_named(spec, old, new, what):
    answer = spec(old, new)
    assert answer.code == 2
    line = next(line for line in answer.err.splitlines() if "not supported" in line)
    assert f": {what} not supported yet" in line
    assert "did you mean" not in answer.err
    if ": {kind" in new or old in (HEADS, MLP) or old == "positions: learned" or old.startswith("activation"):
        assert re.search("; got '.*'; supported: [a-z]", line), line


@pytest.mark.parametrize("off", ["false", "null"])
def test_a_feature_that_is_turned_off_can_be_left_out(spec, off):
    err = spec("n_heads: 4", f"n_heads: 4, cross_attention: {off}").err
    assert err.endswith(": unknown field; leave it out: cross-attention is not supported yet\n")


# What other programs call a word of a spec, by their own configurations.
OTHER = {
    "kind: grouped_query": (HEADS, "'multi_head'"),
    "kind: gqa": (HEADS, "'multi_head'"),
    "kind: multi_query": (HEADS, "'multi_head'"),
    "kind: mlp": (MLP, "'plain'"),
    "kind: ffn": (MLP, "'plain'"),
    "activation: gelu_new": ("activation: gelu_tanh", "'gelu_tanh'"),
    "activation: gelu_pytorch_tanh": ("activation: gelu_tanh", "'gelu_tanh'"),
    "positions: absolute": ("positions: learned", "'learned'"),
    "num_attention_heads: 4": ("n_heads: 4", "'n_heads'"),
    "hidden_size: 8": ("d_model: 8", "'d_model'"),
    "n_positions: 7": ("context_length: 7", "'context_length'"),
    "max_position_embeddings: 7": ("context_length: 7", "'context_length'"),
    "intermediate_size: 11": ("d_ff: 11", "'d_ff'"),
    "num_key_value_heads: 2": ("n_kv_heads: 2", "'n_kv_heads'"),
    "head_dim: 2": ("d_head: 2", "'d_head'"),
    "num_hidden_layers: 2": ("repeat: 2", "'repeat'"),
    "tie_word_embeddings: true": ("tied: true", "'tied'"),
    "kind: swiglu": (MLP, "'gated'"),
    "kind: RMSNorm": ("kind: layernorm", "'rmsnorm'"),
    "kind: rms_norm": ("kind: layernorm", "'rmsnorm'"),
    "activation: swish": ("activation: gelu_tanh", "'silu'"),
    "activation: relu_squared": ("activation: gelu_tanh", "'relu2'"),
    "positions: nope": ("positions: learned", "'none'"),
    "n_heads: 4, rope_parameters: {}": ("n_heads: 4", "'rotary'"),
    "n_heads: 4, sliding_window: 128": ("n_heads: 4", "'window'"),
    "n_heads: 4, use_qk_norm: true": ("n_heads: 4", "'qk_norm'"),
    "n_heads: 4, attn_logit_softcapping: 50.0": ("n_heads: 4", "'softcap'"),
    "n_heads: 4, clip_qkv: 8.0": ("n_heads: 4", "'clip'"),
    "n_heads: 4, attention_sinks: true": ("n_heads: 4", "'sinks'"),
    "n_heads: 4, v_head_dim: 2": ("n_heads: 4", "'d_value'"),
    "n_heads: 4, attention_value_scale: 0.7": ("n_heads: 4", "'value_scale'"),
    "- repeat: 2\n    parallel_residual: true": ("- repeat: 2", "'parallel'"),
}


@pytest.mark.parametrize(("new", "old", "ours"), [(new, *rest) for new, rest in OTHER.items()])
def test_another_program_s_word_is_told_as_ours(spec, new, old, ours):
    answer = spec(old, new)
    assert answer.code == 2
    assert f"; here it is called {ours}" in answer.err


def test_a_setting_that_is_no_part_of_a_model_names_its_flag(spec):
    assert "batch_size: unknown field; --batch sets it" in spec("vocab_size: 10", "vocab_size: 10\nbatch_size: 8").err


QUESTIONS = {
    "cross_attention=1": "cross_attention: cross-attention is not supported yet",
    "positions=relative": "embedding.positions: relative positions are not supported yet; got 'relative'; supported: learned, sinusoidal, none",
    "num_hidden_layers=3": "num_hidden_layers: unknown field; here it is called 'n_layers'",
    "hidden_size=1024": "hidden_size: unknown field; here it is called 'd_model'",
}


@pytest.mark.parametrize(("question", "said"), QUESTIONS.items())
def test_a_question_is_answered_in_the_same_words(question, said):
    answer = ask("params", f"gpt2@{question}")
    assert (answer.code, answer.err) == (2, f"gpt2@{question}: {said}\n")


LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32000,
}
IMPORT = "a Hugging Face config.json of model_type 'llama', but not in JSON, as those are read"


@pytest.mark.parametrize("command", ["report", "params", "flops", "memory", "trace", "explain", "sweep"])
def test_a_hugging_face_config_in_yaml_is_called_that(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in LLAMA.items()))
    name = "llama.yaml"
    more = {"explain": ["flops.total"], "sweep": ["--vary", "d_model=64"]}.get(command, [])
    answer = ask(command, name, *more)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert IMPORT in answer.err
    assert ask("check", name).code in (1, 2)  # a folder without a spec cannot be checked
    assert [problem.message for problem in check(name)] == [f"is {IMPORT}"]


@pytest.mark.parametrize(
    ("name", "file"),
    [("config.json", "config.json"), (".", "config.json"), *((name, name) for name in ("llama.cfg", "llama.yaml"))],
)
def test_a_hugging_face_config_is_a_spec_as_a_folder_and_as_a_file_of_any_name(name, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / file).write_text(json.dumps(LLAMA))
    answer = ask("params", name, "-f", "json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.json["parameters"]["stored"] == 6_738_415_616  # Touvron et al. 2023, arXiv:2302.13971, Table 2: 6.7B


def test_a_config_by_any_name_is_imported_up_to_its_own_bound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama.cfg").write_text(json.dumps({**LLAMA, "id2label": {"0": "x" * 2**20}}))
    assert "name: llama\n" in ask("import", "llama.cfg").out
    (tmp_path / "llama.cfg").write_text('{"model_type": "llama", "hidden_size": 64,}')
    assert re.match(r"llama\.cfg:1:\d+: is not JSON: ", ask("params", "llama.cfg").err)


def test_fields_of_llama_in_yaml_are_told_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("hidden_size: 4096\nnum_hidden_layers: 32\nnum_attention_heads: 32\n")
    said = "s.yaml: has the fields of a Hugging Face config.json, but not in JSON, as those are read; "
    assert ask("report", "s.yaml").err.startswith(said)


FILES = {
    "model.gguf": "is not a GGUF file: it does not begin with the letters GGUF",
    "model.safetensors": "is a safetensors file and not a spec; `archcalc params` counts its weights",
    "pytorch_model.bin": "is a PyTorch file; importing those is not supported yet",
    "other.json": "is not a JSON object; got list",
    "broken.json": "is UTF-16, not UTF-8; save it as UTF-8",
}


@pytest.mark.parametrize(("name", "said"), FILES.items())
def test_a_file_of_another_format_is_called_that(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"[1, 2]" if name == "other.json" else b"\0\xff{")
    assert ask("report", name).err.startswith(f"{name}: {said}")
    (tmp_path / name).unlink()
    assert ask("report", name)[::2] == (3, f"{name}: no such file\n")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("grok-1", "mixtures of experts of this kind are"),
        ("bert-base-uncased", "bidirectional attention is"),
        ("t5-small", "encoder-decoder models are"),
        ("zamba-7b", "Mamba with several heads is"),
    ],
)
def test_a_model_that_is_not_in_the_catalogue_is_told_why(name, what):
    answer = ask("report", name)
    said = f"{name}: is not in the catalogue: {what} not supported yet; `archcalc list` shows the catalogue\n"
    assert (answer.code, answer.err) == (2, said)


@pytest.mark.parametrize("flag", ["--lora", "--quantization"])
def test_a_flag_that_asks_for_what_is_not_supported_is_told_so(flag):
    answer = ask("memory", "gpt2", flag, "8")
    assert answer.code == 2
    assert re.fullmatch(rf"archcalc memory: no such option: {flag}: .* not supported yet\n", answer.err), answer.err


def test_no_field_or_kind_of_a_spec_is_called_unsupported():
    from archcalc.spec.catalogue import find, names
    from archcalc.spec.names import fields

    for name in names():
        assert family(name) is None
        found = find(name)
        assert config(found.document.data) is None
        for path in fields(found.document):
            assert feature(path) is None, path
            assert other_name(path.split(".")[-1]) is None, path
    kinds = {kind for slot in Slot.__subclasses__() for kind in registered(slot)}
    assert {"multi_head", "gated", "rmsnorm", "llama3"} <= kinds
    for word in (*kinds, *get_args(Activation), "learned", "none", "halves", "neighbours", "shared", "own", "scaled"):
        assert feature(word) is None, word
        assert other_name(word) in (None, word), word


def test_misspellings_are_still_told_as_such(spec):
    assert spec("n_heads: 4", "n_haeds: 4").err.endswith("unknown field; did you mean 'n_heads'?\n")
    assert spec("kind: plain", "kind: plian").err.endswith(
        "must be plain or gated or experts; got 'plian'; did you mean 'plain'?\n"
    )


def test_many_unknown_fields_take_no_longer_than_they_did():
    began = time.perf_counter()
    for i in range(20_000):
        feature(f"unknown_field_{i}")
    assert time.perf_counter() - began < 2
