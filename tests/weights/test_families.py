"""Every family: a small checkpoint that transformers saved has transformers' logits here, with cache and without.

Texts are 272 tokens long: in short ones angles that are slightly wrong do not show. Weights are drawn wide, and sizes
differ, so that no two parts can stand in for each other.
"""

import json

import pytest
from examples import PROFILE, a_third
from samples import SAMPLES, WRAPPERS, V, built, configuration

import archcalc
from archcalc.counts.flops import flops
from archcalc.huggingface.importing import import_config
from archcalc.spec.source import Document
from archcalc.spec.validation import validate
from archcalc.tape.run import Run

torch = pytest.importorskip("torch", reason="the reference is PyTorch")
transformers = pytest.importorskip("transformers", reason="the outside voice")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="the extra `run`")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from archcalc_reference.model.cache import Cache  # noqa: E402
from archcalc_reference.weights.folder import load_weights, save_weights  # noqa: E402

FILE = "model.safetensors"
LENGTH = 272
CLOSE = 1e-4  # of the largest logit
FLAT = ("openai-gpt", "opt", "opt-350m", "bloom", "falcon-rw", "mamba", "falcon_mamba")
"""Models that read the mask of a text, and make that of pairs of it; others look on the way whether it masks at all."""

LOOPS = ("dbrx", "longcat_flash")
"""Models that go through their experts one after the other, whichever way is asked for, so that they need numbers."""


def _convolved(layers: int, channels: int, taps: int) -> int:
    """FLOPs of the positions before the first and behind the last, which transformers convolves and throws away."""
    return layers * 2 * (taps - 1) * channels * taps


def _carried(layers: int, heads: int, d_head: int, d_state: int, chunk: int) -> int:
    """FLOPs of states that are added up over all pairs of chunks, where one after the other hands its own on."""
    return layers * 2 * (-(-LENGTH // chunk) + 1) ** 2 * heads * d_head * d_state


def _kimi(heads: int, d_head: int) -> int:
    """FLOPs of two products with the inverse of a system that is solved here, less those of the system and of the
    scores, which are sums of point by point products there.
    """
    pairs = 2 * -(-LENGTH // 64) * 64 * 64 * heads
    return pairs * (d_head + d_head) - pairs * (d_head + d_head)


OTHERWISE: dict[str, int] = {
    "llama4": 2 * LENGTH * 2 * (5 - 3) * 3 * 60 * 84,
    "nemotron_h": _convolved(2, 6 * 22 + 2 * 2 * 12, 3) + _carried(2, 6, 22, 12, 20),
    "bamba": _convolved(2, 6 * 24 + 2 * 2 * 12, 3) + _carried(2, 6, 24, 12, 20),
    **dict.fromkeys(("mamba", "falcon_mamba"), _convolved(3, 120, 3)),
    **dict.fromkeys(
        ("granitemoehybrid", "granitemoehybrid-dense"),
        _convolved(2, 6 * 20 + 2 * 2 * 12, 3) + _carried(2, 6, 20, 12, 20),
    ),
    "zamba2": _convolved(5, 6 * 20 + 2 * 2 * 12, 3) + _carried(5, 6, 20, 12, 20),
    "jamba": _convolved(2, 120, 3),
    "mamba2": _convolved(3, 6 * 20 + 2 * 2 * 12, 3) + _carried(3, 6, 20, 12, 20),
    "falcon_h1": _convolved(3, 6 * 22 + 2 * 2 * 12, 3) + _carried(3, 6, 22, 12, 20),
    "lfm2": _convolved(2, 60, 4),
    "lfm2_moe": _convolved(2, 60, 3),
    "lfm3": _convolved(1, 60, 4),
    "lara_mini": _convolved(1, 6 * 22 + 2 * 2 * 12, 3),
    **dict.fromkeys(("qwen3_next", "qwen3_5_moe_text"), _convolved(2, 6 * 22 + 2 * 2 * 12, 3)),
    "qwen3_5_text": _convolved(1, 6 * 22 + 2 * 2 * 12, 3),
    "olmo_hybrid": _convolved(2, 6 * 11 + 2 * 2 * 33, 3),
    "olmo_hybrid, rotary": _convolved(2, 6 * 7 + 2 * 6 * 7, 4),
    "kimi_linear": 3 * _kimi(3, 12) + _convolved(3, 3 * 3 * 12, 3),
    "bailing_hybrid": 2 * _kimi(6, 12) + _convolved(2, 3 * 6 * 12, 3),
    "bailing_hybrid, no safe gate": _kimi(6, 12) + _convolved(1, 3 * 6 * 12, 4),
}
"""FLOPs that transformers' model does beside those of the architecture: Llama 4's experts all see every vector."""
MADE = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")
"""What transformers stores of MiniMax's lightning attention, and makes anew where a file lacks it."""
STRETCHES = (200, 40, *((24, *[1] * 8) if PROFILE == "fixed" else [1] * 32))


# Samples that have among them every block and every field, switch and word of all the samples; `gpt2` is the first.
EVERY_FEATURE = {
    "afmoe", "apertus1p5_text", "axk1", "bailing_hybrid", "bitnet", "bloom", "cohere2", "cohere2_moe",
    "deepseek_v3", "deepseek_v32", "falcon-rw", "falcon_h1", "gemma2", "gemma4-e2b", "gemma4-moe", "glm_moe_dsa",
    "gpt2", "gpt_neox", "gpt_neox_japanese", "gpt_oss", "granite_swa", "granitemoe", "granitemoehybrid", "jamba",
    "kimi_linear", "laguna", "lfm2", "lfm3", "llama dynamic", "llama linear", "llama4", "longcat_flash", "mamba",
    "mimo_v2_flash", "minimax", "mistral3 mistral4", "modernbert-decoder", "modernbert-decoder tied", "nanochat",
    "nemotron", "nemotron_h", "nemotron_h latent", "olmo", "olmo3", "olmo_hybrid", "opt-350m", "phi3", "phimoe",
    "qwen2_moe", "smollm3", "stablelm", "step3p7", "xglm", "zamba2",
}  # fmt: skip


def features(part, of=""):
    """What a spec has, as names of fields of their blocks, and the words and switches that they are set to."""
    if isinstance(part, list):
        return {one for inner in part for one in features(inner, of)}
    if not isinstance(part, dict):
        return {f"{of}={part}"} if isinstance(part, bool | str | None) else set()
    found = set()
    for field, value in part.items():
        name = f"{part.get('kind', of)}.{field}"
        if field not in ("name", "source", "assumptions", "pattern"):
            inside = field if isinstance(value, dict) and "kind" in value else name
            found |= {name} | features(value, inside)
    return found


@pytest.mark.prove
def test_the_samples_of_every_run_have_every_feature():
    each = {
        name: features(import_config(configuration(name).to_dict(), "config.json", "sample").data)
        for name in (*SAMPLES, *WRAPPERS)
    }
    assert set().union(*each.values()) == set().union(*(each[name] for name in EVERY_FEATURE))


def spec_in(folder):
    """The spec that a folder's config.json describes."""
    path = folder / "config.json"
    imported = import_config(json.loads(path.read_text()), str(path), "sample")
    return validate(Document(str(path), imported.data), archcalc.Model)


def text(length=LENGTH):
    return torch.randint(V, (1, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits_of(theirs, tokens):
    return theirs(input_ids=tokens, use_cache=False).logits


def apart(expected, found):
    """The largest difference, as a share of the largest logit."""
    assert expected.std() > 0.05, "logits that are all alike prove nothing"
    return float((expected - found).abs().max() / expected.abs().max())


@pytest.fixture
def unrounded(monkeypatch):
    """Falcon's slopes of ALiBi in full: its function rounds them, and what they make, to bf16; BLOOM's, its source, does not."""
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.falcon import modeling_falcon

    monkeypatch.setattr(modeling_falcon, "build_alibi_tensor", build_alibi_tensor)


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.prove] * (name not in EVERY_FEATURE)) for name in (*SAMPLES, *WRAPPERS)],
)
def test_a_saved_checkpoint_has_transformers_logits(name, tmp_path):
    theirs = built(name)
    theirs.save_pretrained(tmp_path)
    spec = spec_in(tmp_path)
    ours = load_weights(spec, str(tmp_path)).eval()
    tokens = text()
    expected = logits_of(theirs, tokens)
    with torch.no_grad():
        assert apart(expected, ours(tokens).logits) < CLOSE
        assert apart(expected, ours(tokens, kernel="flash").logits) < CLOSE
        cache = Cache(spec, 1, LENGTH, torch.float32)
        found = [ours(part, cache=cache).logits for part in tokens.split(STRETCHES, dim=1)]
        assert apart(expected, torch.cat(found, dim=1)) < CLOSE


@pytest.mark.parametrize("name", a_third(SAMPLES))
def test_the_flops_are_those_of_pytorchs_counter_over_transformers_model(name):
    where = "cpu" if name in LOOPS else "meta"
    theirs = built(name, meta=where == "meta").requires_grad_(requires_grad=False)
    for module in theirs.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.rope_type = "default"  # which angles it makes is decided by a number, and meta has none
    if name == "longcat_flash":
        for module in theirs.modules():
            if hasattr(module, "e_score_correction_bias"):  # all go to two experts with weights, and one without
                module.e_score_correction_bias[[1, 2, 6]] += 10
    imported = import_config(theirs.config.to_dict(), "config.json", "sample")
    spec = validate(Document("config.json", imported.data), archcalc.Model)
    with torch.device(where):
        tokens = torch.zeros(1, LENGTH, dtype=torch.long)
        mask = torch.ones(1, LENGTH) if name in FLAT else torch.zeros(1, 1, LENGTH, LENGTH)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs(input_ids=tokens, attention_mask=mask, use_cache=False)
    assert flops(spec, Run("prefill", 1, LENGTH)).forward == counter.get_total_flops() - OTHERWISE.get(name, 0)


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("name", a_third(SAMPLES))
def test_what_we_save_transformers_loads(name, tmp_path):
    theirs = built(name)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_weights(spec_in(tmp_path / "theirs"), str(tmp_path / "theirs"))
    save_weights(ours, str(tmp_path / "ours"))
    attention = "sdpa" if name == "falcon-rw" else "eager"
    back, told = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation=attention
    )
    made = {name for name in told.pop("missing_keys") if name.endswith(MADE)}
    assert not any(told.values()), told
    assert bool(made) == (name == "minimax")
    assert apart(logits_of(theirs, text()), logits_of(back.eval(), text())) < CLOSE


def test_a_constant_of_the_computation_that_is_another_one_is_refused(tmp_path):
    built("apertus").save_pretrained(tmp_path)
    stored = safetensors_torch.load_file(tmp_path / FILE)
    name = "model.layers.1.mlp.act_fn.beta"
    stored[name] = torch.tensor(0.25)
    safetensors_torch.save_file(stored, tmp_path / FILE, {"format": "pt"})
    with pytest.raises(archcalc.Invalid) as error:
        load_weights(spec_in(tmp_path), str(tmp_path))
    assert str(error.value) == f"{tmp_path / FILE}: {name}: must be 0.5; got 0.25"


def test_a_file_may_hold_keys_and_values_that_nothing_reads(tmp_path):
    built("gemma4-e2b").save_pretrained(tmp_path)
    stored = safetensors_torch.load_file(tmp_path / FILE)
    for name in ("k_proj", "k_norm"):
        stored[f"model.layers.4.self_attn.{name}.weight"] = torch.ones(3)
    safetensors_torch.save_file(stored, tmp_path / FILE, {"format": "pt"})
    spec = spec_in(tmp_path)
    load_weights(spec, str(tmp_path))
    name = "model.layers.4.self_attn.z_proj.weight"
    safetensors_torch.save_file({**stored, name: torch.ones(3)}, tmp_path / FILE, {"format": "pt"})
    with pytest.raises(archcalc.Invalid) as error:
        load_weights(spec, str(tmp_path))
    assert str(error.value) == f"{tmp_path / FILE}: {name}: is not a tensor of sample; got 3"
