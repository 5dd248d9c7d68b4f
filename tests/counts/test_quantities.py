"""One number, one name: `explain`, a sweep of one point, `diff`, JSON, CSV and the library say the same of each."""

import csv
import io

import pytest
from command import ask
from typer.main import get_command

import archcalc
from archcalc import cli
from archcalc.counts.activations import cache, saved
from archcalc.counts.quantities import QUANTITIES, one_pass
from archcalc.report.listing import devices_sheet
from archcalc.tape.roles import widths

NAMES = list(QUANTITIES)
cli._load([])


def command(name):
    return get_command(cli.app).commands[name]


HOMES = {"parameters": "params", "matrices": "params", "flops": "flops", "decode": "flops"}  # of the others: memory


def library(name, model, run, keeping):
    """A quantity by the public functions, or by the arithmetic that its meaning states."""
    counts, work, used = archcalc.params(model), archcalc.flops(model, run), archcalc.memory(model, run, keeping)
    group = model.layers[0]
    per_token = 2 * group.repeat * group.attention.n_kv_heads * group.attention.d_head * keeping.recipe.compute
    return {
        "parameters.stored": counts.stored,
        "parameters.active": counts.active,
        "parameters.active_inner": counts.active_inner,
        "parameters.non_embedding": counts.non_embedding,
        "parameters.tally": counts.tally.total,
        "parameters.mtp": 0,
        "parameters.mtp_active": 0,
        "matrices.tally": counts.tally.matrices,
        "flops.forward": work.forward,
        "flops.backward": work.backward,
        "flops.training": work.training,
        "flops.per_token": (work.forward + work.backward) // (run.batch * run.sequence),
        "flops.pointwise": work.pointwise,
        "flops.mtp": 0,
        "decode.parameters": counts.stored
        - 64 * 128,  # but positions, which are looked up; the tied table is multiplied
        "decode.most_parameters": counts.stored - 64 * 128,
        "activations.saved": saved(
            model, run.by_default("flash"), widths(keeping.recipe.compute), keeping.recompute
        ).total,
        "cache.per_token": per_token,
        "cache.total": per_token * run.batch * run.sequence,
        "cache.paged": per_token * run.batch * run.sequence,
        "cache.state": 0,
        "memory.state": used.state,
        "memory.total": used.total,
    }[name]


def at(payload, name):
    section, key = name.split(".")
    return payload[section][key]


# The flags that explain, sweep, diff and the library take alike, and what they are for the library.
ASKED = {
    "nothing": ([], {}, {}),
    "a batch": (["--batch", "3", "--seq", "7"], {"batch": 3, "sequence": 7}, {}),
    "flash": (["--attention", "flash"], {"attention": "flash"}, {}),
    "math": (["--attention", "math"], {"attention": "math"}, {}),
    "another keeping": (["--precision", "fp32", "--optimizer", "sgd", "--recompute", "full"], {}, {"precision": "fp32", "optimizer": "sgd", "recompute": "full"}),
}  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_every_quantity_is_one_number_wherever_it_is_asked(asked):
    flags, run, keeping = ASKED[asked]
    model = archcalc.load("tiny")
    run, keeping = archcalc.Run(**{"sequence": 64, **run}), archcalc.Keeping(**keeping)
    expected = {name: library(name, model, run, keeping) for name in NAMES}
    assert all(type(number) is int for number in expected.values())
    listed = {row["path"]: row["value"] for row in ask("explain", "tiny", *flags, "-f", "json").json["rows"]}
    assert {name: listed[name] for name in NAMES} == expected
    columns = ("--columns", ",".join(NAMES))
    (row,) = ask("sweep", "tiny", "--vary", "n_layers=5", *columns, *flags, "-f", "json").json["rows"]
    assert dict(zip(NAMES, row[1:], strict=True)) == expected
    rows = {row["name"]: row for row in ask("diff", "tiny", "tiny", *flags, "-f", "json").json["rows"]}
    assert {name: rows[name]["values"] for name in NAMES} == {name: [n, n] for name, n in expected.items()}
    assert {name: rows[name]["unit"] for name in NAMES} == {name: QUANTITIES[name].unit for name in NAMES}
    taken = {home: {flag for p in command(home).params for flag in p.opts} for home in ("params", "flops", "memory")}
    taken["flops"].discard("--precision")  # there it is of a device's peak
    for home, its in taken.items():
        words = [w for flag, value in zip(flags[::2], flags[1::2], strict=True) if flag in its for w in (flag, value)]
        payload = ask(home, "tiny", *words, "-f", "json").json
        for name in NAMES:
            if HOMES.get(name.split(".")[0], "memory") == home:
                assert at(payload, name) == expected[name], (home, name)
    if asked == "nothing":
        payload = ask("report", "tiny", "-f", "json").json
        assert {name: at(payload, name) for name in NAMES} == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_quantity_can_be_explained(name):
    model = archcalc.load("tiny")
    told = ask("explain", "tiny", name, "-f", "json").json
    assert (told["path"], told["value"]) == (
        name,
        library(name, model, archcalc.Run(sequence=64), archcalc.Keeping()),
    )
    assert told["convention"].startswith(QUANTITIES[name].meaning)
    assert told["source"]


def test_inference_has_the_same_names():
    flags = ["--for", "inference", "--batch", "3", "--seq", "7", "--kv-precision", "fp8"]
    model = archcalc.load("tiny")
    run = archcalc.Run("prefill", 3, 7, logits="last")
    used = archcalc.memory(model, run, archcalc.Keeping("bf16", kv_precision="fp8"))
    expected = {
        "memory.total": used.total,
        "cache.state": 0,
        "memory.state": used.state,
        "cache.total": cache(model, run, 1),
        "cache.paged": cache(model, run, 1),
        "cache.per_token": cache(model, archcalc.Run("prefill"), 1),
    }
    told = ask("memory", "tiny", *flags, "-f", "json").json
    rows = {row["name"]: row["values"][0] for row in ask("diff", "tiny", "tiny", *flags, "-f", "json").json["rows"]}
    columns = ",".join(expected)
    (swept,) = ask("sweep", "tiny", "--vary", "n_layers=5", "--columns", columns, *flags, "-f", "json").json["rows"]
    assert dict(zip(expected, swept[1:], strict=True)) == expected
    assert expected.items() <= rows.items()
    for name, value in expected.items():
        assert at(told, name) == value
        words = [
            w
            for flag, word in zip(flags[::2], flags[1::2], strict=True)
            if flag in QUANTITIES[name].flags
            for w in (flag, word)
        ]
        assert ask("explain", "tiny", name, *words, "-f", "json").json["value"] == value
    assert "activations.saved" not in rows
    for command in (
        ["explain", "tiny", "activations.saved"],
        ["sweep", "tiny", "--vary", "n_layers=5", "--columns", "activations.saved"],
    ):
        done = ask(*command, "--for", "inference")
        assert done.code == 2
        assert "is of training; inference keeps nothing for a backward pass" in done.err


def test_the_list_names_every_quantity_with_its_unit_and_meaning():
    told = ask("list", "quantities", "-f", "json").json["quantities"]
    assert [one["name"] for one in told] == NAMES
    assert all(one["unit"] and one["meaning"] for one in told)
    rows = list(csv.DictReader(io.StringIO(ask("list", "quantities", "-f", "csv").out)))
    assert [row["name"] for row in rows] == NAMES
    for form in ("table", "markdown"):
        out = ask("list", "quantities", "-f", form).out
        assert all(name in out for name in NAMES)
    table = ask("list", "quantities").out.partition("\n\nNames ")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_new_quantity_is_one_entry(monkeypatch):
    twice = QUANTITIES["parameters.stored"]._replace(of=lambda asked: asked.counts.stored * 2, meaning="twice")
    monkeypatch.setitem(QUANTITIES, "parameters.twice", twice)
    stored = 2 * archcalc.params(archcalc.load("tiny")).stored
    assert ask("explain", "tiny", "parameters.twice", "-f", "json").json["value"] == stored
    assert (
        ask("sweep", "tiny", "--vary", "n_layers=5", "--columns", "parameters.twice", "-f", "csv").out.split()[1]
        == f"5,{stored}"
    )
    assert ask("params", "tiny", "-f", "json").json["parameters"]["twice"] == stored
    assert f"parameters.twice,parameters,{stored},{stored}" in ask("diff", "tiny", "tiny", "-f", "csv").out
    assert "parameters.twice" in ask("list", "quantities").out


def test_devices_are_listed_with_their_figures():
    from archcalc.hardware.devices import device_names, find_device

    told = ask("list", "devices", "-f", "json").json["devices"]
    assert [one["name"] for one in told] == list(device_names())
    for one in told:
        device = find_device(one["name"])
        assert (one["memory"], one["bandwidth"], one["bf16"]) == (
            device.label_bytes,
            device.bandwidth_bytes,
            device.peak("bf16"),
        )
        assert one["sources"]["capacity"] == device.sources.capacity
    assert max(map(len, ask("list", "devices").out.splitlines())) <= 100
    rows = list(csv.DictReader(io.StringIO(ask("list", "devices", "-f", "csv").out)))
    assert [row["name"] for row in rows] == list(device_names())
    assert devices_sheet([]).title == "0 devices"


def test_the_plain_list_is_that_of_models():
    assert ask("list").out == ask("list", "models").out
    assert ask("list", "device").err == "device: matches no model; nearest: devices\n"


# What is compared is comparable: one length for all, the shortest context of them unless one is asked for.


def figures(*arguments):
    return {row["name"]: row for row in ask("diff", *arguments, "-f", "json").json["rows"]}


@pytest.mark.parametrize(
    ("specs", "length"),
    [
        (("gpt2-xl", "gpt3-xl"), 1024),
        (("gpt3-xl", "gpt2-xl", "tiny"), 64),
        (("gpt2", "gpt2@context_length=32k"), 1024),
    ],
)
def test_models_side_by_side_are_counted_at_the_shortest_context(specs, length):
    rows = figures(*specs)
    assert rows == figures(*specs, "--seq", str(length))
    for spec in specs:
        model = archcalc.load(spec)
        run = archcalc.Run(sequence=length)
        assert rows["flops.training"]["values"][spec] == archcalc.flops(model, run).training
        assert rows["memory.total"]["values"][spec] == archcalc.memory(model, run).total
    out = ask("diff", *specs).out
    assert f"Quantities, all at 1 x {length:,} tokens (the shortest context)\n" in out


def test_a_longer_context_alone_is_no_more_work_for_a_token():
    rows = figures("gpt2", "gpt2@context_length=32k")
    assert rows["flops.per_token"]["differences"] == [0]
    assert rows["flops.training"]["differences"] == [0]


def test_figures_per_token_stand_first_and_in_the_title():
    done = ask("diff", "gpt2-xl", "gpt3-xl")
    title, below = done.out.split("\n", 1)
    assert title == "gpt2-xl -> gpt3-xl: parameters -15.53%; FLOPs per token -17.56%"
    lines = [line.split()[0] for line in below.partition("Quantities, ")[2].splitlines()[3:5]]
    assert lines == ["flops.per_token", "cache.per_token"]
    assert list(figures("gpt2", "tiny"))[:2] == ["flops.per_token", "cache.per_token"]


def test_one_length_that_was_asked_for_is_said():
    assert "all at 2 x 100 tokens\n" in ask("diff", "gpt2", "gpt3-xl", "--batch", "2", "--seq", "100").out
    assert "all at 1 x 1,024 tokens (the full context)\n" in ask("diff", "gpt2", "gpt2-xl").out


def test_a_sweep_says_its_length_in_its_head():
    assert ask("sweep", "gpt2", "--vary", "n_layers=1").out.splitlines()[0].endswith(", each at 1 x 1,024 tokens")
    head = ask("sweep", "gpt2", "--vary", "context_length=1k,2k").out.splitlines()[0]
    assert head.endswith(", each at 1 x context_length tokens")


def test_one_attention_is_the_default_of_every_command_and_of_the_library():
    model, run = archcalc.load("tiny"), archcalc.Run(sequence=64)
    assert archcalc.flops(model, run) == archcalc.flops(model, run._replace(attention="math"))
    assert archcalc.memory(model, run) == archcalc.memory(model, run._replace(attention="flash"))
    assert one_pass(model).kernels == {"flops": "math", "memory": "flash"}
    for command in (["sweep", "tiny", "--vary", "n_layers=5"], ["diff", "tiny", "tiny"]):
        said = [" ".join(ask(*command, *flags).out.split()) for flags in ([], ["--attention", "math"])]
        assert "FLOPs with math attention, memory with flash attention" in said[0]
        assert "FLOPs with math attention, memory with math attention" in said[1]


SUGGESTED = {
    ("params", "gpt2@n_head=3"): "here it is called 'n_heads'",
    ("params", "gpt2@hidden_size=3"): None,
    ("params", "gtp2"): "nearest: gpt2",
    ("params", "llama"): "nearest: llama-7b, ",
    ("params", "zzz"): "`archcalc list` shows the catalogue",
    ("explain", "gpt2", "per_token"): "nearest: flops.per_token, cache.per_token",
    ("explain", "gpt2", "flops.pertoken"): "nearest: flops.per_token",
    ("explain", "gpt2", "rotary"): "leave out QUANTITY to list all of them",
    ("explain", "gpt2", "run.flops"): "add --tokens",
    ("sweep", "gpt2", "--vary", "n_layer=3"): "here it is called 'n_layers'",
    ("sweep", "gpt2", "--vary", "tie=3"): None,  # tied is not a size: to suggest it would lead nowhere
    ("sweep", "gpt2", "--vary", "n_layers=3", "--columns", "parameters"): "nearest: parameters.stored, parameters.active, parameters.active_inner",
    ("sweep", "gpt2", "--vary", "n_layers=3", "--columns", "tie"): "the spec's sizes can be columns too",
    ("sweep", "gpt2", "--vary", "n_layers=3", "--columns", "training_flops"): "the spec's sizes can be columns too",
}  # fmt: skip


@pytest.mark.parametrize("arguments", SUGGESTED, ids=" ".join)
def test_a_suggestion_is_near_and_exists(arguments):
    done = ask(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1)
    last = done.err.rstrip("\n").rpartition("; ")[2]
    if SUGGESTED[arguments] is None:
        assert "nearest" not in done.err
        assert "did you mean" not in done.err
    else:
        assert last.startswith(SUGGESTED[arguments])


def test_a_field_of_another_name_is_not_guessed(tmp_path):
    spec = tmp_path / "spec.yaml"
    for name, near in (
        ("d_modle", "d_model"),
        ("rope_theta", None),
        ("hidden_act", None),
        ("vocabsize", "vocab_size"),
    ):
        spec.write_text(f"{name}: 3\n")
        told = ask("params", str(spec)).err
        line = next(line for line in told.splitlines() if name in line)
        assert (f"did you mean '{near}'?" in line) if near else "did you mean" not in line


def test_parameters_have_shares():
    model = archcalc.params(archcalc.load("gpt2"))
    said = " ".join(ask("params", "gpt2").out.partition("\nShares ")[2].partition("\nPublished ")[0].split())
    shares = [100 * category.parameters / model.tally.total for category in model.tally.categories]
    for category, percent in zip(model.tally.categories, shares, strict=True):
        assert f"{category.category} {percent:.2f}%" in said
    assert said.startswith(f"of the tally: embedding {max(shares):.2f}%")
    mlp = next(line for line in ask("params", "gpt2", "--by", "layer").out.splitlines() if ".mlp " in line)
    assert mlp.endswith(f"{100 * 12 * (2 * 768 * 3072 + 3072 + 768) / model.stored:.2f}%")
