"""Old spellings: the names that published checkpoints have, where transformers saves others today, and tensors beside."""

import json
import re

import pytest
from examples import one_in
from samples import SAMPLES, built

import archcalc
from archcalc import Invalid

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra `run`")

from archcalc_reference.weights.families import BY_TYPE  # noqa: E402
from archcalc_reference.weights.folder import load_weights  # noqa: E402

FILE = "model.safetensors"
HEADS = torch.tensor(True).expand(1, 1, 8, 8).tril()
ANGLES = torch.ones(5)

# What each name becomes, and tensors that are no parameters.
SPELLINGS = {
    "BLOOM without its prefix": ("bloom", [(r"^transformer\.", "")], {}),
    "Falcon without its prefix": ("falcon-7b", [(r"^transformer\.", "")], {}),
    "MPT without its prefix": ("mpt", [(r"^transformer\.", "")], {}),
    "OPT's decoder alone": ("opt", [(r"^model\.", "")], {}),
    "OPT-350m's decoder alone": ("opt-350m", [(r"^model\.", "")], {}),
    "GPT-1 without its prefix": ("openai-gpt", [(r"^transformer\.", "")], {"h.0.attn.bias": HEADS}),
    "Gemma without its prefix": ("gemma", [(r"^model\.", "")], {}),
    "Pythia": (
        "gpt_neox",
        [],  # transformers saves its head as embed_out to this day
        {
            "gpt_neox.layers.0.attention.bias": HEADS,
            "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq": ANGLES,
        },
    ),
    "GPT-NeoX as its model has it": ("gpt_neox", [(r"^embed_out\.", "lm_head.")], {}),
    "GPT-J": (
        "gptj",
        [],
        {"transformer.h.0.attn.bias": HEADS, "transformer.h.0.attn.masked_bias": torch.tensor(-1e9)},
    ),
    "GPT-Neo": ("gpt_neo", [], {"transformer.h.0.attn.attention.masked_bias": torch.tensor(-1e9)}),
    "CodeGen": ("codegen", [], {"transformer.h.2.attn.causal_mask": HEADS}),
    "Llama": ("llama", [], {"model.layers.0.self_attn.rotary_emb.inv_freq": ANGLES}),
    "Llama inside another": (
        "llama",
        [(r"^model\.", "language_model.model."), (r"^lm_head", "language_model.lm_head")],
        {},
    ),
    "Llama inside another, twice": ("llama", [(r"^model\.", "model.language_model.model.")], {}),
    "Phi": ("phi-2", [], {"model.layers.0.self_attn.rotary_emb.inv_freq": ANGLES}),
    "EXAONE 3": ("exaone", [], {"transformer.rotary.inv_freq": ANGLES}),  # saved as LG named it
    "EXAONE 3 in Llama's names": (
        "exaone",
        [
            (r"^transformer\.wte\.", "model.embed_tokens."),
            (r"^transformer\.h\.", "model.layers."),
            (r"^transformer\.ln_f\.", "model.norm."),
            (r"\.attn\.attention\.out_proj\.", ".self_attn.o_proj."),
            (r"\.attn\.attention\.", ".self_attn."),
            (r"\.ln_1\.", ".input_layernorm."),
            (r"\.ln_2\.", ".post_attention_layernorm."),
            (r"\.mlp\.c_fc_0\.", ".mlp.gate_proj."),
            (r"\.mlp\.c_fc_1\.", ".mlp.up_proj."),
            (r"\.mlp\.c_proj\.", ".mlp.down_proj."),
        ],
        {},
    ),
}


def saved(name, folder, *, shards=None):
    built(name).save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))
    return archcalc.load(folder)


def same(one, other):
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize(("name", "changes", "more"), SPELLINGS.values(), ids=SPELLINGS)
def test_an_old_spelling_holds_the_same_weights(tmp_path, name, changes, more):
    spec = saved(name, tmp_path)
    plain = load_weights(spec, str(tmp_path))
    stored = safetensors_torch.load_file(tmp_path / FILE)
    renamed = {}
    for full, tensor in stored.items():
        spelled = full
        for pattern, other in changes:
            spelled = re.sub(pattern, other, spelled)
        renamed[spelled] = tensor
    assert (renamed.keys() != stored.keys()) == bool(changes)
    safetensors_torch.save_file(
        {**renamed, **{n: t.clone() for n, t in more.items()}}, tmp_path / FILE, {"format": "pt"}
    )
    assert same(load_weights(spec, str(tmp_path)), plain)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox", "falcon-40b", "stablelm", "phi3"])
def test_shards_hold_the_same_weights(tmp_path, name):
    spec = saved(name, tmp_path / "one")
    saved(name, tmp_path / "many", shards="40KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 3
    assert same(load_weights(spec, str(tmp_path / "many")), load_weights(spec, str(tmp_path / "one")))


@pytest.mark.parametrize("name", ["qwen3", "cohere", "gemma3_text", "bloom", "opt", "gpt_neo"])
@pytest.mark.parametrize("config", ["as saved", "without model_type"])
def test_names_alone_say_whose_weights_they_are(tmp_path, name, config):
    spec = saved(name, tmp_path)
    plain = load_weights(spec, str(tmp_path))
    (tmp_path / "config.json").unlink()
    if config == "without model_type":
        (tmp_path / "spec.yaml").write_text(archcalc.dump(spec))
    assert same(load_weights(spec, str(tmp_path)), plain)


@pytest.mark.parametrize("name", one_in(6, SAMPLES))
def test_a_tensor_that_is_missing_and_one_too_many_are_named(tmp_path, name):
    spec = saved(name, tmp_path)
    stored = safetensors_torch.load_file(tmp_path / FILE)
    family = BY_TYPE[SAMPLES[name][0]]
    gone = next(n for n in reversed(stored) if ".1." in n and not family.is_buffer(n))
    stored["model.layers.0.another.weight"] = torch.zeros(2, 3)
    safetensors_torch.save_file({n: t for n, t in stored.items() if n != gone}, tmp_path / FILE, {"format": "pt"})
    with pytest.raises(Invalid) as error:
        load_weights(spec, str(tmp_path))
    lines = str(error.value).replace(str(tmp_path), "DIR").splitlines()
    assert f"DIR/{FILE}: model.layers.0.another.weight: is not a tensor of {spec.name}; got 2 x 3" in lines
    assert any(line.startswith(f"DIR: {family.full(gone)}: is missing; {spec.name} expects ") for line in lines)
    assert len(lines) == 2


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gpt_neox", "bloom", "phi3"])
def test_a_config_that_says_another_model_is_one_line(tmp_path, name):
    spec = saved(name, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    key = next(k for k in ("num_attention_heads", "n_head") if k in config)
    told = {
        "mistral": ({"sliding_window": 50}, "sliding_window: must be 97, as in NAME; got 50"),
        "gemma2": ({"final_logit_softcapping": 20.0}, "final_logit_softcapping: must be 30.0, as in NAME; got 20.0"),
        "gpt_neox": ({key: 8}, f"{key}: must be 4, as in NAME; got 8"),
        "bloom": ({key: 12}, f"{key}: must be 6, as in NAME; got 12"),
        "phi3": ({"sliding_window": None}, "describes a model of phi3 whose attention.window is null; NAME has 97"),
    }
    change, line = told[name]
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(Invalid) as error:
        load_weights(spec, str(tmp_path))
    assert str(error.value) == f"{tmp_path}/config.json: {line.replace('NAME', spec.name)}"
