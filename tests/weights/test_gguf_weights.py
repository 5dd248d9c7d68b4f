"""Weights from GGUF files: the logits of transformers' model that they were converted from, block formats, refusals."""

import pytest
from command import ask
from ggufmodels import BASE, LLAMA, S, V, logits, made_of, ours
from ggufs import converted, gguf_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

import archcalc  # noqa: E402
from archcalc.errors import Invalid  # noqa: E402
from archcalc.huggingface.factors import shortest  # noqa: E402
from archcalc_reference.weights.folder import load_weights  # noqa: E402

_GEMMA = {**LLAMA, "head_dim": 24, "tie_word_embeddings": True, "sliding_window": 6}
MODELS = {
    "llama": {"model_type": "llama", **LLAMA, "rope_theta": 5e4},
    "llama-tied": {"model_type": "llama", **LLAMA, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **LLAMA, "rope_theta": 1e6},
    "qwen3": {"model_type": "qwen3", **LLAMA, "head_dim": 24, "rope_theta": 1e6, "tie_word_embeddings": True},
    "gemma": {"model_type": "gemma", **_GEMMA, "sliding_window": None},
    "gemma2": {"model_type": "gemma2", **_GEMMA, "query_pre_attn_scalar": 24},
    "gemma3": {
        "model_type": "gemma3_text",
        **_GEMMA,
        "query_pre_attn_scalar": 24,
        "num_hidden_layers": 7,
        "rope_theta": 1e6,
    },
    "gpt2": {
        "model_type": "gpt2",
        **BASE,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 96,
        "n_positions": S,
    },
}
"""Configs by the name of llama.cpp's architecture; 1,536 and 96 are multiples of 32, as blocks are."""


def made(name, **changes):
    return made_of({**MODELS[name], **changes})


@pytest.mark.parametrize("name", MODELS)
def test_a_gguf_file_gives_the_logits_of_the_model_that_it_was_made_from(name, tmp_path):
    model = made(name)
    path = converted(model, tmp_path / "m.gguf", name.partition("-")[0])
    assert archcalc.params(archcalc.load(path)).stored == sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_transformers_reads_the_same_from_these_files(name, tmp_path):
    pytest.importorskip("accelerate", reason="transformers needs it to read GGUF")
    path = converted(made(name), tmp_path / "m.gguf", name, vocab_size=V)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    torch.testing.assert_close(ours(path), logits(theirs.eval()), atol=1e-4, rtol=0)


def _far(path, model):
    """How far the logits are from the model's."""
    return (ours(path) - logits(model)).abs().max().item()


def test_wrong_variants_are_seen(tmp_path):
    model = made("llama", rope_theta=5e4)
    assert _far(converted(model, tmp_path / "a.gguf", "llama", weave=False), model) > 0.1
    assert _far(converted(model, tmp_path / "b.gguf", "llama", rope__freq_base=1e4), model) > 0.005
    tied = made("llama-tied")
    path = converted(tied, tmp_path / "c.gguf", "llama")
    assert archcalc.load(path).unembedding.tied
    with torch.no_grad():
        tied.model.embed_tokens.weight[2] *= 3
    assert _far(path, tied) > 0.1


KINDS = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q6_K", "IQ4_XS"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_format_is_dequantized_as_the_package_does(kind, tmp_path):
    """Bytes of blocks drawn at random: the package's own numbers of each row are those of the table."""
    import numpy as np

    path = _of_blocks(tmp_path / "m.gguf", kind)
    read = gguf.GGUFReader(path)
    theirs = {one.name: gguf.quants.dequantize(one.data, one.tensor_type) for one in read.tensors}
    model = load_weights(archcalc.load(path), str(path))
    assert model.embedding.token.weight.dtype == torch.float32
    np.testing.assert_array_equal(model.embedding.token.weight.detach().numpy(), theirs["token_embd.weight"])
    np.testing.assert_array_equal(model.layers[0].mlp.down.weight.detach().numpy(), theirs["blk.0.ffn_down.weight"])


def _of_blocks(path, kind):
    """A Llama of one layer whose widths are whole blocks, with matrices of random bytes and scales that are finite."""
    import numpy as np

    rng = np.random.default_rng(0)
    number = gguf.GGMLQuantizationType[kind]
    sizes = {"token_embd": (40, 256), "blk.0.ffn_up": (512, 256), "blk.0.ffn_gate": (512, 256)}
    sizes |= {"blk.0.ffn_down": (256, 512), "blk.0.attn_output": (256, 256)}
    sizes |= {"blk.0.attn_q": (256, 256), "blk.0.attn_k": (128, 256), "blk.0.attn_v": (128, 256)}
    writer = gguf.GGUFWriter(path, "llama")
    said = {"context_length": 32, "embedding_length": 256, "block_count": 1, "feed_forward_length": 512}
    for key, value in {**said, "attention.head_count": 4, "attention.head_count_kv": 2}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    for name, shape in sizes.items():
        if kind in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):  # the package writes these too
            data = gguf.quants.quantize(rng.standard_normal(shape).astype(np.float32), number)
        else:
            width = gguf.quant_shape_to_byte_shape(shape, number)[-1]
            data = rng.integers(0, 60, (shape[0], width), dtype=np.uint8)  # a half of a byte below 60 is finite
        writer.add_tensor(f"{name}.weight", data, raw_dtype=number)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(256, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_epsilons_and_bases_are_the_decimals_that_they_were_before(tmp_path):
    model = archcalc.load(converted(made("llama"), tmp_path / "m.gguf", "llama"))
    assert model.final_norm.epsilon == 1e-5  # as float32, 9.999999747378752e-06
    assert model.layers[0].attention.rotary.theta == 50_000


def test_scaling_of_llama_3_is_told_from_its_factors(tmp_path):
    """The file keeps the factors alone: those of transformers' own angles, with and without scaling."""
    scaled = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaled |= {"original_max_position_embeddings": 8192, "rope_theta": 5e5}
    model = made("llama", rope_parameters=scaled, head_dim=16)
    plain = 5e5 ** (-torch.arange(0, 16, 2) / 16)
    factors = plain / model.model.rotary_emb.inv_freq
    model.register_buffer("rope_freqs", factors)
    path = _with_factors(model, tmp_path / "m.gguf", factors)
    assert archcalc.load(path).layers[0].attention.rotary.scaling.factor == 32
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)
    other = _with_factors(model, tmp_path / "n.gguf", factors * 1.1)
    with pytest.raises(Invalid, match=r"rope_freqs\.weight: has factors of frequencies that are not those of Llama 3"):
        archcalc.load(other)


def _with_factors(model, path, factors):
    class Also:
        config = model.config

        @staticmethod
        def state_dict():
            own = {name: tensor for name, tensor in model.state_dict().items() if name != "rope_freqs"}
            return {**own, "rope_freqs.weight": factors}

    return converted(Also, path, "llama")


def test_what_is_not_read_is_named(tmp_path):
    keys = {"general__name": "m"}
    path = gguf_file(tmp_path / "a.gguf", {"token_embd.weight": ((8, 32), "F32")}, "mamba2", **keys)
    answer = ask("report", str(path))
    assert answer.code == 2
    said = "general.architecture: is an architecture whose GGUF files are not read as a spec yet; got 'mamba2'; supported: "
    assert f"{path}: {said}" in answer.err
    assert len(answer.err) < len(str(path)) + 400
    model = made("llama")
    path = converted(model, tmp_path / "b.gguf", "llama", expert_group_count=8)
    assert ask("report", str(path)).err == f"{path}: llama.expert_group_count: is not supported yet; got 8\n"
    path = converted(model, tmp_path / "c.gguf", "llama", leave=["block_count"])
    assert ask("report", str(path)).err == f"{path}: llama.block_count: is missing\n"
    path = converted(model, tmp_path / "d.gguf", "llama", rope__dimension_count=8)
    said = "llama.rope.dimension_count: must be the width of a head, 16; another one is not supported yet; got 8"
    assert ask("report", str(path)).err == f"{path}: {said}\n"
    layers = model.config.num_hidden_layers
    path = converted(model, tmp_path / "f.gguf", "llama", leave=["block_count"], block_count=10_000)
    said = f"llama.block_count: must be {layers}, the number of blocks that the file has tensors of; got 10,000"
    assert ask("check", str(path), "--weights", str(path)).err == f"{path}: {said}\n"
    path = converted(model, tmp_path / "e.gguf", "llama", rope__scaling__type="longrope")
    assert "is a scaling of positions that is not supported yet; got 'longrope'" in ask("report", str(path)).err


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"attn_factor": 1.5}, "attn_factor: is not supported yet; got 1.5"),
        ({"factor": -1.0}, "factor: must be a number, at least 0; got -1.0"),
        ({"factor": [1.0] * 7, "type": "linear"}, "factor: has a value for each layer"),
        ({"type": "longrope"}, "type: is a scaling of positions that is not supported yet"),
    ],
)
def test_what_scales_positions_is_read_or_refused(tmp_path, keys, said):
    scaling = {f"rope__scaling__{key}": value for key, value in keys.items()}
    path = converted(made("llama"), tmp_path / "m.gguf", "llama", **scaling)
    assert f"{path}: llama.rope.scaling.{said}" in ask("report", str(path)).err


def test_a_scaling_without_a_type_is_linear_and_without_a_factor_there_is_none(tmp_path):
    """llama-model.cpp: LLAMA_ROPE_SCALING_TYPE_LINEAR, and a factor of 0 is one of 1."""
    model = made("llama", rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4})
    path = converted(model, tmp_path / "a.gguf", "llama", rope__scaling__factor=4.0)
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)
    model = made("llama")
    path = converted(model, tmp_path / "b.gguf", "llama", rope__scaling__type="yarn")
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "key"), [("gemma", "attention.key_length"), ("llama", "attention.head_count_kv")])
def test_keys_that_are_left_out_are_those_of_llama_cpp(name, key, tmp_path):
    """As many key/value heads as heads, each d_model / n_heads wide, whatever transformers' class has."""
    heads = 64 // 16 if name == "gemma" else 4
    model = made(name, num_key_value_heads=heads, head_dim=64 // heads, hidden_size=64, num_attention_heads=heads)
    path = converted(model, tmp_path / "m.gguf", name, leave=[key])
    assert archcalc.params(archcalc.load(path)).stored == sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(ours(path), logits(model), atol=1e-4, rtol=0)


def test_a_number_beyond_float32_stays_what_it_is():
    assert shortest(1e300) == 1e300


def test_a_spec_that_differs_is_told_what_differs(tmp_path):
    path = converted(made("llama"), tmp_path / "m.gguf", "llama")
    spec = f"{path}@n_kv_heads=4"
    answer = ask("predict", spec, "--weights", str(path), "-p", "x")
    assert answer.code == 2
    assert answer.err == (
        f"{path}: has weights of another shape than {archcalc.load(spec).name}@n_kv_heads=4: its keys say "
        f"layers.0.attention.n_kv_heads 2; say {path} in place of {spec}, without --weights\n"
    )
    with pytest.raises(
        Invalid, match=r"llama\.rope\.freq_base: describes a model whose attention\.rotary\.theta is 50"
    ):
        load_weights(archcalc.load(f"{path}@theta=10000"), str(path))


def test_a_folder_without_weights_says_what_it_has(tmp_path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "refs").mkdir()
    answer = ask("predict", "gpt2", "--weights", str(tmp_path), "-p", "x")
    said = "is a model's folder in the cache of the Hugging Face Hub, whose files are in its snapshots"
    assert answer[::2] == (3, f"{tmp_path}: {said}; name one: {tmp_path}/snapshots/COMMIT\n")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    answer = ask("predict", "gpt2", "--weights", str(tmp_path), "-p", "x")
    assert answer.code == 2
    assert "holds pytorch_model.bin and no model.safetensors; pickles are not read" in answer.err


def test_weights_without_a_table_of_positions_serve_a_shorter_context(tmp_path):
    model = made("llama")
    path = converted(model, tmp_path / "m.gguf", "llama")
    most = archcalc.load(str(path)).context_length
    ids = torch.arange(8)[None]
    short, whole = (load_weights(archcalc.load(f"{path}@context_length={n}"), str(path)) for n in (most // 2, most))
    assert torch.equal(short(ids).logits, whole(ids).logits)
    with pytest.raises(Invalid, match="context_length"):
        load_weights(archcalc.load(f"{path}@context_length={2 * most}"), str(path))
    learned = converted(made("gpt2"), tmp_path / "g.gguf", "gpt2")
    with pytest.raises(Invalid):
        load_weights(archcalc.load(f"{learned}@context_length={most // 2}"), str(learned))


def test_a_context_that_is_too_long_is_told_as_that(tmp_path):
    path = converted(made("llama"), tmp_path / "m.gguf", "llama")
    most = archcalc.load(str(path)).context_length
    answer = ask("predict", f"{path}@context_length={most + 1}", "-p", "x")
    assert answer.code == 2
    assert f"context_length: must be at most {most:,}, as {path} says; got {most + 1:,}" in answer.err
