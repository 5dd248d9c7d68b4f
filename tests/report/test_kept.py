"""What a cache holds is named: keys and values, latents, keys of an indexer, or nothing beside a state."""

from types import SimpleNamespace

import pytest
from command import ask

import archcalc
from archcalc.commands.session import Session
from archcalc.report.kept import cache_words
from archcalc.spec.catalogue import names
from archcalc.tape.legend import PAIRS, stem
from archcalc.tape.run import Run

WORDS = {
    "gpt2": "keys and values of all layers",
    "jamba-1.5-mini": "keys and values of 4 of 32 layers",  # one of eight attends
    "gemma-4-26b-a4b": "keys and values of all layers",
    "deepseek-v3": "latents and rotary keys of all layers",
    "deepseek-v3.2": "latents, rotary keys and index keys of all layers",
    "mamba-130m": "no layer caches keys and values",
}


@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_what_the_cache_holds_is_named_by_memory_and_by_explain(name, words):
    assert cache_words(archcalc.load(name)) == words
    cached = ask("memory", name, "--for", "inference").out.partition("\nCache ")[2].partition("\nCounted ")[0]
    assert f": {words}" in " ".join(cached.split())
    told = " ".join(ask("explain", name, "cache.total").out.split())
    assert f" Kept {words} Source " in told


def test_a_report_names_it_where_it_is_not_keys_and_values_of_all_layers():
    assert "cache: keys and values of 4 of 32 layers" in ask("report", "jamba-1.5-mini").out
    assert "cache: " not in ask("report", "gpt2").out


def test_no_recurrent_model_is_said_to_keep_keys_and_values():
    for command in (("memory", "mamba-130m", "--for", "inference"), ("report", "mamba-130m")):
        told = ask(*command).out
        assert ": keys and values" not in told
        assert "recurrent state 2.461 MiB per sequence" in told


@pytest.mark.parametrize("name", names())
def test_a_mixer_names_as_many_things_as_a_decode_pass_reads_of_the_cache(name):
    model = archcalc.load(name)
    said = [
        sum(len(branch.mixer.keeps()) for branch in kind.layer.residual_branches)
        for group in model.layers
        for kind in group.kinds_in()
    ]
    found = []
    for segment in model.record(Run("decode", context=8)).segments:
        read = {
            x.name
            for op in segment.ops
            for x in op.inputs
            if getattr(x, "role", "") == "cache" and any(stem(label) in PAIRS for label in x.labels)
        }
        if segment.layers is not None:
            found.append(len(read))
    assert sorted({*found}) == sorted({*said})


@pytest.mark.parametrize("name", ["tiny", "mamba-130m", "falcon-h1-0.5b"])
def test_a_generation_counts_states_beside_the_cache(name):
    """The reference's own cache of 8 positions, and what is said of it."""
    import torch

    from archcalc_reference.model.cache import Cache

    model = archcalc.load(name)
    held = Cache(model, 1, 8, torch.float32)
    one = SimpleNamespace(
        found=SimpleNamespace(model=model),
        model=SimpleNamespace(embedding=SimpleNamespace(token=SimpleNamespace(weight=torch.zeros(1)))),
    )
    told = Session.cache_said(one, held)
    words = {"tiny": "KV cache takes", "mamba-130m": "recurrent state takes"}
    assert told == f"the {words.get(name, 'KV cache and recurrent state take')} {held.nbytes:,} bytes, as counted"
