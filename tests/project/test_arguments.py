"""The library refuses what the command line refuses, in its words, and takes numpy's integers as Python's."""

import inspect

import numpy as np
import pytest
from command import ask

import archcalc
from archcalc import strategies
from archcalc.counts.activations import cache
from archcalc.counts.memory import peak_bytes, state_bytes
from archcalc.testing import archcalc_check

GPT2 = archcalc.load("gpt2")
Run, Keeping, Invalid = archcalc.Run, archcalc.Keeping, archcalc.Invalid

SIZES = {
    "0": "must be from 1 to 4,294,967,296; got 0",
    "-5": "must be from 1 to 4,294,967,296; got -5",
    "2**32 + 1": "must be from 1 to 4,294,967,296; got 4,294,967,297",
    "10**5000": "must be from 1 to 4,294,967,296; got an integer of 16,610 bits",
    "True": "must be an integer; got True",
    "2.0": "must be an integer; got 2.0",
    "float('nan')": "must be an integer; got nan",
    "float('inf')": "must be an integer; got inf",
    "'4'": "must be an integer; got '4'",
    "[4]": "must be an integer; got [4]",
    "np.int64(-5)": "must be from 1 to 4,294,967,296; got -5",
    "np.uint64(2**64 - 1)": "must be from 1 to 4,294,967,296; got 18,446,744,073,709,551,615",
    "np.float64(4)": "must be an integer; got 4.0",
    "np.bool_(True)": "must be an integer; got True",
    "np.array(-5)": "must be from 1 to 4,294,967,296; got -5",
    "np.array([4, -5])": "must be from 1 to 4,294,967,296; got -5",
    "np.array([4, 1.5])": "must be an integer; got 1.5",
    "np.array([True, True])": "must be integers; got array([ True,  True])",
    "np.array(['4'])": "must be integers; got array(['4'], dtype='<U1')",
    "np.array([4, np.nan])": "must be an integer; got nan",
}
WORDS = {"phase": "train", "attention": "sdpa", "causal": "none", "logits": "first"}
KEPT = {"precision": "fp64", "optimizer": "adam", "recompute": "some", "kv_precision": "int4"}
NO_WORDS = (False, 1, "", ["full"], np.int64(0))


def refusal(call):
    with pytest.raises(Invalid) as error:
        call()
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("value", SIZES)
@pytest.mark.parametrize("field", ["batch", "sequence", "context"])
def test_a_size_that_cannot_be_is_no_run(field, value):
    phase = "decode" if field == "context" else "training"
    number, line = eval(value), f"Run: {field}: {SIZES[value]}"  # noqa: S307  (our own table)
    assert refusal(lambda: Run(phase, **{field: number})) == line
    assert refusal(lambda: Run(phase)._replace(**{field: number})) == line
    for function in (archcalc.flops, archcalc.memory):
        assert refusal(lambda call=function: call(GPT2, Run(phase, **{field: number}))) == line


@pytest.mark.parametrize("field", [*WORDS, *KEPT])
def test_a_word_that_is_none_of_the_choices_is_told_with_them(field):
    kind, word = (Run, WORDS[field]) if field in WORDS else (Keeping, KEPT[field])
    told = refusal(lambda: kind(**{field: word}))
    assert told.startswith(f"{kind.__name__}: {field}: '{word}' is not one of '")
    flag = f"--{field.replace('_', '-')}"
    command = ("explain", "gpt2", "flops.forward") if field in WORDS else ("memory", "gpt2")
    typed = ask(*command, flag, word).err.rstrip("\n")
    assert typed.startswith(f"{flag}: '{word}' is not one of '")
    assert typed.split(" is not one of ")[1] == told.split(" is not one of ")[1]
    for value in NO_WORDS:
        assert f"{field}: " in refusal(lambda value=value: kind(**{field: value}))


@pytest.mark.parametrize("value", [0, 1, None, "yes", np.int64(1)])
def test_what_is_no_boolean_is_refused(value):
    assert "dropout: must be True or False" in refusal(lambda: Run(dropout=value))
    assert "accumulate: must be True or False" in refusal(lambda: Keeping(accumulate=value))


RUNS = {
    "sequence in decode": ({"phase": "decode", "sequence": 5}, "Run: sequence: must be 1 for decode, which adds one position to each sequence; got 5; set context instead"),
    "context in training": ({"context": 8}, "Run: context: applies only to decode; training reads the sequence alone; got 8; set sequence instead"),
    "context in prefill": ({"phase": "prefill", "context": 8}, "Run: context: applies only to decode; prefill reads the sequence alone; got 8; set sequence instead"),
    "the last logits in training": ({"logits": "last"}, "Run: logits: must be all for training, whose loss reads the logits of all positions; got 'last'"),
    "dropout in prefill": ({"phase": "prefill", "dropout": True}, "Run: dropout: applies only to training; got True"),
    "half the pairs in decode": ({"phase": "decode", "causal": "half"}, "Run: causal: must be full for decode: its new position attends to all earlier ones; got 'half'"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "line"), RUNS.values(), ids=RUNS)
def test_what_a_phase_has_no_use_for_is_refused(fields, line):
    assert refusal(lambda: Run(**fields)) == line


NOT_A_MODEL = [None, 5, "gpt2", b"gpt2", ["gpt2"], {"d_model": 768}, Run(), np.arange(3)]
MODELS = {
    "params": archcalc.params,
    "flops": lambda model: archcalc.flops(model, Run()),
    "memory": lambda model: archcalc.memory(model, Run()),
    "dump": archcalc.dump,
}
CALLS = {
    "ranks with a dict": (lambda: archcalc.ranks(GPT2, {"tp": 2}, Run(), Keeping()), "ranks: plan: must be a Plan; got {'tp': 2}"),
    "ranks that do not divide": (lambda: archcalc.ranks(GPT2, archcalc.Plan(pp=5), Run(), Keeping()), "plan: pp: must divide n_layers (12); got 5"),
    "traffic with a dict": (lambda: archcalc.traffic(GPT2, {"tp": 2}, Run(), Keeping()), "traffic: plan: must be a Plan; got {'tp': 2}"),
    "sweep_plans of a dict": (lambda: archcalc.sweep_plans(GPT2, {"tp": [1]}, {}, Run(), Keeping()), "sweep_plans: plan: must be a Plan; got {}"),
    "sweep_plans of a size": (lambda: archcalc.sweep_plans(GPT2, {"d_ff": [1]}, archcalc.Plan(), Run(), Keeping()), "sweep_plans: d_ff: is not a field of a plan"),
    "flops with a Keeping": (lambda: archcalc.flops(GPT2, Keeping()), "flops: run: must be a Run; got Keeping("),
    "flops with a dict": (lambda: archcalc.flops(GPT2, {"batch": 1}), "flops: run: must be a Run; got {'batch': 1}"),
    "flops with a tuple": (lambda: archcalc.flops(GPT2, tuple(Run())), "flops: run: must be a Run; got ('training'"),
    "flops beyond the context": (lambda: archcalc.flops(GPT2, Run(sequence=np.int64(4096))), "Run: sequence: must be from 1 to 1,024; got 4,096"),
    "memory beyond the context": (lambda: archcalc.memory(GPT2, Run("prefill", sequence=4096)), "Run: sequence: must be from 1 to 1,024; got 4,096"),
    "decode beyond the context": (lambda: archcalc.flops(GPT2, Run("decode", context=4096)), "Run: context: must be from 1 to 1,024; got 4,096"),
    "memory with a Run twice": (lambda: archcalc.memory(GPT2, Run(), Run()), "memory: keeping: must be a Keeping; got Run("),
    "memory with a precision": (lambda: archcalc.memory(GPT2, Run(), "fp32"), "memory: keeping: must be a Keeping; got 'fp32'"),
    "memory of decode": (lambda: archcalc.memory(GPT2, Run("decode", context=8)), "Run: phase: must be training or prefill for memory; got 'decode'"),
    "training in int4": (lambda: archcalc.memory(GPT2, Run(), Keeping("int4")), "Keeping: precision: for training must be one of mixed-16,"),
    "serving with a recipe": (lambda: archcalc.memory(GPT2, Run("prefill"), Keeping()), "Keeping: precision: for inference must be one of fp32,"),
    "serving with an optimizer": (lambda: archcalc.memory(GPT2, Run("prefill"), Keeping("bf16", "sgd")), "Keeping: optimizer: applies only to training"),
    "training with a cache": (lambda: archcalc.memory(GPT2, Run(), Keeping(kv_precision="fp8")), "Keeping: kv_precision: applies only to inference"),
    "lint of a number": (lambda: archcalc.lint(5), "SPEC: must be a name or a path; got 5"),
    "lint with a word": (lambda: archcalc.lint("gpt2", select="AC110"), "lint: select: must be a list of identifiers, or of how they begin; got 'AC110'"),
    "lint with no rule": (lambda: archcalc.lint("gpt2", ignore=["AC9"]), "lint: ignore: matches no rule; got 'AC9'; `archcalc list rules` shows all"),
    "lint with a number": (lambda: archcalc.lint("gpt2", select=[110]), "lint: select: matches no rule; got '110'"),
    "lint with a plan": (lambda: archcalc.lint("gpt2", archcalc.Plan()), "lint: aim: must be an Aim; got Plan("),
    "load of a Model": (lambda: archcalc.load(GPT2), "SPEC: must be a name or a path; got Model("),
    "load of bytes": (lambda: archcalc.load(b"gpt2"), "SPEC: must be a name or a path; got b'gpt2'"),
    "load of nothing": (lambda: archcalc.load(None), "SPEC: must be a name or a path; got None"),
    "sweep of a number": (lambda: archcalc.sweep(5, {"n_layers": [1]}), "SPEC: must be a name or a path; got 5"),
    "sweep over a list": (lambda: archcalc.sweep("gpt2", ["n_layers"]), "--vary: must map fields to sizes; got ['n_layers']"),
    "sweep over a number": (lambda: archcalc.sweep("gpt2", {"n_layers": 12}), "--vary: n_layers: must be sizes; got 12"),
    "sweep over no name": (lambda: archcalc.sweep("gpt2", {7: [12]}), "--vary: must map fields to sizes; got 7"),
    "sweep over floats": (lambda: archcalc.sweep("gpt2", {"n_layers": [1.5]}), "--vary: layers.0.repeat: "),
    "sweep over booleans": (lambda: archcalc.sweep("gpt2", {"batch": [True]}), "--vary: batch: must be an integer"),
    "sweep over a float batch": (lambda: archcalc.sweep("gpt2", {"batch": np.array([1.0])}), "--vary: batch: must be an integer"),
    "sweep over what never ends": (lambda: archcalc.sweep("gpt2", {"batch": iter(lambda: 1, 2)}), "--vary: makes more than 1,000,000 shapes"),
    "sweep with one column in words": (lambda: archcalc.sweep("gpt2", {"batch": [1]}, columns="parameters.stored"), "--columns: must be a list of names; got 'parameters.stored'"),
    "sweep with a column of no word": (lambda: archcalc.sweep("gpt2", {"batch": [1]}, columns=[3]), "--columns: unknown column; got 3"),
    "sweep of no sequence": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, batch=0), "--batch: must be from 1 to 4,294,967,296; got 0"),
    "sweep of half a sequence": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, batch=0.5), "--batch: must be an integer; got 0.5"),
    "sweep of a long one": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, seq=np.int64(4096)), "--seq: must be from 1 to 1,024; got 4,096"),
    "sweep of a boolean": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, seq=True), "--seq: must be an integer; got True"),
    "sweep with another attention": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, attention="sdpa"), "--attention: 'sdpa' is not one of 'math', 'flash'"),
    "sweep with a Run": (lambda: archcalc.sweep("gpt2", {"n_layers": [1]}, keeping=Run()), "sweep: keeping: must be a Keeping; got Run("),
    "models of no size": (lambda: strategies.models(largest=0), "strategies: largest: must be from 1 to 4,294,967,296; got 0"),
    "models of no group": (lambda: strategies.models(most_groups=0), "strategies: most_groups: must be from 1 to "),
    "models of a fraction": (lambda: strategies.models(most_repeats=1.5), "strategies: most_repeats: must be an integer; got 1.5"),
    "archcalc_check of a number": (lambda: archcalc_check(5), "SPEC: must be a name or a path; got 5"),
    "archcalc_check with a list": (lambda: archcalc_check("gpt2", config=[]), "SPEC: must be a name or a path; got []"),
    "sizes of nothing": (lambda: strategies.sizes(None), "strategies: largest: must be an integer; got None"),
}  # fmt: skip


@pytest.mark.parametrize("value", NOT_A_MODEL, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_model_is_refused(name, value):
    line = refusal(lambda: MODELS[name](value))
    assert line.startswith(f"{name}: model: must be a Model; got ")
    assert line.endswith("; archcalc.load reads one")


@pytest.mark.parametrize(("call", "line"), CALLS.values(), ids=CALLS)
def test_what_a_function_cannot_take_is_one_line(call, line):
    assert refusal(call).startswith(line)


def test_a_check_of_what_is_no_spec_is_a_problem():
    for value in (None, 5, GPT2, b"gpt2"):
        (problem,) = archcalc.check(value)
        assert "must be a name or a path" in str(problem)


def test_every_public_function_stands_in_these_tables():
    functions = {name for name in archcalc.__all__ if inspect.isfunction(getattr(archcalc, name))}
    told = {name.split()[0] for name in CALLS} | set(MODELS) | {"check"}
    assert functions <= told
    assert {"models", "sizes", "archcalc_check"} <= told  # of strategies; `spoiled` takes nothing


@pytest.mark.parametrize("value", [-768, 0, 768.0, True, "768", 2**64 + 1, np.int64(-1), np.float32(768)])
def test_a_model_whose_sizes_were_replaced_is_checked_too(value):
    model = GPT2.model_copy(update={"d_model": value})
    group = GPT2.layers[0].model_copy(update={"repeat": value})
    for wrong in (model, GPT2.model_copy(update={"layers": (group,)})):
        for function in (archcalc.params, lambda m: archcalc.flops(m, Run()), lambda m: archcalc.memory(m, Run())):
            assert refusal(lambda f=function, m=wrong: f(m)).startswith("Model: ")


WIDTHS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.intp, np.longlong]


def narrow(kind):
    """As large a batch and a sequence as the type can hold, and GPT-3 allows."""
    most = int(np.iinfo(kind).max)
    return min(most, 2**32), min(most, 2048)


@pytest.mark.parametrize("kind", [*WIDTHS, np.array], ids=lambda kind: getattr(kind, "__name__", "array"))
def test_numpys_integers_count_as_pythons_do(kind):
    model = archcalc.load("gpt3-175b")
    batch, sequence = (2**32, 2048) if kind not in WIDTHS else narrow(kind)
    runs = [
        Run(batch=batch, sequence=sequence),
        Run("prefill", batch, sequence),
        Run("decode", batch, context=sequence),
    ]
    for run in runs:
        typed = Run(
            run.phase,
            kind(run.batch),
            kind(run.sequence),
            None if run.context is None else kind(run.context),
        )
        assert typed == run
        assert all(type(n) is int for n in typed if not isinstance(n, str | bool | None))
        assert run._replace(batch=kind(batch)) == run
        assert archcalc.flops(model, typed) == archcalc.flops(model, run)
        if run.phase != "decode":
            found = archcalc.memory(model, typed)
            assert found == archcalc.memory(model, run)
            assert type(found.total) is int
            assert type(peak_bytes(model, typed)) is int
            assert type(cache(model, typed, 2)) is int
            assert type(state_bytes(archcalc.params(model), typed)) is int


def test_a_grid_takes_numpys_integers_as_pythons():
    exact = archcalc.sweep("gpt2", {"n_layers": [1, 2]}, batch=3, seq=5)
    typed = archcalc.sweep("gpt2", {"n_layers": np.array([1, 2], np.uint8)}, batch=np.int8(3), seq=np.array(5))
    assert list(typed.rows()) == list(exact.rows())
    assert typed.asked.work == exact.asked.work


@pytest.mark.parametrize("kind", WIDTHS, ids=lambda kind: kind.__name__)
def test_a_model_of_numpys_integers_counts_as_one_of_pythons(kind):
    most = min(int(np.iinfo(kind).max), 50_257)
    exact = GPT2.model_copy(update={"vocab_size": most, "d_model": min(most, 768)})
    group = exact.layers[0].model_copy(update={"repeat": kind(12)})
    typed = exact.model_copy(update={"vocab_size": kind(most), "d_model": kind(min(most, 768)), "layers": (group,)})
    run = Run(batch=2**32, sequence=1024)
    assert archcalc.params(typed) == archcalc.params(exact)
    assert archcalc.flops(typed, run) == archcalc.flops(exact, run)
    assert archcalc.memory(typed, run) == archcalc.memory(exact, run)
    assert type(archcalc.flops(typed, run).forward) is int


def test_arrays_of_many_sizes_still_count():
    batches = np.array([1, 2, 2**20])
    work = archcalc.flops(GPT2, Run(batch=batches, sequence=1024))
    assert [int(n) for n in work.forward] == [
        archcalc.flops(GPT2, Run(batch=int(b), sequence=1024)).forward for b in batches
    ]


def test_a_run_is_still_a_tuple_with_names():
    run = Run("prefill", 2, 3)
    assert run == ("prefill", 2, 3, None, None, "full", "all", False, "fused")
    assert repr(run).startswith("Run(phase='prefill', batch=2, sequence=3")
    assert list(inspect.signature(Run).parameters) == list(Run._fields)
    assert list(inspect.signature(Keeping).parameters) == list(Keeping._fields)
    import copy
    import pickle

    for kept in (run, Keeping("fp32")):
        assert pickle.loads(pickle.dumps(kept)) == kept  # noqa: S301  (our own bytes)
        assert type(copy.deepcopy(kept)) is type(kept)
    with pytest.raises(TypeError):
        Run(sequences=2)
