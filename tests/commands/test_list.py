"""`archcalc list` finds models by words of their names, families and sources."""

import csv
import io
from functools import cache

import pytest
from command import ask

import archcalc
from archcalc.spec.catalogue import names
from archcalc.spec.searching import families, family, search


def found(*words):
    return {model.name for model in search(words)}


def test_words_are_found_in_names_families_and_sources():
    assert found("llama3") == {
        "llama3-8b",
        "llama3-70b",
        "llama3.1-8b",
        "llama3.1-70b",
        "llama3.1-405b",
        "llama3.2-1b",
        "llama3.2-3b",
    }
    assert found("Llama", "70B") == {"llama2-70b", "llama3-70b", "llama3.1-70b"}
    assert found("arXiv:2501.00656") == {"olmo2-1b", "olmo2-7b", "olmo2-13b", "olmo2-32b"}
    assert found("eleutherai", "neo") == {"gpt-neo-125m", "gpt-neo-1.3b", "gpt-neo-2.7b", "gpt-neox-20b"}
    assert found() == set(names())
    assert found("(") == {name for name in names() if "(" in archcalc.load(name).source}


def test_a_number_is_found_where_it_begins():
    assert {"llama-7b", "falcon-7b", "bloom-7b1"} <= found("7b")
    assert not {"opt-6.7b", "gpt-neo-2.7b", "smollm2-1.7b", "gemma2-27b"} & found("7b")
    assert found("2.7b") == {"gpt3-2.7b", "gpt-neo-2.7b", "opt-2.7b"}


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("llama3.1-8b", "llama"), ("gpt2-xl", "gpt"), ("gpt-neo-125m", "gpt"), ("command-r-plus-104b", "command"),
        ("tiny", "tiny"), ("qwen2.5-7b", "qwen"), ("mistral-7b-v0.1", "mistral"),
    ],
)  # fmt: skip
def test_a_family_is_what_a_name_begins_with(name, of):
    assert family(name) == of
    assert of in families()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_every_field_is_told_to_programs(form):
    out = ask("list", "gemma2-9b", "-f", form)
    (row,) = out.json["specs"] if form == "json" else csv.DictReader(io.StringIO(out.out))
    model = archcalc.load("gemma2-9b")
    expected = {
        "name": "gemma2-9b",
        "family": "gemma",
        "parameters": 9_241_705_984,
        "layers": 42,
        "d_model": 3584,
        "n_heads": 16,
        "n_kv_heads": 8,
        "d_head": 256,
        "d_ff": 14336,
        "vocab_size": 256_000,
        "context_length": 8192,
        "tied": True,
        "features": [
            "gated",
            "grouped-query",
            "multi-head",
            "rotary",
            "several-kinds-of-layers",
            "softcap",
            "tied",
            "window",
        ],
        "source": model.source,
    }
    if form == "csv":
        expected = {name: str(value) for name, value in expected.items()} | {
            "features": " ".join(expected["features"])
        }
    assert row == expected


def test_the_list_of_a_family_is_version_by_version_and_the_smaller_first():
    rows = [line.split()[0] for line in ask("list", "qwen").out.splitlines()[4:]]
    assert rows[:2] == ["qwen2-0.5b", "qwen2-7b"]
    assert rows[2:9] == [f"qwen2.5-{size}" for size in ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")]
    assert rows[9] == "qwen3-0.6b"
    assert ask("list", "models", "qwen").out == ask("list", "qwen").out
    assert ask("list", "qwen3", "32b").out.startswith("1 model matching qwen3 32b\n")


def test_a_long_list_is_parted_by_families_and_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = ask("list").out.splitlines()
    assert lines[0] == f"{len(names())} models"
    assert max(map(len, lines)) <= 80
    table = "\n".join(lines[4 : lines.index("", len(names()))])
    first = [block.split("\n")[0].split("-")[0] for block in table.split("\n\n")]
    assert len(first) == len(set(first))
    assert lines[-3].startswith("Search     archcalc list llama 8b: ")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["llamma"], "llamma: matches no model; nearest: llama, llama-7b, tinyllama"),
        (["llama", "9b"], "llama 9b: matches no model; nearest: "),
        (["%%%"], "%%%: matches no model; `archcalc list` shows all"),
        (["quantitys"], "quantitys: matches no model; nearest: quantities"),
        (["devices", "h100"], "archcalc list: takes no words after devices; got 'h100'"),
        ([""], "archcalc list: a word is empty"),
        (["\x1b[31m"], "\\x1b[31m: matches no model"),
    ],
)
def test_a_search_that_finds_nothing_tells_what_is_near(words, line):
    answer = ask("list", *words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(line)


@cache
def listed(*arguments):
    return {row["name"]: row for row in ask("list", *arguments, "-f", "json").json["specs"]}


def test_models_are_filtered_by_family_size_and_feature():
    models = listed()
    found = listed("--family", "qwen", "--most", "10B", "--feature", "grouped-query")
    assert found.keys() == {
        name
        for name, row in models.items()
        if name.startswith("qwen") and row["parameters"] <= 10**10 and row["n_kv_heads"] < row["n_heads"]
    }
    assert listed("models", "--feature", "experts").keys() >= {"minimax-m2.5", "mixtral-8x7b", "qwen3-30b-a3b"}
    assert listed("--least", "300B").keys() >= {"llama3.1-405b", "nemotron4-340b"}
    windowed = listed("--feature", "window").keys()
    assert {"mistral-7b-v0.1", "gemma2-9b"} <= windowed
    assert not {"mistral-7b-v0.3", "llama3-8b"} & windowed
    both = listed("--feature", "window", "--feature", "tied").keys()
    assert both == windowed & listed("--feature", "tied").keys()
    title = ask("list", "--family", "gemma", "--most", "3B").out.splitlines()[0]
    assert title.endswith("models matching --family gemma --most 3B")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--family", "llamma"], "--family: matches no family; got 'llamma'; nearest: llama"),
        (["--feature", "windows"], "--feature: matches no feature; got 'windows'; known: "),
        (["--most", "many"], "--most: must be an integer; 300B is 300,000,000,000; got 'many'"),
        (["--least", "900B", "--family", "qwen"], "--family qwen --least 900B: matches no model"),
        (["devices", "--family", "qwen"], "--family: applies only to models, not to devices"),
    ],
)
def test_a_filter_that_cannot_be_is_one_line(arguments, line):
    answer = ask("list", *arguments)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(line)


def test_formats_are_listed_with_their_sources():
    from archcalc.tape.precision import FORMATS

    rows = ask("list", "formats", "-f", "json").json["formats"]
    assert [row["name"] for row in rows] == list(FORMATS)
    assert all(row["meaning"] and row["source"] for row in rows)
    assert max(map(len, ask("list", "formats").out.splitlines())) <= 80


def test_the_shell_completes_what_can_be_listed():
    from archcalc.commands.completing import beginning
    from archcalc.commands.listing import _words

    assert beginning(_words)("dev") == ["devices"]
    assert beginning(_words)("olmo") == [
        "olmo",
        "olmo-1b",
        "olmo-7b",
        "olmo2-13b",
        "olmo2-1b",
        "olmo2-32b",
        "olmo2-7b",
    ]
