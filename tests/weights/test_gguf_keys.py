"""Keys and tensors of GGUF files that bear on the numbers: computed as llama.cpp does, or refused by their names."""

import pytest
from command import ask
from ggufmodels import LLAMA, TOKENS, ours
from smollm2 import by_llama_cpp, needs_llama_cpp

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")

from test_gguf_architectures import GELU, MODELS, _Also, file_of, made, made_of  # noqa: E402

import archcalc  # noqa: E402
from archcalc.errors import Invalid  # noqa: E402
from archcalc.huggingface.factors import shortest  # noqa: E402

_GEMMA = {**LLAMA, "tie_word_embeddings": True, "head_dim": 16}
FURTHER = {
    "gemma": {"model_type": "gemma", **_GEMMA},
    "gemma3": {"model_type": "gemma3_text", **_GEMMA, "sliding_window": 6, "query_pre_attn_scalar": 16},
    "qwen2": {"model_type": "qwen2", **LLAMA},
}
WIDTHS = ["attention.key_length", "attention.value_length"]


def model_of(name, **changes):
    return made_of({**FURTHER[name], **changes}) if name in FURTHER else made(name, **changes)


def agrees(path, name):
    """Whether the log-probabilities of the likeliest ids of twelve steps are llama.cpp's; its GELU is a table."""
    steps = by_llama_cpp(path, list(TOKENS), 12, 20)
    found = ours(path, [*TOKENS, *(token for token, _ in steps)][:-1])[len(TOKENS) - 1 :].log_softmax(-1)
    for logs, (_, theirs) in zip(found, steps, strict=True):
        within = 2e-3 if name in (*GELU, "gemma", "gemma3") else 2e-5
        assert theirs == pytest.approx({one: logs[one].item() for one in theirs}, abs=within)


def scaled(**keys):
    return {f"rope__scaling__{key}": value for key, value in keys.items()}


ROPE = {
    "a factor without a type is linear": ("olmo2", scaled(factor=4.0)),
    "linear without a factor": ("olmo2", scaled(type="linear")),
    "a factor of 0": ("olmo2", scaled(type="linear", factor=0.0)),
    "yarn without a factor": ("olmo2", scaled(type="yarn", original_context_length=16)),
    "none has no factor": ("olmo2", scaled(type="none", factor=4.0)),
    "neutral ones": ("olmo2", scaled(attn_factor=1.0, yarn_attn_factor=1.0, yarn_ext_factor=-1.0)),
    "yarn": ("olmo2", scaled(type="yarn", factor=4.0, original_context_length=16)),
}


@pytest.mark.parametrize(("name", "keys"), ROPE.values(), ids=ROPE)
def test_scaled_positions_are_those_of_llama_cpp(name, keys, tmp_path):
    needs_llama_cpp()
    agrees(file_of(name, model_of(name), tmp_path / "m.gguf", **keys), name)


LEFT = {
    **{f"{name}: heads of keys": (name, {"num_key_value_heads": 4}, ["attention.head_count_kv"]) for name in MODELS},
    **{f"{name}: base": (name, {}, ["rope.freq_base"]) for name in (*MODELS, *FURTHER)},
    **{
        f"{name}: width of heads": (name, {"head_dim": 16}, WIDTHS)
        for name in (*MODELS, *FURTHER)
        if name not in ("phi2", "phi3")
    },
}


@pytest.mark.parametrize(("name", "changes", "left"), LEFT.values(), ids=LEFT)
def test_what_no_key_says_is_what_llama_cpp_takes(name, changes, left, tmp_path):
    """As many heads of keys as of queries, heads as wide as the model over them, a base of 10,000."""
    needs_llama_cpp()
    model = model_of(name, **changes)
    path = file_of(name, model, tmp_path / "m.gguf", left)
    assert archcalc.params(archcalc.load(path)).stored == sum(p.numel() for p in model.parameters())
    agrees(path, name)


def test_the_keys_that_defaults_follow_from_are_told(tmp_path):
    path = file_of(
        "olmo2", made("olmo2", num_attention_heads=3, num_key_value_heads=3, hidden_size=48), tmp_path / "m.gguf"
    )
    assert archcalc.load(path).layers[0].attention.d_head == 16
    model = made("qwen3moe")
    path = file_of("qwen3moe", model, tmp_path / "n.gguf", ["attention.value_length"])
    said = "is missing, which means 16; it must be the width of a head, 24"
    assert ask("report", str(path))[::2] == (2, f"{path}: qwen3moe.attention.value_length: {said}\n")


SCALES = ("attention.scale", "embedding_scale", "residual_scale")


@pytest.mark.parametrize("name", ["granite", "granitemoe"])
@pytest.mark.parametrize("key", SCALES)
@pytest.mark.parametrize("said", [True, False])
def test_multipliers_of_0_or_none_are_not_set(name, key, said, tmp_path):
    needs_llama_cpp()
    keys = {key.replace(".", "__"): 0.0} if said else {}
    agrees(file_of(name, made(name), tmp_path / "m.gguf", [] if said else [key], **keys), name)


@pytest.mark.parametrize("name", ["command-r", "cohere2"])
def test_logits_are_not_scaled_by_0(name, tmp_path):
    needs_llama_cpp()
    agrees(file_of(name, made(name), tmp_path / "m.gguf", logit_scale=0.0), name)


@pytest.mark.parametrize("name", ["llama", "granite", "granitemoe"])
def test_factors_that_change_nothing_may_be_there(name, tmp_path):
    needs_llama_cpp()
    agrees(file_of(name, _Also(made(name), {"rope_freqs.weight": [1.0] * 8}), tmp_path / "m.gguf"), name)


@pytest.mark.parametrize("growth", [None, 1.3])
def test_sines_of_two_lists_grow_as_a_key_says(growth, tmp_path):
    """Without a key by 1, whatever the contexts are: transformers' config would have them grow."""
    needs_llama_cpp()
    lists = {"rope_factors_short.weight": [1.5] * 6, "rope_factors_long.weight": [1.5] * 6}
    keys = scaled(original_context_length=16, **({"attn_factor": growth} if growth else {}))
    agrees(file_of("phi3", _Also(made("phi3"), lists), tmp_path / "m.gguf", **keys), "phi3")


def test_no_shared_experts_are_none(tmp_path):
    needs_llama_cpp()
    agrees(file_of("qwen3moe", made("qwen3moe"), tmp_path / "m.gguf", expert_shared_count=0), "qwen3moe")


FREQS = {"rope_freqs.weight": [1.0] * 8}
BOTH = {"rope_factors_short.weight": [1.5] * 6, "rope_factors_long.weight": [1.5] * 6}
EIGHT = {name: [1.5] * 8 for name in BOTH}
BESIDE = "is not supported yet beside {}, which scales positions too; got 4.0"
HAS_NOT = "is a tensor that this architecture has not"
LISTED = "has a value for each layer, which is not supported yet"
REFUSED = {
    "growth without a type": ("llama", {}, scaled(attn_factor=1.5), "llama.rope.scaling.attn_factor: is not supported yet; got 1.5"),
    "growth of none": ("llama", {}, scaled(type="none", attn_factor=1.5), "llama.rope.scaling.attn_factor: is not supported yet; got 1.5"),
    "growth of linear": ("llama", {}, scaled(factor=2.0, yarn_attn_factor=1.5), "llama.rope.scaling.yarn_attn_factor: is not supported yet; got 1.5"),
    "yarn's share of linear": ("llama", {}, scaled(factor=2.0, yarn_ext_factor=1.0), "llama.rope.scaling.yarn_ext_factor: is not supported yet; got 1.0"),
    "another key": ("llama", {}, scaled(alpha=1.5), "llama.rope.scaling.alpha: is not supported yet; got 1.5"),
    "a factor that is text": ("llama", {}, scaled(factor="2"), "llama.rope.scaling.factor: must be a number, at least 0; got '2'"),
    "a factor below 0": ("llama", {}, scaled(factor=-2.0), "llama.rope.scaling.factor: must be a number, at least 0; got -2.0"),
    "no number": ("llama", {}, scaled(factor=float("nan")), "llama.rope.scaling.factor: must be a number, at least 0; got nan"),
    "factors and linear": ("llama", FREQS, scaled(type="linear", factor=4.0), f"llama.rope.scaling.factor: {BESIDE.format(*FREQS)}"),
    "factors and yarn": ("llama", FREQS, scaled(type="yarn", factor=4.0), f"llama.rope.scaling.factor: {BESIDE.format(*FREQS)}"),
    "factors and growth": ("llama", FREQS, scaled(attn_factor=1.5), "llama.rope.scaling.attn_factor: is not supported yet; got 1.5"),
    "lists and linear": ("phi3", BOTH, scaled(type="linear", factor=4.0), f"phi3.rope.scaling.factor: {BESIDE.format(*BOTH)}"),
    "one list": ("phi3", dict([*BOTH.items()][:1]), {}, "rope_factors_long.weight: is missing, and the other list of factors is there"),
    "a list of factors": ("llama", {}, scaled(factor=[1.0] * 7), f"llama.rope.scaling.factor: {LISTED}"),
    "a list of contexts": ("phi3", BOTH, scaled(original_context_length=[1] * 16), f"phi3.rope.scaling.original_context_length: {LISTED}"),
    "a list of widths": ("llama", {}, {"rope__dimension_count": [1] * 16}, f"llama.rope.dimension_count: {LISTED}"),
    "a list of one": ("llama", {}, {"expert_group_count": [1]}, f"llama.expert_group_count: {LISTED}"),
    "a correction": ("llama", {"blk.0.exp_probs_b.bias": [0.5] * 6}, {}, f"blk.0.exp_probs_b.bias: {HAS_NOT}"),
    "frequencies": ("llama", {"blk.0.rotary_emb.inv_freq": [0.5] * 8}, {}, f"blk.0.rotary_emb.inv_freq: {HAS_NOT}"),
    "factors of another": ("qwen2", FREQS, {}, f"rope_freqs.weight: {HAS_NOT}"),
    "factors of Gemma": ("gemma", FREQS, {}, f"rope_freqs.weight: {HAS_NOT}"),
    "factors of SmolLM3": ("smollm3", FREQS, {}, f"rope_freqs.weight: {HAS_NOT}"),
    "half the factors": ("llama", {"rope_freqs.weight": [1.0] * 4}, {}, "rope_freqs.weight: must have a number for each of the 8 pairs of features that are turned; got 4 numbers"),
    "lists of another": ("llama", EIGHT, {}, f"rope_factors_short.weight: {HAS_NOT}"),
    "no float32": ("llama", {}, {"rope__freq_base": np.float64(1e300)}, "llama.rope.freq_base: must be more than 0 and at most 1e+15; got 1e+300"),
    "a base of 0 beside factors": ("llama", FREQS, {"rope__freq_base": 0.0}, "llama.rope.freq_base: must be more than 0 and at most 1e+15; got 0.0"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "tensors", "keys", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_computed_is_refused_by_name(name, tensors, keys, said, tmp_path):
    path = file_of(name, _Also(model_of(name), tensors), tmp_path / "m.gguf", **keys)
    answer = ask("report", str(path))
    assert answer.code == 2
    assert answer.err.splitlines()[0] == f"{path}: {said}"


def test_a_number_beyond_float32_is_kept():
    assert shortest(1e300) == 1e300
    assert shortest(0.10000000149011612) == 0.1


@pytest.mark.parametrize("kind", ["I8", "I16", "I32", "I64"])
def test_a_token_table_of_whole_numbers_is_told_as_that(kind, tmp_path):
    path = tmp_path / "m.gguf"
    source = gguf.GGUFReader(file_of("olmo2", made("olmo2"), tmp_path / "whole.gguf"))
    writer = gguf.GGUFWriter(path, "olmo2")
    for key, field in source.fields.items():
        if key.startswith("olmo2."):
            writer.add_key_value(key, field.contents(), field.types[0])
    whole = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}[kind]
    for one in source.tensors:
        writer.add_tensor(one.name, np.ones(one.data.shape, whole) if one.name == "token_embd.weight" else one.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    said = f"token_embd.weight: is of whole numbers, which are not read as weights; got {kind}"
    assert ask("report", str(path))[::2] == (2, f"{path}: {said}\n")


def test_a_file_without_an_architecture_lacks_its_key(tmp_path):
    from ggufs import info, key, raw, text

    path = tmp_path / "m.gguf"
    path.write_bytes(raw(key("general.name", 8, text("x")), (info("token_embd.weight", [8]),), size=32))
    with pytest.raises(Invalid) as error:
        archcalc.load(path)
    assert str(error.value) == f"{path}: general.architecture: is missing"
