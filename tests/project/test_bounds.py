"""Every reader and every command has a bound: the table of docs/bounds.md, and hostile input held to it."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command import ask
from goodspec import GOOD
from parsed import tree

import archcalc
from archcalc.errors import LONGEST_LINE, Problem
from archcalc.files import reading
from archcalc.spec.model import MOST_BRANCHES_IN_ALL, MOST_KINDS_IN_ALL

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| ([^|]+) \| ([0-9,]+) \| `([\w.]+)(?:\[([\w.]+)\])?` \|$",
    (ROOT / "docs" / "bounds.md").read_text(),
    re.MULTILINE,
)
BOUND = re.compile(r"^(?:MOST|LARGEST|LONGEST|DEEPEST|SECONDS|MEMORY|PATIENCE)(?:_[A-Z_]+)?$")

# Constants that are named like bounds and refuse nothing that a user gives.
NO_BOUNDS = {
    "archcalc.counts.onerank.MEMORY",  # names of sections
    "archcalc.proof.allocator.LARGEST_STEP",  # what verify measures, and not what it takes
    "archcalc.proof.allocator.LONGEST",
    "archcalc.proof.allocator.MOST_LAYERS",
    "archcalc.proof.lowering.MOST_RANKS",
    "archcalc.proof.processes.PATIENCE",
    "archcalc.report.planfit.MOST",  # rows that a table shows
    "archcalc.proof.miniature.MOST_GROUPS",
    "archcalc.proof.miniature.MOST_REPEATS",
    "archcalc_reference.weights.places.MOST_TOLD",  # of tensors that do not fit
    "archcalc.proof.miniature.MOST_TIMES",
    "archcalc.shapes.grid.MOST_AT_ONCE",
    "archcalc.spec.unsupported.LONGEST",  # a term that is longer names nothing
    "archcalc.errors.LONGEST_VALUE",  # parts of the line whose length stands in the table
    "archcalc.errors.LONGEST_PLACE",
    "archcalc.errors.LONGEST_WORDS",
    "archcalc_reference.files.LONGEST_REASON",
    "archcalc.spec.names.LONGEST_FIELD",
    "archcalc.report.overview.MOST_KINDS",
    "archcalc.report.softmax.LONGEST_BAR",
    "archcalc.tape.run.MEMORY_KERNEL",
    "archcalc.commands.sampling.LARGEST_SEED",  # said by --seed
    "archcalc.words.vectors.MOST_AXES",
    "archcalc.strategies.LARGEST",  # of what the strategies draw
    "archcalc_reference.training.trainer.LARGEST_NORM",
}


@pytest.mark.parametrize(("what", "bound", "constant", "key"), ROWS, ids=[row[2] + row[3] for row in ROWS])
def test_the_table_says_what_the_code_does(what, bound, constant, key):
    module, _, name = constant.rpartition(".")
    if module.startswith("archcalc_reference"):
        for package in ("torch", "jinja2"):
            pytest.importorskip(package)
    value = getattr(importlib.import_module(module), name)
    assert (value[key] if key else value) == int(bound.replace(",", "")), what


def names_assigned(path):
    for statement in tree(path).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def test_no_bound_is_missing_from_the_table():
    found = set()
    for package in (ROOT / "archcalc", ROOT / "reference" / "archcalc_reference"):
        for path in package.rglob("*.py"):
            module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
            found.update(f"{module}.{name}" for name in names_assigned(path) if BOUND.match(name))
    assert found - NO_BOUNDS == {constant for _, _, constant, _ in ROWS}
    assert found >= NO_BOUNDS
    files = importlib.import_module("archcalc_reference.files")
    assert set(files.LARGEST) == {key for *_, key in ROWS if key}


def groups(count, kinds=None):
    """A spec of so many groups of layers, each of another width than the one before."""
    start, end = GOOD.index("  - repeat"), GOOD.index("final_norm")
    one = GOOD[start:end]
    layers = "".join(one.replace("d_ff: 11", f"d_ff: {8 + i % (kinds or count)}") for i in range(count))
    return GOOD[:start] + layers + GOOD[end:]


def hostile():
    """Specs that take long to write, so that they are written where they are read."""
    return {
        "24,000 unknown fields": (GOOD + "".join(f"vocab_siz{i}: 1\n" for i in range(24_000)), ""),
        "a question about 20,000 values at a depth of 60": ("{a: " * 60 + f"[{'1,' * 20_000}]" + "}" * 60, "@x=1"),
        "a question about long names": (
            "".join(f"{'  ' * i}? {'k' * 15_000}\n{'  ' * i}:\n" for i in range(40))
            + "".join(f"{'  ' * 40}x{i}: 1\n" for i in range(2_000)),
            "@x=1",
        ),
        "a name near to 40,000 others": (GOOD + "".join(f"vocab_siz{i}: 1\n" for i in range(24_000)), "@vocab_siz=1"),
        "1,600 wrong divisors of a large number": (
            groups(1_600).replace("n_heads: 4, n_kv_heads: 2", "n_heads: 4294967291, n_kv_heads: 3"),
            "",
        ),
        "1,600 groups that differ": (groups(1_600), ""),
        "twice in one place, 10,000 times, under long names": (
            "".join(f"{'  ' * i}? {'k' * 60_000}\n{'  ' * i}:\n" for i in range(10)) + f"{'  ' * 10}x: 1\n" * 10_000,
            "",
        ),
    }


CHILD = """
import contextlib, io, json, sys, time
from archcalc.cli import _main
for path in sys.argv[1:]:
    for command in ("check", "report"):
        out, err, start = io.StringIO(), io.StringIO(), time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _main([command, path])
        print(json.dumps([code, time.process_time() - start, len(out.getvalue()), err.getvalue()]))
# Not ru_maxrss, in which a child begins with what its parent had.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is asked of Linux")
def test_hostile_specs_are_told_in_time_and_in_few_lines(tmp_path):
    asked, specs = [], hostile()
    for i, (text, question) in enumerate(specs.values()):
        (tmp_path / f"{i}.yaml").write_text(text)
        asked.append(f"{tmp_path}/{i}.yaml{question}")
    done = subprocess.run([sys.executable, "-c", CHILD, *asked], capture_output=True, text=True, check=True)
    *answers, largest = map(json.loads, done.stdout.splitlines())
    assert largest < 300_000, f"{largest:,} kB"
    for name, both in zip(specs, zip(answers[::2], answers[1::2], strict=True), strict=True):
        for code, seconds, length, err in both:
            assert code in (1, 2), (name, code, err)
            assert seconds < 10, (name, seconds)
            assert length < 50_000, name
            assert len(err.splitlines()) <= 21, name
            assert max(map(len, err.splitlines())) <= LONGEST_LINE, name


def test_problems_are_counted_over_all_files_of_a_run(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text(GOOD + "".join(f"x{i}: 1\n" for i in range(15)))
    answer = ask("check", *(f"{tmp_path}/{name}.yaml" for name in "abc"), "-f", "json")
    assert len(answer.err.splitlines()) == 21
    assert answer.err.endswith("and 25 more\n")
    assert len(answer.json["checks"]) == 22  # 15 of the first, 5 and a count of the second, a count of the third


def test_groups_that_are_alike_are_one_and_those_that_differ_are_bounded(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(groups(1_000, kinds=1))
    alike = ask("params", str(path), "--by", "layer", "-f", "json").json
    assert {row["layers"] for row in alike["layers"]} == {1, 2_000}
    one = tmp_path / "one.yaml"
    one.write_text(GOOD.replace("repeat: 2", "repeat: 2000").replace("d_ff: 11", "d_ff: 8"))
    for command in ("params", "flops", "memory"):
        ours, theirs = (ask(command, str(p), "-f", "csv").out for p in (path, one))
        assert ours == theirs
    path.write_text(groups(MOST_KINDS_IN_ALL))
    assert ask("params", str(path)).code == 0
    path.write_text(groups(MOST_KINDS_IN_ALL + 1))
    told = f"has {MOST_KINDS_IN_ALL + 1} different kinds of layers; at most {MOST_KINDS_IN_ALL} are supported"
    assert ask("params", str(path)).err == f"{path}:9:3: layers: {told}\n"


def sized(groups_, kinds, branches):
    """A spec of groups of several kinds, each of several branches, of as many different widths."""
    widths = iter(range(8, 10_000))
    model = archcalc.load("tiny").model_dump(mode="json", by_alias=True)

    def layer():
        branch = {"norm": {"kind": "rmsnorm"}}
        mixers = (
            {"kind": "plain", "d_ff": next(widths), "activation": "relu", "bias": False} for _ in range(branches)
        )
        return {"branches": [{"name": f"b{i}", **branch, "mixer": mixer} for i, mixer in enumerate(mixers)]}

    def group():
        if kinds == 1:
            return {"repeat": 1, **layer()}
        names = [f"k{i}" for i in range(kinds)]
        return {"repeat": kinds, "pattern": names, "kinds": {name: layer() for name in names}}

    return json.dumps({**model, "published": [], "layers": [group() for _ in range(groups_)]})


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((40, 4, 2), None),
        ((20, 1, 16), None),
        ((41, 4, 1), "has 164 different kinds of layers; at most 160 are supported"),
        ((3, 64, 1), "has 192 different kinds of layers; at most 160 are supported"),
        ((21, 1, 16), "has 336 residual branches in its kinds of layers; at most 320 are supported"),
        ((3, 8, 14), "has 336 residual branches in its kinds of layers; at most 320 are supported"),
    ],
)
def test_kinds_and_branches_of_all_groups_are_bounded_together(tmp_path, shape, told):
    groups_, kinds, branches = shape
    assert (groups_ * kinds > MOST_KINDS_IN_ALL or groups_ * kinds * branches > MOST_BRANCHES_IN_ALL) == bool(told)
    path = tmp_path / "s.json.yaml"
    path.write_text(sized(*shape))
    answer = ask("params", str(path), "-f", "json")
    assert answer.code == (2 if told else 0)
    if told:
        assert answer.err.endswith(f": layers: {told}\n")


def test_groups_of_one_kind_count_as_when_each_has_a_tape_of_its_own(monkeypatch):
    """Layers that differ in sizes share a tape: the figures are those of tapes of their own."""
    tiny = archcalc.load("tiny")
    one = tiny.layers[0]
    widths = (8, 16, 8, 24)
    layers = tuple(one.model_copy(update={"mlp": one.mlp.model_copy(update={"d_ff": n})}) for n in widths)
    model = tiny.model_copy(update={"layers": layers})
    shared = [archcalc.params(model), archcalc.memory(model, archcalc.Run(sequence=8))]
    assert len({id(segment.tape) for segment in model.record().segments[1:-1]}) == 1
    monkeypatch.setattr("archcalc.spec.layers.Layer.alike", property(id))
    assert len({id(segment.tape) for segment in model.record().segments[1:-1]}) == 4
    assert [archcalc.params(model), archcalc.memory(model, archcalc.Run(sequence=8))] == shared


def test_a_sweep_is_written_in_pieces_and_fewer_shapes_are_of_more_groups(tmp_path, monkeypatch):
    from archcalc.report.grid import grid_sheet
    from archcalc.report.render import render, rendered
    from archcalc.shapes.grid import CHUNK, sweep

    monkeypatch.setattr("archcalc.shapes.grid.CHUNK", 7)
    monkeypatch.setattr("archcalc.report.render._ROWS", 5)
    sheet = grid_sheet(sweep("tiny", {"n_layers": "1..5", "batch": "1..4"}, columns=["parameters.stored"]))
    monkeypatch.setattr("archcalc.shapes.grid.CHUNK", CHUNK)
    assert len(list(rendered(sheet, "csv"))) == 1 + 4
    rows = json.loads(render(sheet, "json"))["rows"]
    assert [row[:2] for row in rows] == [[n, b] for n in range(1, 6) for b in range(1, 5)]
    assert [",".join(map(str, row)) for row in rows] == render(sheet, "csv").splitlines()[1:]
    path = tmp_path / "s.yaml"
    path.write_text(groups(100))
    told = ask("sweep", str(path), "--vary", "batch=1..10001").err
    assert told == "--vary: makes more than 10,000 shapes of 100 groups of layers; got 10,001\n"


def test_layers_that_are_run_are_bounded():
    for arguments, message in (
        (
            ("verify", "tiny@n_layers=201"),
            "tiny: has 201 layers; verify runs at most 200; --tensors compares without running it\n",
        ),
        (("verify", "--tensors", "tiny@n_layers=2001"), "tiny: has 2,001 layers; verify builds at most 2,000\n"),
        (
            ("trace", "tiny@n_layers=201", "-p", "a"),
            "--prompt: runs through at most 200 layers; tiny@n_layers=201 has 201; trace tiny@n_layers=200\n",
        ),
    ):
        assert ask(*arguments) == (2, "", message)


def test_pipes_are_waited_for_in_bounded_time(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    monkeypatch.setattr(reading, "LONGEST_WAIT", 0.3)
    monkeypatch.setattr("archcalc.files.writing.PATIENCE", 0.1)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for command in (("params", str(fifo)), ("embed", str(fifo), "a")):
        answer = ask(*command)
        assert answer.code == 2
        assert answer.err.startswith(f"{fifo}: ")
        assert "is a pipe that was not written to for 0.1 seconds" in answer.err
    assert ask("list", "-f", "csv", "-o", str(fifo)).err.startswith(f"{fifo}: is a pipe without a reader")

    def write(text, then):
        with fifo.open("w") as file:
            file.write(text)
            file.flush()
            then.wait()

    def told(text, *, ends):
        end = threading.Event()
        if ends:
            end.set()
        writer = threading.Thread(target=write, args=(text, end))
        writer.start()
        answer = ask("params", str(fifo))
        end.set()
        writer.join()
        return answer

    assert told(GOOD, ends=True).out.startswith("good: ")
    assert "did not end within 0.3 seconds; save its output to a file" in told("a: 1\n", ends=False).err


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="the system's own log is root's to read")
def test_what_the_system_makes_up_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """/proc/kmsg is a regular file by its mode, of no bytes, and once it is read it waits as a device does."""
    monkeypatch.setattr(reading, "PATIENCE", 0.1)
    monkeypatch.setattr(reading, "LONGEST_WAIT", 0.1)
    config = tmp_path / "config.json"
    config.symlink_to("/proc/kmsg")
    for arguments in (("params", str(config)), ("memory", "tiny", "--plan", str(config)), ("embed", str(config), "a")):
        answer = ask(*arguments)
        assert (answer.code, answer.err.count("\n")) == (2, 1), answer
    (tmp_path / "model.safetensors.index.json").symlink_to("/proc/kmsg")
    config.unlink()
    answer = ask("params", str(tmp_path))
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer


MISTAKES = {
    "spec": lambda: "".join(f"x{i}: 1\n" for i in range(24_000)),
    "config.json": lambda: json.dumps({"model_type": "gpt2", **{f"k{i}": i for i in range(150_000)}}),
}


@pytest.mark.parametrize("made", MISTAKES.values(), ids=MISTAKES)
def test_a_file_of_mistakes_alone_is_told_in_one_line(tmp_path, made):
    path = tmp_path / "s.yaml"
    path.write_text(made())
    told = f"{path}: has more than 10,000 mistakes; is it the file that was meant?\n"
    assert ask("params", str(path)) == (2, "", told)


STATE = {"version": 1, "step": 1, "sequences": 2, "threads": 1, "seal": "0" * 64}


def states():
    return {
        "5,000,000 empty lists": ("[" + "[]," * 5_000_000 + "1]", "has more than 400,000 values"),
        "300,000 wrong names of data": (
            json.dumps({**STATE, "data": {"files": [1] * 300_000}}),
            "settings: is missing",
        ),
        "190,000 unknown fields": (
            json.dumps(STATE | {f"x{i}": 1 for i in range(190_000)}),
            "has more than 10,000 mistakes",
        ),
    }


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is asked of Linux")
def test_hostile_states_of_a_training_are_told_in_time_and_little_memory(tmp_path):
    hostile_states = states()
    folders = [tmp_path / str(i) for i in range(len(hostile_states))]
    for folder, (text, _) in zip(folders, hostile_states.values(), strict=True):
        (folder / "step-00000001").mkdir(parents=True)
        (folder / "step-00000001" / "state.json").write_text(text)
    done = subprocess.run([sys.executable, "-c", CHILD, *folders], capture_output=True, text=True, check=True)
    *answers, largest = map(json.loads, done.stdout.splitlines())
    assert largest < 300_000, f"{largest:,} kB"
    for (code, seconds, _, err), (_, said) in zip(answers[1::2], hostile_states.values(), strict=True):
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
        assert seconds < 5


def test_input_without_an_end_is_refused(monkeypatch):
    class Endless:
        """Standard input of one line again and again, as `yes` writes it."""

        def __init__(self, line):
            self.buffer, self.line = self, line

        def read(self, most):
            return (self.line * (most // len(self.line) + 1))[:most]

        def readline(self, _):
            return self.line

        def fileno(self):
            raise OSError

        def isatty(self):
            return False

    monkeypatch.setattr("archcalc.words.wordfile.MOST_LINES", 1_000)
    for line, arguments in (
        (b"a: 1\n", ("params", "-")),
        (b"1\n", ("softmax", "-")),
        (b"a 1 2\n", ("embed", "-", "a")),
        (b"\n", ("embed", "-", "a")),
        (b"text\n", ("tokens", "-")),
    ):
        monkeypatch.setattr("sys.stdin", Endless(line))
        answer = ask(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert re.match(r"<stdin>.*(larger|longer|more) than", answer.err), answer.err


def test_a_line_of_a_message_is_bounded_whatever_is_in_it():
    problem = Problem("f" * 5_000, "m" * 5_000, "p" * 5_000, 1, 1, "v" * 5_000, "s" * 5_000)
    assert len(str(problem)) <= LONGEST_LINE
    assert str(problem).endswith("...")
