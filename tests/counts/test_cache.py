"""The cache of models with windows: what decoding reads, and what an engine takes that pages every layer in full."""

import pytest
from command import ask

import archcalc
from archcalc.counts.activations import cache
from archcalc.spec.dumping import plain
from archcalc.spec.model import Model

# Layers with a window, all layers, the window, positions; bytes of one position in one layer: keys and values (2) of
# n_kv_heads x d_head numbers in bf16 (2).
MODELS = {
    "gemma2-9b": (21, 42, 4_096, 8_192, 2 * 8 * 256 * 2),
    "mistral-7b-v0.1": (32, 32, 4_096, 32_768, 2 * 8 * 128 * 2),
    "gemma3-1b": (22, 26, 512, 32_768, 2 * 1 * 256 * 2),  # every sixth of 26 layers is global: 4
    "gemma3-27b-text": (52, 62, 1_024, 131_072, 2 * 16 * 128 * 2),  # 62 // 6 = 10
    "exaone4-32b": (48, 64, 4_096, 131_072, 2 * 8 * 128 * 2),
    "gpt-neo-125m": (6, 12, 256, 2_048, 2 * 12 * 64 * 2),
}
FIGURES = {
    "gemma2-9b": (2_113_929_216, 2_818_572_288),
    "mistral-7b-v0.1": (536_870_912, 4_294_967_296),
}


@pytest.mark.parametrize("name", MODELS)
def test_windows_keep_what_they_see_and_pages_keep_every_position(name):
    local, layers, window, positions, width = MODELS[name]
    model = archcalc.load(name)
    assert (model.n_layers, model.context_length) == (layers, positions)
    kept = (local * window + (layers - local) * positions) * width
    paged = layers * positions * width
    assert (kept, paged) == FIGURES.get(name, (kept, paged))
    run = archcalc.Run("prefill", 1, positions, logits="last")
    assert (cache(model, run, 2), cache(model, run, 2, paged=True)) == (kept, paged)
    told = ask("memory", name, "--for", "inference", "-f", "json").json["cache"]
    assert told == {"per_token": layers * width, "total": kept, "paged": paged, "state": 0}
    assert ask("explain", name, "cache.paged", "--for", "inference", "-f", "json").json["value"] == paged
    assert ask("report", name, "-f", "json").json["cache"] == told
    (row,) = archcalc.sweep(name, {"batch": [3]}, columns=["cache.total", "cache.paged"], purpose="inference").rows()
    assert row == (3, 3 * kept, 3 * paged)


def test_within_a_window_both_are_the_same():
    model = archcalc.load("gemma2-9b")
    for positions, more in ((1, 0), (4_096, 0), (4_097, 1)):
        run = archcalc.Run("prefill", 2, positions)
        beyond = 2 * 21 * more * 2 * 8 * 256 * 2  # sequences, layers, positions beyond the window, bytes
        assert cache(model, run, 2, paged=True) - cache(model, run, 2) == beyond


def test_each_of_two_mixers_in_a_layer_has_its_window():
    data = plain(archcalc.load("tiny"))
    near = {"kind": "multi_head", "n_heads": 2, "n_kv_heads": 2, "d_head": 4, "bias": False, "window": 8}
    far = {"kind": "multi_head", "n_heads": 4, "n_kv_heads": 1, "d_head": 16, "bias": False, "window": 5}
    branches = [
        {"name": name, "norm": data["final_norm"], "mixer": mixer} for name, mixer in (("near", near), ("far", far))
    ]
    model = Model.model_validate({**data, "layers": [{"repeat": 3, "branches": branches}]})
    run = archcalc.Run("prefill", 2, 32)
    # layers x sequences x (keys and values) x bytes x (heads x features x positions, of each)
    assert cache(model, run, 2) == 3 * 2 * 2 * 2 * (2 * 4 * 8 + 16 * 5)
    assert cache(model, run, 2, paged=True) == 3 * 2 * 2 * 2 * (2 * 4 + 16) * 32


def test_tables_show_the_second_cache_where_it_is_another():
    said = " ".join(ask("memory", "gemma2-9b", "--for", "inference").out.split())
    assert "8,192 tokens: 1.969 GiB by windows (cache.total), 2.625 GiB with every layer in full (cache.paged)" in said
    assert "8,192 tokens: 1.969 GiB by windows (cache.total)" in " ".join(ask("report", "gemma2-9b").out.split())
    assert "cache.paged" in ask("diff", "mistral-7b-v0.1", "mistral-7b-v0.3", "--for", "inference").out
    for words in (["memory", "gpt2", "--for", "inference"], ["report", "gpt2"], ["diff", "gpt2", "gpt2-xl"]):
        assert "paged" not in ask(*words).out
    assert "cache.paged" in {row["name"] for row in ask("diff", "gpt2", "gpt2-xl", "-f", "json").json["rows"]}
    assert "cache.paged" in ask("list", "quantities").out
