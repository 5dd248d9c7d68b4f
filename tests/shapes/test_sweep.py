"""A grid's rows are what the scalar path says of each shape, one by one; what followed and what was left out is told."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
from command import ask
from drawn import size_paths, value
from examples import keepings
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache, recurrent_state, saved
from archcalc.counts.memory import memory, state_bytes
from archcalc.counts.mtp import modules
from archcalc.counts.quantities import QUANTITIES
from archcalc.counts.touched import touched
from archcalc.errors import Invalid
from archcalc.shapes import grid
from archcalc.spec.catalogue import find
from archcalc.tape.roles import widths

SIZES = [1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 64, 96, 100, 512, 768, 1_024, 3_072, 2**20, 2**31, 2**32 - 1, 2**32]
GPT2 = archcalc.load("gpt2").model_copy(update={"published": ()})


def written(model):
    """The sizes that a spec states; none of them is a default, and those are 0."""
    return [path for path in size_paths(model) if value(model, path)]


def one_by_one(spec, question, sizes, run, keeping):
    """The figures of one shape by the scalar path, from a question in words."""
    asked = [*([question] if question else []), *(f"{n}={v}" for n, v in sizes.items() if n not in ("batch", "seq"))]
    model = find(f"{spec}@{','.join(asked)}" if asked else spec).model
    run = run._replace(batch=sizes.get("batch", 1), sequence=sizes.get("seq", model.context_length))
    work, counts = archcalc.flops(model, run), archcalc.params(model)
    held, length, further = run.by_default("flash"), run.sequence, modules(model, run)
    width = keeping.recipe.compute
    figures = {
        "parameters.stored": counts.stored,
        "parameters.active": counts.active,
        "parameters.active_inner": counts.active_inner,
        "parameters.non_embedding": counts.non_embedding,
        "parameters.tally": counts.tally.total,
        "matrices.tally": counts.tally.matrices,
        "flops.forward": work.forward,
        "flops.backward": work.backward,
        "flops.training": work.training,
        "flops.per_token": (work.forward + work.backward) // (run.batch * length),
        "flops.pointwise": work.pointwise,
        "decode.parameters": touched(model, run.batch).expected,
        "decode.most_parameters": touched(model, run.batch).most,
        "activations.saved": saved(
            model, held, widths(width, keeping.statistic), keeping.recompute, cast=keeping.recipe.autocast
        ).total,
        "cache.per_token": cache(model, archcalc.Run("prefill", 1, 1), width),
        "cache.total": cache(model, archcalc.Run("prefill", run.batch, length), width),
        "cache.paged": cache(model, archcalc.Run("prefill", 1, 1), width) * run.batch * length,
        "parameters.mtp": further.parameters,
        "parameters.mtp_active": further.active,
        "flops.mtp": further.training,
        "cache.state": recurrent_state(model, archcalc.Run("prefill", run.batch), widths(width)),
        "memory.state": state_bytes(counts, run, keeping),
        "memory.total": memory(model, held, keeping).total,
    }
    assert set(figures) == set(QUANTITIES)
    return sizes | figures | {path: value(model, path) for path in written(model) if path not in sizes}


@st.composite
def questions(draw):
    """A model, a question about it that it can be asked, and a small grid."""
    model = draw(st.one_of(st.just(GPT2), strategies.models(most_groups=2)))
    paths = written(model)
    pool = st.sampled_from(SIZES)
    axes = {}
    for name in draw(st.lists(st.sampled_from([*paths, "batch", "seq"]), min_size=1, max_size=3, unique=True)):
        most = 10_000 if name.endswith("repeat") else 2**32
        old = st.just(1 if name in ("batch", "seq") else value(model, name))
        axes[name] = draw(
            st.lists(st.one_of(old, pool.filter(lambda n, most=most: n <= most)), min_size=1, max_size=4)
        )
    left = [path for path in paths if path not in axes and not path.endswith("repeat")]
    question = ",".join(f"{p}={draw(pool)}" for p in draw(st.lists(st.sampled_from(left), max_size=2, unique=True)))
    return model, question, axes


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "drawn.yaml"

    def write(model):
        path.write_text(archcalc.dump(model))
        return str(path)

    return write


@given(
    drawn=questions(),
    attention=st.sampled_from([None, "math", "flash"]),
    keeping=keepings(),
    chunk=st.sampled_from([1, 3, grid.CHUNK]),
)
def test_every_row_is_what_the_scalar_path_says(spec, drawn, attention, keeping, chunk):
    model, question, axes = drawn
    path = spec(model)
    asked = f"{path}@{question}" if question else path
    try:
        find(asked)
    except Invalid:
        with pytest.raises(Invalid):
            archcalc.sweep(asked, axes)
        return
    run = archcalc.Run(attention=attention)
    expected = []
    for point in itertools.product(*axes.values()):
        try:
            expected.append(one_by_one(path, question, dict(zip(axes, point, strict=True)), run, keeping))
        except Invalid:
            continue
    names = [*QUANTITIES, *(p for p in written(model) if p not in axes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "CHUNK", chunk)
        found = archcalc.sweep(asked, axes, columns=names, attention=attention, keeping=keeping)
    assert len(found) == len(expected)
    assert len(found) + sum(found.left_out.values()) == np.prod([len(values) for values in axes.values()])
    for row, exact in zip(found.rows(), expected, strict=True):
        for name, number in zip(found.columns, row, strict=True):
            assert isinstance(number, int)
            if exact[name] < 2**53:
                assert number == exact[name], name
            else:
                assert number == pytest.approx(exact[name], rel=1e-12), name


@given(drawn=questions())
def test_columns_asked_for_are_those_of_all_columns(drawn):
    model, _, axes = drawn
    every = archcalc.sweep(model, axes)
    some = archcalc.sweep(model, axes, columns=["memory.state", "parameters.stored"])
    assert list(some.columns) == [*axes, "memory.state", "parameters.stored"]
    for name, column in some.values.items():
        assert np.array_equal(column, every.values[name])


def test_only_what_is_asked_for_is_counted(monkeypatch):
    monkeypatch.setattr("archcalc.counts.asked.flops", lambda *_: 1 / 0)
    assert len(archcalc.sweep("gpt2", {"n_layers": [1]}, columns=["activations.saved", "parameters.stored"])) == 1
    with pytest.raises(ZeroDivisionError):
        archcalc.sweep("gpt2", {"n_layers": [1]}, columns=["flops.forward"])


def test_a_chunk_is_recorded_once_however_many_rows_it_has(monkeypatch):
    calls = []
    record = archcalc.Model.record
    monkeypatch.setattr(archcalc.Model, "record", lambda *a: calls.append(1) or record(*a))
    archcalc.sweep("gpt2", {"d_model": range(1, 11)}, columns=["parameters.stored"])
    few = len(calls)
    archcalc.sweep("gpt2", {"d_model": range(1, 10_001)}, columns=["parameters.stored"])
    assert len(calls) == 2 * few


def test_the_published_models_lie_on_one_grid():
    found = archcalc.sweep("gpt2", {"n_layers": [12, 24, 36, 48], "d_model": [768, 1_024, 1_280, 1_600]})
    rows = {row[:2]: row[2] for row in found.rows()}
    names = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    for name, shape in zip(names, [(12, 768), (24, 1_024), (36, 1_280), (48, 1_600)], strict=True):
        assert rows[shape] == archcalc.params(archcalc.load(name)).stored


def test_values_are_lists_ranges_and_lengths():
    def sizes(name, values):
        return [row[0] for row in archcalc.sweep("gpt3-xl", {name: values}, columns=["parameters.stored"]).rows()]

    assert sizes("d_ff", "12, 24") == [12, 24]
    assert sizes("d_ff", "3..5") == [3, 4, 5]
    assert sizes("d_ff", "64..512:128,1_000,1e3") == [64, 192, 320, 448, 1_000, 1_000]
    assert sizes("context_length", "1k..4k:1k,512") == [1_024, 2_048, 3_072, 4_096, 512]
    assert sizes("seq", "1k,2k") == [1_024, 2_048]
    assert sizes("batch", "1..3") == [1, 2, 3]
    assert sizes("d_ff", np.arange(1, 4)) == sizes("d_ff", range(1, 4)) == sizes("d_ff", [1, 2, 3])


def test_what_followed_is_said_once_above_the_table():
    answer = ask("sweep", "gpt2", "--vary", "d_model=768,1024", "--vary", "n_layers=12..14")
    assert answer.code == 0
    assert answer.out.startswith(
        "gpt2: 6 shapes, varying d_model x n_layers, each at 1 x 1,024 tokens\n\n"
        "Adjusted   n_heads = d_model / 64, to keep n_heads x d_head = d_model\n"
        "           n_kv_heads = n_heads\n"
        "           d_ff = 4 x d_model\n\n"
    )
    assert answer.out.count("n_heads x d_head = d_model") == 1
    assert "Changed" not in answer.out


FOLLOWED = {
    "heads": ("gpt2", {"n_heads": [6, 12, 24]}, ["d_head = 768 / n_heads", "n_kv_heads = n_heads"]),
    "features": ("gpt2", {"d_head": [32, 64]}, ["n_heads = 768 / d_head", "n_kv_heads = n_heads"]),
    "some heads": ("gpt2", {"n_heads": [6, 7]}, ["d_head = 768 / n_heads where that is whole", "n_kv_heads = n_heads"]),
    "heads or features": (
        "gpt2@d_ff=1",
        {"d_model": [1_024, 900]},
        ["n_heads = d_model / 64 where that is whole", "d_head = d_model / 12 where only that is whole", "n_kv_heads = n_heads"],
    ),
    "with a question": (
        "gpt2@d_head=32",
        {"d_model": [768, 1_024]},
        ["n_heads = d_model / 32", "n_kv_heads = n_heads", "d_ff = 4 x d_model"],
    ),
    "all named": ("gpt2@n_heads=2,n_kv_heads=1,d_head=3,d_ff=4", {"d_model": [768, 1_024]}, []),
    "nothing related": ("gpt2", {"vocab_size": [1, 2]}, []),
    "nothing new": ("gpt2", {"d_model": [768]}, []),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "vary", "rules"), FOLLOWED.values(), ids=FOLLOWED)
def test_what_follows_is_told_as_a_rule(spec, vary, rules):
    assert [f"{step.name} = {step.rule}" for step in archcalc.sweep(spec, vary).followed] == rules


def test_what_is_the_same_in_all_rows_is_told_as_of_any_question():
    answer = ask("sweep", "gpt2@d_head=32", "--vary", "n_heads=12,24")
    assert "Changed    layers.0.attention.d_head 64 -> 32\n" in answer.out
    assert "n_heads 12" not in answer.out  # 768 / 32 = 24 would be wrong beside heads that are varied


def test_a_misprint_of_what_is_varied_is_no_warning():
    assert "prints n_heads" in ask("sweep", "gpt3-xl", "--vary", "n_layers=1").out
    assert "prints n_heads" not in ask("sweep", "gpt3-xl", "--vary", "n_heads=16,24").out


def test_shapes_that_no_spec_may_have_are_counted_by_reason():
    answer = ask("sweep", "gpt2@d_head=64", "--vary", "n_kv_heads=1..12", "--vary", "seq=512,1k,2k", "-f", "json")
    payload = answer.json
    assert payload["left_out"] == [
        {"reason": "n_kv_heads does not divide n_heads", "shapes": 18},
        {"reason": "the sequence is longer than context_length", "shapes": 6},
    ]
    assert len(payload["rows"]) == 36 - 24
    out = ask("sweep", "gpt2", "--vary", "d_model=1,4294967296").out
    assert "Left out   1 of 2 shapes: 1 where d_ff is not from 1 to 4,294,967,296\n" in out


def test_shapes_that_are_left_out_of_records_and_files_are_told(tmp_path):
    told = "left out: 1 of 2 shapes: 1 where the sequence is longer than context_length\n"
    sweep = ("sweep", "tiny", "--vary", "seq=64,1024")
    for form in ("csv", "json"):
        assert ask(*sweep, "-f", form).err == told
    assert ask(*sweep, "-o", str(tmp_path / "out.md")).err.startswith(told)
    answer = ask(*sweep)
    assert (f"Left out   {told.removeprefix('left out: ')}" in answer.out, answer.err) == (True, "")


def test_a_grid_of_no_shape_at_all_is_one_line():
    said = "--vary: leaves no shape: 2 where the sequence is longer than context_length\n"
    for form in ("table", "markdown", "csv", "json"):
        answer = ask("sweep", "tiny", "--vary", "seq=512,1024", "-f", form)
        assert (answer.code, answer.out, answer.err) == (2, "", said)


def test_what_follows_in_each_kind_alike_is_told_once():
    out = ask("sweep", "gemma2-9b", "--vary", "d_model=3584,4096").out
    assert out.count("d_ff = ") == 1


def test_a_size_that_int64_cannot_hold_is_left_out_too(spec):
    mlp = GPT2.layers[0].mlp.model_copy(update={"d_ff": 2**32})
    model = GPT2.model_copy(update={"d_model": 1, "layers": (GPT2.layers[0].model_copy(update={"mlp": mlp}),)})
    found = archcalc.sweep(spec(model), {"d_model": [1, 2, 2**31, 2**32]})
    assert [row[0] for row in found.rows()] == [1]
    assert found.left_out == {"d_ff is not from 1 to 4,294,967,296": 3}


def test_json_holds_rows_of_ints_in_base_units():
    payload = ask(
        "sweep", "gpt2", "--vary", "n_layers=12,24", "--columns", "parameters.stored,d_ff", "-f", "json"
    ).json
    assert (payload["schema"], payload["spec"]) == (0, "gpt2")
    assert [column["name"] for column in payload["columns"]] == ["n_layers", "parameters.stored", "d_ff"]
    assert payload["rows"] == [[12, 124_439_808, 3_072], [24, 209_494_272, 3_072]]
    assert payload["followed"] == payload["left_out"] == []
    assert "2^53" in payload["conventions"]["figures"]
    assert {key: payload["conventions"][key] for key in ("batch", "sequence", "attention", "recompute")} == {
        "batch": 1,
        "sequence": 1_024,
        "attention": {"flops": "math", "memory": "flash"},
        "recompute": "none",
    }
    followed = ask("sweep", "gpt2", "--vary", "d_model=1024", "-f", "json").json["followed"]
    assert followed[0] == {
        "name": "n_heads",
        "path": "layers.0.attention.n_heads",
        "rule": "d_model / 64",
        "because": "n_heads x d_head = d_model",
    }


def test_a_text_of_the_spec_that_looks_like_rows_stays_a_text(spec):
    model = GPT2.model_copy(update={"assumptions": ('"rows": []',)})
    payload = ask("sweep", spec(model), "--vary", "n_layers=1", "--columns", "d_model", "-f", "json").json
    assert payload["assumptions"] == ['"rows": []']
    assert payload["rows"] == [[1, 768]]


def test_figures_above_2_to_the_53_are_ints_too():
    out = ask("sweep", "gpt3-175b", "--vary", "batch=4294967296", "--columns", "flops.training", "-f", "json").out
    ((_, figure),) = json.loads(out)["rows"]
    exact = archcalc.flops(archcalc.load("gpt3-175b"), archcalc.Run(batch=2**32, sequence=2_048)).training
    assert isinstance(figure, int)
    assert figure > 2**63
    assert figure == pytest.approx(exact, rel=1e-12)


def test_csv_has_every_row_and_the_table_the_first_fifty():
    arguments = ("sweep", "gpt2", "--vary", "d_ff=1..60", "--columns", "parameters.stored,d_ff")
    rows = list(csv.reader(io.StringIO(ask(*arguments, "-f", "csv").out)))
    assert rows[0] == ["parameters.stored", "d_ff"]
    assert [row[1] for row in rows[1:]] == [str(n) for n in range(1, 61)]
    table = ask(*arguments).out
    assert "10 more rows; --format csv has all of them" in table
    assert sum(line.split()[-1:] in ([str(n)] for n in range(1, 61)) for line in table.splitlines()) == 50


def test_a_grid_without_a_shape_keeps_its_heads():
    found = archcalc.sweep("gpt2", {"n_kv_heads": [5]}, columns=["parameters.stored"])
    assert (list(found.columns), list(found.rows())) == (["n_kv_heads", "parameters.stored"], [])
    assert found.left_out == {"n_kv_heads does not divide n_heads": 1}


def test_groups_of_layers_are_varied_by_their_place(spec):
    path = spec(GPT2.model_copy(update={"layers": GPT2.layers * 2}))
    found = archcalc.sweep(path, {"layers.1.repeat": [1, 2], "d_model": [1_024]})
    assert [step.name for step in found.followed[:2]] == [
        "layers.0.attention.n_heads",
        "layers.0.attention.n_kv_heads",
    ]
    assert "is the name of 2 fields" in ask("sweep", path, "--vary", "n_layers=1").err


def test_a_grid_may_have_more_axes_than_an_array(spec):
    path = spec(GPT2.model_copy(update={"layers": GPT2.layers * 70}))
    found = archcalc.sweep(path, {f"layers.{i}.repeat": [1, 2] if i < 3 else [1] for i in range(70)}, columns=[])
    assert [row[:4] for row in found.rows()] == [(*point, 1) for point in itertools.product([1, 2], repeat=3)]


def test_a_model_is_varied_as_its_spec_is():
    model = archcalc.load("gpt3-xl@d_head=64")
    vary = {"n_layers": "1..3", "d_model": [1_024, 2_048]}
    assert list(archcalc.sweep(model, vary).rows()) == list(archcalc.sweep(model.model_copy(), vary).rows())
    assert next(archcalc.sweep(model, {"n_layers": [24]}).rows())[1] == archcalc.params(model).stored


FLAGS = {
    "nothing varied": ([], "--vary: is missing\n"),
    "no equals sign": (["--vary", "n_layers"], "--vary: 'n_layers' is not field=values\n"),
    "no values": (["--vary", "n_layers="], "--vary: 'n_layers=' is not field=values\n"),
    "an empty value": (["--vary", "n_layers=1,,2"], "--vary: n_layers: has an empty value; got '1,,2'\n"),
    "no field": (["--vary", "heads=3"], "--vary: heads: unknown field; nearest: n_heads, d_head, n_kv_heads\n"),
    "a description": (["--vary", "name=3"], "--vary: name: unknown field\n"),
    "a block": (
        ["--vary", "attention=null"],
        "--vary: attention: is a block, and no size; fields in it: attention.kind, attention.n_heads, "
        "attention.n_kv_heads, ...",
    ),
    "several": (["--vary", "bias=1"], "--vary: bias: is the name of 5 fields; name one: norm.bias,"),
    "a boolean": (
        ["--vary", "tied=true,false"],
        "--vary: unembedding.tied: is not a size; only sizes can be varied; set it in the question: SPEC@tied=...\n",
    ),
    "a word": (["--vary", "activation=gelu"], "--vary: layers.0.mlp.activation: is not a size; "),
    "twice": (["--vary", "n_layers=1", "--vary", "n_layers=2"], "--vary: n_layers: is varied twice\n"),
    "twice by two names": (["--vary", "n_layers=1", "--vary", "repeat=2"], "--vary: layers.0.repeat: is varied twice\n"),
    "zero": (["--vary", "n_heads=0"], "--vary: layers.0.attention.n_heads: must be at least 1; got 0\n"),
    "too large": (["--vary", "d_ff=1e10"], "--vary: layers.0.mlp.d_ff: must be at most 4,294,967,296; got 10000000000\n"),
    "too many layers": (["--vary", "n_layers=1..20000"], "--vary: layers.0.repeat: must be at most 10,000; got 20000\n"),
    "no integer": (["--vary", "d_model=1k"], "--vary: d_model: must be an integer; got '1k'\n"),
    "a fraction": (["--vary", "d_model=1.5"], "--vary: d_model: must be an integer; got 1.5\n"),
    "true": (["--vary", "d_model=true"], "--vary: d_model: must be an integer; got true\n"),
    "a step of nothing": (["--vary", "d_model=1..9:0"], "--vary: d_model: must be at least 1; got 0\n"),
    "a range that never ends": (["--vary", "d_model=1.."], "--vary: d_model: has an empty value; got '1..'\n"),
    "a range of three": (["--vary", "d_model=1..2..3"], "--vary: d_model: must be an integer; got '2..3'\n"),
    "backwards": (["--vary", "d_model=9..1"], "--vary: d_model: must be a range from the smaller to the larger value; got '9..1'\n"),
    "too many": (["--vary", "d_ff=1..1001", "--vary", "d_model=1..1000"], "--vary: makes more than 1,000,000 shapes; got 1,001,000\n"),
    "far too many": (["--vary", "d_ff=1..4294967296"], "--vary: makes more than 1,000,000 shapes; got 4,294,967,296\n"),
    "no batch": (["--vary", "batch=0"], "--vary: batch: must be from 1 to 4,294,967,296; got 0\n"),
    "no length": (["--vary", "seq=abc"], "--vary: seq: must be an integer; 32k is 32,768; got 'abc'\n"),
    "two sequences": (["--vary", "seq=1", "--seq", "2"], "--vary: seq: is already set by --seq\n"),
    "two batches": (["--vary", "batch=1", "--batch", "2"], "--vary: batch: is already set by --batch\n"),
    "a sequence too long": (["--vary", "d_ff=1", "--seq", "2k"], "--seq: must be from 1 to 1,024; got 2,048\n"),
    "a sequence of nothing": (["--vary", "d_ff=1", "--seq", "0"], "--seq: must be from 1 to 4,294,967,296; got 0\n"),
    "no batch at all": (["--vary", "d_ff=1", "--batch", "x"], "--batch: must be an integer; 32k is 32,768; got 'x'\n"),
    "no column": (["--vary", "d_ff=1", "--columns", "paramters"], "--columns: unknown column; got 'paramters'; nearest: parameters.mtp, parameters.tally"),
    "nothing like a column": (["--vary", "d_ff=1", "--columns", "%"], "--columns: unknown column; got '%'; `archcalc list quantities` lists the names"),
    "an empty column": (["--vary", "d_ff=1", "--columns", ""], "--columns: unknown column; got ''; `archcalc list quantities` lists the names"),
    "a column twice": (["--vary", "d_ff=1", "--columns", "d_ff,d_ff"], "--columns: d_ff: is listed twice\n"),
    "a column that is not a size": (["--vary", "d_ff=1", "--columns", "tied"], "--columns: unembedding.tied: is not a size\n"),
    "no kernel": (["--vary", "d_ff=1", "--attention", "x"], "--attention: 'x' is not one of"),
    "no recomputation": (["--vary", "d_ff=1", "--recompute", "x"], "--recompute: 'x' is not one of"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), FLAGS.values(), ids=FLAGS)
def test_a_bad_flag_is_one_line_and_exit_code_2(arguments, text):
    answer = ask("sweep", "gpt2", *arguments)
    assert answer.err.startswith(text)
    assert answer.err.count("\n") == 1
    assert (answer.code, answer.out) == (2, "")


def test_a_question_and_a_grid_do_not_set_the_same_field():
    answer = ask("sweep", "gpt2@n_layers=3", "--vary", "repeat=1")
    assert (answer.code, answer.err) == (2, "--vary: layers.0.repeat: is already set by the question\n")
    answer = ask("sweep", "gpt2@n_kv_heads=5", "--vary", "n_layers=1")
    assert answer.err.startswith("gpt2@n_kv_heads=5: layers.0.attention.n_kv_heads: must divide n_heads (12); got 5")


def test_the_library_refuses_what_the_command_line_does():
    for vary in ({}, {"d_ff": [True]}, {"d_ff": [1.0]}, {"d_ff": np.array([0])}, {"d_ff": []}, {"tied": [1]}):
        with pytest.raises(Invalid):
            archcalc.sweep("gpt2", vary)
    for sizes in ({"batch": 0}, {"seq": 0}, {"seq": 2_000}):
        with pytest.raises(Invalid):
            archcalc.sweep("gpt2", {"d_ff": [1]}, **sizes)


@pytest.mark.parametrize(("name", "shown"), [("mamba-130m", True), ("falcon-h1-0.5b", True), ("gpt2", False)])
def test_states_are_a_column_by_default_where_a_model_keeps_some(name, shown):
    """Mamba caches nothing of a token: its cache.per_token of 0 alone would say that it keeps nothing."""
    columns = ask("sweep", name, "--vary", "n_layers=1,2", "-f", "json").json["columns"]
    assert ("cache.state" in [column["name"] for column in columns]) == shown
