"""Ten thousand damaged files of every kind; some in a process whose memory is told."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import MEMORY
from contract import is_accepted
from examples import PROFILE, few
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import mutated
from readers import READERS

from archcalc import dump, strategies

INPUTS = {
    "spec": 400, "plan": 1_200, "device": 1_050, "config.json": 500, "either": 250, "question": 200, "index": 700,
    "safetensors": 2_000, "quantization": 500, "gguf": 2_000, "state.json": 300,
    "budgets": 500, "pyproject.toml": 200, "baseline": 200,
    "vectors": 500, "npy": 1_000, "word2vec": 1_000, "cache": 1_000, "tokenizer.json": 300, "tokenizer_config.json": 300,
    "tokenizer.model": 300,
}  # fmt: skip
"""In `make test`; `make prove` tries ten times as many, and `make fuzz` a million in processes of their own."""
TEN = 10
"""Inputs of an example. They follow from one number: each choice by hypothesis itself would take ten times as long."""
NUMBERS = st.integers(0, 2**64 - 1)


@pytest.fixture(params=READERS)
def kind(request):
    if READERS[request.param].form == "gguf":
        pytest.importorskip("gguf", reason="the extra `gguf`")
    if request.param.startswith("tokenizer"):
        pytest.importorskip("tokenizers", reason="the extra `run`")
    return request.param


def test_every_input_is_answered_or_told_in_lines(kind, tmp_path):
    reader = READERS[kind]
    seeds = reader.seeds(tmp_path)
    counts = {True: 0, False: 0}

    @settings(max_examples=few(INPUTS[kind] // TEN))
    @given(NUMBERS)
    def each(number):
        for i in range(TEN):
            rng = random.Random(f"{number} {i}")  # noqa: S311
            counts[is_accepted(reader, tmp_path, mutated(rng, reader.form, rng.choice(seeds), seeds))] += 1

    each()
    assert counts[False]
    assert counts[True] or kind in ("state.json", "cache")  # whose checksums no damage survives


def test_what_they_are_made_from_is_good(kind, tmp_path):
    """What begins as something damaged would be refused for that alone."""
    reader = READERS[kind]
    seeds = reader.seeds(tmp_path)
    some = seeds if PROFILE == "prove" else seeds[:: 1 + len(seeds) // 12]
    good = [is_accepted(reader, tmp_path, data, deep=i < 3) for i, data in enumerate(some)]
    assert sum(good) > 0.7 * len(good) or kind == "state.json"


@settings(max_examples=few(25))
@given(strategies.models(), NUMBERS)
def test_any_model_that_is_damaged_is_answered_or_told(tmp_path_factory, model, number):
    text = dump(model).encode()
    folder = tmp_path_factory.getbasetemp()
    assert is_accepted(READERS["spec"], folder, text)
    for i in range(TEN):
        rng = random.Random(f"{number} {i}")  # noqa: S311
        is_accepted(READERS["spec"], folder, mutated(rng, "yaml", text, [text]))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is asked of Linux")
def test_a_campaign_finds_nothing_and_stays_small():
    campaign = Path(__file__).with_name("campaign.py")
    done = subprocess.run([sys.executable, campaign, "200", "1", "plan"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^plan: 200 inputs, .* at most ([0-9,]+) kB$", done.stdout, re.MULTILINE)
    assert told, done.stdout
    assert 0 < int(told[1].replace(",", "")) <= MEMORY
