"""GGUF files of further architectures: the parameters and logits of transformers' models, and those of llama.cpp."""

import pytest
from command import ask
from ggufmodels import LLAMA, TOKENS, S, V, logits, made_of, ours
from ggufs import converted
from smollm2 import by_llama_cpp, needs_llama_cpp

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

import archcalc  # noqa: E402
from archcalc.errors import Invalid  # noqa: E402

_QWEN = {
    **LLAMA,
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
}
_EVEN = {key: value for key, value in LLAMA.items() if key != "rms_norm_eps"}
_LOCAL = {**LLAMA, "num_local_experts": 6, "num_experts_per_tok": 2}
_GRANITE = {
    "attention_multiplier": 0.3,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.0,
}
_COHERE = {**_EVEN, "layer_norm_eps": 1e-5, "logit_scale": 0.25, "tie_word_embeddings": True, "head_dim": 16}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 150_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
}
MODELS = {
    "llama": {"model_type": "mixtral", **_LOCAL, "head_dim": 16},
    "qwen2moe": {"model_type": "qwen2_moe", **_QWEN, "shared_expert_intermediate_size": 64, "norm_topk_prob": False},
    "qwen3moe": {"model_type": "qwen3_moe", **_QWEN, "head_dim": 24, "norm_topk_prob": True},
    "olmoe": {
        "model_type": "olmoe",
        **LLAMA,
        "num_key_value_heads": 4,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "norm_topk_prob": False,
    },
    "granitemoe": {"model_type": "granitemoeshared", **_LOCAL, **_GRANITE, "shared_intermediate_size": 64},
    "gpt-oss": {"model_type": "gpt_oss", **_LOCAL, "head_dim": 16, "sliding_window": 6, "rope_parameters": _YARN},
    "phi2": {
        "model_type": "phi",
        **_EVEN,
        "num_key_value_heads": 4,
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
    },
    "phi3": {"model_type": "phi3", **LLAMA, "partial_rotary_factor": 0.75, "sliding_window": None},
    "olmo2": {"model_type": "olmo2", **LLAMA},
    "smollm3": {"model_type": "smollm3", **LLAMA, "num_hidden_layers": 5, "use_sliding_window": False},
    "starcoder2": {"model_type": "starcoder2", **_EVEN, "norm_epsilon": 1e-5, "tie_word_embeddings": True},
    "granite": {"model_type": "granite", **LLAMA, **_GRANITE},
    "glm4": {"model_type": "glm4", **LLAMA, "head_dim": 16, "attention_bias": True},
    "command-r": {"model_type": "cohere", **_COHERE},
    "cohere2": {"model_type": "cohere2", **_COHERE, "num_hidden_layers": 5, "sliding_window": 6},
}
KEYS = {
    "phi2": {"rope__dimension_count": 8},
    "phi3": {"rope__dimension_count": 12, "rope__scaling__original_context_length": S, "attention__sliding_window": 0},
    "glm4": {"rope__dimension_count": 8},
    "command-r": {"rope__scaling__type": "none"},
    "cohere2": {"rope__scaling__type": "none", "rope__dimension_count": 16, "vocab_size": V},
    "llama": {"rope__dimension_count": 16, "vocab_size": V},
    "gpt-oss": {
        "expert_feed_forward_length": 96,
        "rope__scaling__type": "yarn",
        "rope__scaling__factor": 4.0,
        "rope__scaling__original_context_length": 16,
        "rope__scaling__yarn_beta_fast": 32.0,
        "rope__scaling__yarn_beta_slow": 1.0,
    },
}
"""What a converter writes beside the sizes."""


def made(name, **changes):
    return made_of({**MODELS[name], **changes})


def texts():
    """A vocabulary without meaning, for llama.cpp reads no file without one."""
    said = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [chr(0x100 + i) for i in range(V)],
        "token_type": [1] * V,
        "merges": ["a b"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "add_bos_token": False,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in said.items()}


def file_of(name, model, path, leave=(), **keys):
    """The file that the converter of its architecture makes of a model: some write no width of a head."""
    without = ("attention.key_length", "attention.value_length") if name in ("phi2", "phi3", "granite") else ()
    return converted(model, path, name, leave=(*without, *leave), texts=texts(), **{**KEYS.get(name, {}), **keys})


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_its_model(name, tmp_path):
    """Its spec has the parameters of transformers' model, and of the file's own header; its logits are the same."""
    model = made(name)
    path = file_of(name, model, tmp_path / "m.gguf")
    stored = archcalc.params(archcalc.load(path)).stored
    assert stored == sum(p.numel() for p in model.parameters())
    assert stored == sum(int(one.n_elements) for one in gguf.GGUFReader(path).tensors)
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


GELU = ("phi2", "starcoder2")


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_computes_the_same(name, tmp_path):
    """Log-probabilities of the likeliest ids of twelve steps; its GELU is a table in half precision."""
    needs_llama_cpp()
    path = file_of(name, made(name), tmp_path / "m.gguf")
    steps = by_llama_cpp(path, list(TOKENS), 12, 20)
    text = [*TOKENS, *(token for token, _ in steps)]
    found = ours(path, text[:-1])[len(TOKENS) - 1 :].log_softmax(-1)
    for logs, (token, theirs) in zip(found, steps, strict=True):
        within = 1e-3 if name in GELU else 2e-5
        assert theirs == pytest.approx({one: logs[one].item() for one in theirs}, abs=within)
        assert logs[1:].argmax().item() + 1 == token  # the end is never drawn


def test_transformers_reads_the_same(tmp_path):
    """It takes widths of experts, and ids of special tokens, from published models: of these rows it reads one."""
    pytest.importorskip("accelerate", reason="transformers needs it to read GGUF")
    path = file_of("starcoder2", made("starcoder2"), tmp_path / "m.gguf", vocab_size=V)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    torch.testing.assert_close(ours(path), logits(theirs.eval()), atol=1e-4, rtol=0)


def test_queries_and_keys_of_command_r_are_normed_where_a_file_has_their_norms(tmp_path):
    model = made("command-r", use_qk_norm=True)
    path = file_of("command-r", model, tmp_path / "m.gguf")
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


def test_older_files_of_qwen_have_no_widths_of_experts(tmp_path):
    """They follow from the MLP's: so wide is the shared expert, and all the chosen ones together."""
    model = made("qwen2moe", intermediate_size=64)
    left = ("expert_feed_forward_length", "expert_shared_feed_forward_length")
    path = file_of("qwen2moe", model, tmp_path / "m.gguf", leave=left)
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("context", "length"), [(64, 10), (64, 30), (16, 10)])
def test_phi_3_has_factors_for_short_contexts_and_for_long_ones(context, length, tmp_path):
    """As transformers picks them: the long ones of a text that is longer than what was trained with."""
    short, long = [1.0 + i / 7 for i in range(8)], [2.0 + i / 3 for i in range(8)]
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": short, "long_factor": long}
    model = made(
        "phi3",
        partial_rotary_factor=1.0,
        max_position_embeddings=context,
        original_max_position_embeddings=16,
        rope_parameters={**rope, "partial_rotary_factor": 1.0, "original_max_position_embeddings": 16},
    )
    path = file_of(
        "phi3",
        _Also(model, {"rope_factors_short.weight": short, "rope_factors_long.weight": long}),
        tmp_path / "m.gguf",
        rope__dimension_count=16,
        rope__scaling__original_context_length=16,
        rope__scaling__attn_factor=(1 + torch.tensor(context / 16).log().item() / 2.772588722) ** 0.5,
    )
    scaling = archcalc.load(path).layers[0].attention.rotary.scaling
    assert (scaling.kind, scaling.short_factor, scaling.attention_factor) == ("longrope", pytest.approx(short), None)
    ids = [(7 * i + 3) % V for i in range(length)]
    torch.testing.assert_close(ours(path, ids), logits(model, ids), atol=1e-4, rtol=0)


def test_the_ramp_of_gpt_oss_is_not_rounded_to_whole_pairs(tmp_path):
    """As its config and transformers have it: with this base it ends between two pairs. llama.cpp rounds."""
    model = made("gpt-oss", rope_parameters={**_YARN, "rope_theta": 10.0})
    path = file_of("gpt-oss", model, tmp_path / "m.gguf")
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


class _Also:
    """A model with tensors beside its own."""

    def __init__(self, model, tensors):
        self.config, self._model, self._tensors = model.config, model, tensors

    def state_dict(self):
        return {**self._model.state_dict(), **{name: torch.tensor(x) for name, x in self._tensors.items()}}


@pytest.mark.parametrize("kind", ["Q8_0", "BF16"])
def test_experts_in_blocks_are_dequantized_all(kind, tmp_path):
    """As many parameters, and the logits of the same model but for the rounding of each number."""
    model = made("llama")
    whole = file_of("llama", model, tmp_path / "f32.gguf")
    path = converted(model, tmp_path / "m.gguf", "llama", kind, texts=texts())
    assert archcalc.params(archcalc.load(path)) == archcalc.params(archcalc.load(whole))
    assert 0 < (ours(path) - ours(whole)).abs().max().item() < 0.2


def test_params_and_check_count_what_the_header_has(tmp_path):
    """The commands: parameters of the file alone, and each tensor held against the spec that its keys say."""
    for name in MODELS:
        path = file_of(name, made(name), tmp_path / f"{name}.gguf")
        stored = sum(int(one.n_elements) for one in gguf.GGUFReader(path).tensors)
        assert f"{stored:,}" in ask("params", str(path)).out
        answer = ask("check", str(path), "--weights", str(path))
        assert answer.code == 0, answer.out + answer.err


def test_settings_that_no_row_knows_are_named(tmp_path):
    path = file_of("llama", made("llama"), tmp_path / "a.gguf", expert_gating_func=2)
    said = f"{path}: llama.expert_gating_func: is not supported yet; got 2\n"
    assert ask("report", str(path))[::2] == (2, said)
    path = file_of("granite", made("granite"), tmp_path / "b.gguf", rope__scaling__finetuned=False)
    with pytest.raises(Invalid, match=r"granite\.rope\.scaling\.finetuned: is read by this architecture as no pos"):
        archcalc.load(path)
    path = file_of("llama", made("llama"), tmp_path / "c.gguf", leave=["expert_used_count"])
    assert ask("report", str(path)).err == f"{path}: llama.expert_used_count: is missing\n"
