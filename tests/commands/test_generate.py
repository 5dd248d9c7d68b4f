"""The commands that run a model: texts, the likely tokens of each step, one prediction."""

import io
import json
import math
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
from command import ask
from outside import byte_level

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import archcalc  # noqa: E402
from archcalc.cli import _main  # noqa: E402
from archcalc.packages import install_command  # noqa: E402
from archcalc_reference import Transformer  # noqa: E402
from archcalc_reference.model.generation import generate  # noqa: E402
from archcalc_reference.model.sampling import Sampling  # noqa: E402
from archcalc_reference.weights.folder import load_weights, save_weights  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of `tiny`, larger than at the start of training so that texts differ."""
    torch.manual_seed(1)
    model = Transformer(archcalc.load("tiny"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    folder = str(tmp_path_factory.mktemp("weights") / "tiny")
    save_weights(model, folder)
    return folder


def run(*arguments):
    done = ask(*arguments)
    assert done.code == 0, done.err
    return done


def test_the_text_is_that_of_the_model(weights):
    done = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "20", "--seed", "7")
    model = load_weights(archcalc.load("tiny"), weights).eval()
    tokens = [step.tokens_N[0] for step in generate(model, list(b"Hi"), 20, Sampling(seed=7))]
    assert done.out == "Hi" + bytes(tokens).decode(errors="replace") + "\n"


def test_the_cache_takes_what_memory_counts(weights):
    done = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "20", "--samples", "3")
    counted = 3 * 22 * 5 * 2 * 128 * 4  # samples x positions x layers x (keys, values) x features x bytes
    assert f"the KV cache takes {counted:,} bytes, as counted\n" in done.err


def test_bf16_is_computed_in_fp32_where_the_cpu_has_no_units_for_it(weights, tmp_path, monkeypatch):
    """As a folder whose weights are rounded already says it in fp32."""
    rounded = str(tmp_path / "rounded")
    save_weights(load_weights(archcalc.load("tiny"), weights, dtype=torch.bfloat16), rounded)
    asked = ("-p", "Hi", "--max-tokens", "20", "--seed", "7", "--show", "5")
    expected = run("generate", "tiny", "--weights", rounded, *asked, "--precision", "fp32")
    for units in ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, {"neon": True}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units, raising=False)
        done = run("generate", "tiny", "--weights", weights, *asked, "--precision", "bf16")
        assert done.out == expected.out
        assert done.err.count("the CPU has no bf16 instructions: ") == 1
        assert f"{22 * 5 * 2 * 128 * 4:,} bytes" in done.err  # keys and values in fp32
    for units in ({"avx512_bf16": True}, {"amx_bf16": True}, {"neon": True, "bf16": True}, None):
        if units is None:  # a PyTorch that does not say
            monkeypatch.delattr(torch.cpu, "get_capabilities")
        else:
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        done = run("generate", "tiny", "--weights", weights, *asked, "--precision", "bf16")
        assert "bf16 instructions" not in done.err
        assert f"{22 * 5 * 2 * 128 * 2:,} bytes" in done.err  # keys and values in bf16


@pytest.mark.parametrize("flags", [(), ("--samples", "2"), ("--show", "2"), ("--compare-temperatures", "0,1")])
def test_statistics_stand_on_lines_of_their_own_after_the_text(weights, flags, monkeypatch):
    """On a terminal both streams are one: the text has come to its end, with a line's end, before they are told."""
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    assert _main(["generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "4", *flags]) == 0
    lines = both.getvalue().split("\n")
    told = [line for line in lines if " per second; the KV cache takes " in line]
    assert len(told) == (2 if "0,1" in flags else 1)
    assert all(
        re.match(r"\d+ tokens, [\d.,]+ per second; the KV cache takes [\d,]+ bytes, as counted$", one) for one in told
    )
    assert lines[-2] == told[-1], "after all of the text"


def test_the_same_seed_gives_the_same_text_and_another_another(weights):
    texts = [run("generate", "tiny", "--weights", weights, "-p", "Hi", "--seed", seed).out for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


def test_identities_change_nothing_and_each_setting_something(weights):
    asked = (
        "generate",
        "tiny",
        "--weights",
        weights,
        "-p",
        "Hi",
        "--seed",
        "3",
        "--max-tokens",
        "40",
        "--temperature",
        "2",
    )
    plain = run(*asked).out
    same = ("--top-k", "0", "--top-p", "1.0", "--min-p", "0", "--repetition-penalty", "1")
    assert run(*asked, *same).out == plain
    for flag, value in (("--top-k", "3"), ("--top-p", "0.3"), ("--min-p", "0.3"), ("--repetition-penalty", "9")):
        assert run(*asked, flag, value).out != plain, flag


def test_several_samples_stand_below_each_other(weights):
    out = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--samples", "2", "--max-tokens", "4").out
    assert out.startswith("--- 1 of 2 ---\nHi")
    assert "\n--- 2 of 2 ---\nHi" in out


def test_a_stop_ends_a_text_before_it(weights):
    whole = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "30").out
    stop = next(c for c in whole[4:-1] if c.isascii() and c.isprintable())
    cut = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "30", "--stop", stop).out
    assert cut == "Hi" + whole[2:].partition(stop)[0] + "\n"


def test_the_likely_tokens_of_each_step_are_shown_and_the_drawn_one_is_marked(weights):
    out = run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "3", "--show", "4").out
    steps = out.split("position ")[1:]
    assert [step.splitlines()[0] for step in steps] == ["2", "3", "4"]
    for step in steps:
        rows = [line for line in step.splitlines() if "%" in line]
        assert len(rows) in (4, 5)  # and the one that was drawn, where it is no likely one
        assert sum(line.startswith("> ") for line in rows) == 1
        shares = [float(line[2:].split("%")[0]) for line in rows[:4]]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 100.01


def test_a_trace_has_a_line_for_each_token(weights, tmp_path):
    path = tmp_path / "trace.jsonl"
    run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "5", "--trace", str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["position"] for line in lines] == [2, 3, 4, 5, 6]
    for line in lines:
        assert set(line) == {"position", "token_id", "text", "probability", "top"}
        assert len(line["top"]) == 20
        top = line["top"]
        assert set(top[0]) == {"token_id", "text", "logit", "probability"}
        ratio = top[0]["probability"] / top[1]["probability"]
        assert ratio == pytest.approx(math.exp(top[0]["logit"] - top[1]["logit"]), rel=1e-6)


def test_temperatures_are_compared_from_one_seed(weights):
    arguments = ("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "5")
    out = run(*arguments, "--compare-temperatures", "0,1").out
    cold, warm = (run(*arguments, "--temperature", t).out for t in ("0", "1"))
    assert out == f"temperature 0\n{cold}temperature 1\n{warm}"


def test_a_prediction_is_a_distribution(weights):
    told = run("predict", "tiny", "--weights", weights, "-p", "Hi", "--top", "256", "-f", "json").json
    assert len(told["rows"]) == 256
    assert math.fsum(row["probability"] for row in told["rows"]) == pytest.approx(1, abs=1e-9)
    shown = run("predict", "tiny", "--weights", weights, "-p", "Hi", "--top", "3").out
    best = told["rows"][0]
    assert f"{100 * best['probability']:.2f}%" in shown
    cold = run("predict", "tiny", "--weights", weights, "-p", "Hi", "--temperature", "0", "-f", "json").json
    assert cold["rows"][0]["probability"] == 1


@pytest.mark.parametrize("command", ["generate", "predict"])
def test_without_pytorch_the_extra_is_named(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    done = ask(command, "tiny", "-p", "Hi")
    assert done.code == 3
    assert done.err == f"{command}: needs the package torch; {install_command('run')}\n"


def test_a_prompt_that_is_no_utf_8_is_one_line(weights):
    done = ask("generate", "tiny", "--weights", weights, "-p", "-", stdin=b"a\nb\xff")
    assert (done.code, done.err) == (2, "<stdin>:2:2: is not UTF-8; got b'\\xff'\n")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ([], 3, "--weights: tiny has no weights in the current directory; "),
        (["--weights", "nowhere"], 3, "nowhere: "),
        (["-p", ""], 2, "--prompt: is empty"),
        (["-p", "x" * 64], 2, "--prompt: has 64 tokens; the context holds 64, which leaves no room for a new one"),
        (["--temperature", "-1"], 2, "--temperature: must be a number of at least 0; got '-1'"),
        (["--temperature", "hot"], 2, "--temperature: must be a number of at least 0; got 'hot'"),
        (["--top-k", "-1"], 2, "--top-k: must be from 0 to "),
        (["--top-p", "1.5"], 2, "--top-p: must be more than 0 and at most 1; got '1.5'"),
        (["--top-p", "0"], 2, "--top-p: must be more than 0 and at most 1; got '0'"),
        (["--min-p", "1.01"], 2, "--min-p: must be from 0 to 1; got '1.01'"),
        (["--min-p", "-0.1"], 2, "--min-p: must be a number of at least 0; got '-0.1'"),
        (["--repetition-penalty", "0"], 2, "--repetition-penalty: must be more than 0; got '0'"),
        (["--repetition-penalty", "x"], 2, "--repetition-penalty: must be a number of at least 0; got 'x'"),
        (["--repetition-penalty", "inf"], 2, "--repetition-penalty: must be a number of at least 0; got 'inf'"),
        (["--max-tokens", "0"], 2, "--max-tokens: must be from 1 to "),
        (["--samples", "1001"], 2, "--samples: must be from 1 to 1,000; got 1,001"),
        (["--seed", "x"], 2, "--seed: must be an integer"),
        (["--stop", ""], 2, "--stop: is empty"),
        (["--show", "257"], 2, "--show: must be from 1 to 256; got 257"),
        (["--compare-temperatures", "0,,1"], 2, "--compare-temperatures: must be a number of at least 0; got ''"),
        (["--precision", "int8"], 2, "--precision: 'int8' is not one of"),
    ],
)
def test_what_cannot_be_generated_is_one_line(weights, arguments, code, line):
    rest = [] if not arguments or "--weights" in arguments else ["--weights", weights]
    prompt = [] if "-p" in arguments else ["-p", "Hi"]
    done = ask("generate", "tiny", *rest, *prompt, *arguments)
    assert done.code == code
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_a_text_ends_where_its_tokenizer_says(weights, tmp_path):
    """A token that a greedy text has anyway is declared the end of a sequence."""
    folder = tmp_path / "weights"
    save_weights(load_weights(archcalc.load("tiny"), weights), str(folder))
    fast = byte_level(["Hi"], 256)
    fast.save(str(folder / "tokenizer.json"))
    asked = ("generate", "tiny", "--weights", str(folder), "-p", "Hi", "--max-tokens", "12", "--temperature", "0")
    trace = tmp_path / "trace.jsonl"
    run(*asked, "--trace", str(trace))
    ids = [json.loads(line)["token_id"] for line in trace.read_text().splitlines()]
    assert len(ids) == 12
    end = ids[5]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}))
    out = run(*asked, "--trace", str(trace)).out
    again = [json.loads(line)["token_id"] for line in trace.read_text().splitlines()]
    assert again == ids[: ids.index(end) + 1]  # the end was drawn, and is no text
    assert out == "Hi" + fast.decode(again[:-1]) + "\n"


@pytest.mark.parametrize("how", [["--temperature", "0"], ["--top-k", "2"]])
def test_the_likely_tokens_are_so_where_all_but_some_have_no_probability(weights, tmp_path, how):
    trace = tmp_path / "trace.jsonl"
    run("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "1", *how, "--trace", str(trace))
    top = json.loads(trace.read_text())["top"]
    model = load_weights(archcalc.load("tiny"), weights).eval()
    with torch.no_grad():
        logits = model(torch.tensor([list(b"Hi")])).logits[0, -1]
    assert [one["token_id"] for one in top] == logits.topk(20).indices.tolist()
    told = run("predict", "tiny", "--weights", weights, "-p", "Hi", "--temperature", "0", "-f", "json").json
    assert [row["token_id"] for row in told["rows"]] == logits.topk(20).indices.tolist()


def test_bytes_are_not_taken_for_the_ids_of_other_tokens(tmp_path):
    """A vocabulary that is no bytes, and no tokenizer beside the weights."""
    folder = str(tmp_path / "weights")
    save_weights(Transformer(archcalc.load("tiny@vocab_size=600")), folder)
    line = f"{folder}: has no tokenizer, and the 600 tokens of tiny@vocab_size=600 are not bytes; "
    for command in ("generate", "predict", "trace"):
        done = ask(command, "tiny@vocab_size=600", "--weights", folder, "-p", "Hi")
        assert (done.code, done.out) == (3, "")
        assert done.err == f"{line}--tokenizer DIR names one, --tokenizer bytes takes bytes\n"
    done = ask("embed", folder, "A")
    assert done.code == 3
    assert "has no tokenizer, and the 600 tokens of its table are not bytes" in done.err


def test_the_way_out_names_the_spec_as_it_was_typed(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(archcalc.dump(archcalc.load("tiny")))
    done = ask("generate", str(path), "-p", "Hi")
    assert f"`archcalc train {path}` trains them" in done.err


def test_a_trace_that_cannot_be_written_is_told_before_anything_is_drawn(weights, tmp_path):
    asked = ("generate", "tiny", "--weights", weights, "-p", "Hi", "--trace")
    done = ask(*asked, str(tmp_path / "no" / "x"))
    assert (done.code, done.out) == (3, "")
    assert done.err.endswith("cannot be written: its parent directory does not exist\n")
    assert ask(*asked, str(tmp_path)).code == 2
    assert ask(*asked, "").code == 2


def test_what_was_drawn_before_an_interruption_is_written_and_shown(weights, tmp_path, monkeypatch):
    from archcalc.commands.session import Continuation

    real = Continuation.__iter__

    def interrupted(self):
        for n, step in enumerate(real(self)):
            if n == 3:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(Continuation, "__iter__", interrupted)
    trace = tmp_path / "trace.jsonl"
    done = ask("generate", "tiny", "--weights", weights, "-p", "Hi", "--trace", str(trace), "--samples", "2")
    assert done.code == 130
    assert len(trace.read_text().splitlines()) == 6
    assert done.out.startswith("--- 1 of 2 ---\nHi")


def test_a_trace_has_no_line_of_a_text_that_ended(weights, tmp_path):
    trace = tmp_path / "trace.jsonl"
    asked = ("generate", "tiny", "--weights", weights, "-p", "Hi", "--max-tokens", "20", "--samples", "4")
    run(*asked, "--trace", str(trace))
    texts = [""] * 4
    for line in map(json.loads, trace.read_text().splitlines()):
        texts[line["sample"]] += chr(line["token_id"])
    stop = next(c for c in texts[0] if c.isascii() and any(c not in text for text in texts))
    run(*asked, "--trace", str(trace), "--stop", stop)
    lengths = [0] * 4
    for line in map(json.loads, trace.read_text().splitlines()):
        lengths[line["sample"]] += 1
    last = max(text.index(stop) if stop in text else 19 for text in texts)
    assert lengths == [(text.index(stop) if stop in text else last) + 1 for text in texts]


# A folder stands for its spec


def copied(weights, folder, **specs):
    """The weights in a folder of their own, by another spec where one is given."""
    shutil.copytree(weights, folder)
    for name, text in specs.items():
        (folder / name.replace("_", ".")).write_text(text)
    return str(folder)


RUNS = {
    "predict": ("-p", "Hi"),
    "generate": ("-p", "Hi", "--max-tokens", "2"),
    "trace": ("-p", "Hi"),
    "trace of a word": ("-p", "a cat", "-p", "the cat", "--word", "cat"),
    "trace of senses": ("--group", "x=a cat", "--group", "y=the cat", "--word", "cat"),
    "chat": (),
}
COUNTS = ["params", "report", "flops", "memory", "trace", "explain"]  # check compares a folder's weights too


@pytest.mark.parametrize("how", RUNS)
def test_a_folder_of_weights_runs_without_saying_them_again(how, weights, monkeypatch):
    command, flags = how.split()[0], RUNS[how]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"Hi\n")))
    alone = ask(command, weights, *flags)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"Hi\n")))
    both = ask(command, "tiny", "--weights", weights, *flags)
    assert (alone.code, both.code) == (0, 0), alone.err + both.err
    assert alone.out == both.out


@pytest.mark.parametrize("command", COUNTS)
def test_a_folder_is_counted_as_its_spec(command, weights):
    folder, spec = ask(command, weights), ask(command, f"{weights}/spec.yaml")
    assert (folder.code, folder.out, folder.err) == (spec.code, spec.out, spec.err)
    assert folder.out
    wide, asked = ask(command, f"{weights}@d_ff=256"), ask(command, f"{weights}/spec.yaml@d_ff=256")
    assert wide.out == asked.out


def test_a_folder_without_a_spec_is_a_directory(tmp_path):
    done = ask("params", str(tmp_path))
    assert (done.code, done.err) == (
        2,
        f"{tmp_path}: is a directory; give the path of a YAML file in it, or a folder with a config.json\n",
    )


@pytest.mark.parametrize("how", RUNS)
def test_weights_of_another_spec_say_how_to_ask_for_the_right_one(how, weights):
    for spec, said in (("tiny@d_ff=256", "mlp.d_ff 512"), ("tiny@context_length=256", "context_length 64")):
        done = ask(how.split()[0], spec, "--weights", weights, *RUNS[how])
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
        assert done.err.startswith(f"{weights}: has weights of tiny with ")
        assert said in done.err
        assert done.err.endswith(f"; say {weights} in place of {spec}, without --weights\n")


def test_weights_of_another_shape_say_how_to_ask_for_them(tmp_path):
    """As Hugging Face has them: a config.json, and no spec of ours."""
    spec = "gpt2@n_layers=2,d_model=32,n_heads=2,d_ff=128,vocab_size=256,context_length=32"
    folder = str(tmp_path / "w")
    save_weights(Transformer(archcalc.load(spec)), folder)
    (tmp_path / "w" / "spec.yaml").unlink()
    done = ask("predict", "gpt2", "--weights", folder, "-p", "Hi")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.endswith(f"; say {folder} in place of gpt2, without --weights\n")
    assert archcalc.params(archcalc.load(folder)).stored == archcalc.params(archcalc.load(spec)).stored
    assert ask("predict", folder, "-p", "Hi").code == 0
    assert ask("predict", spec, "--weights", folder, "-p", "Hi").code == 0
    config = json.loads((tmp_path / "w" / "config.json").read_text())
    (tmp_path / "w" / "config.json").write_text(json.dumps({**config, "activation_function": "gelu"}))
    other = f"{spec},layers.0.mlp.activation=gelu"  # what is not a size is not this line's to say
    assert ask("predict", other, "--weights", folder, "-p", "Hi").code == 0


# What is no number goes nowhere


HOW = [*RUNS, "generate and show", "generate and trace"]
PLACES = ["token", "final_norm", "last_mlp"]


@pytest.mark.parametrize(
    ("how", "place"),
    [  # by turns: each way and each place
        pytest.param(how, place, marks=[pytest.mark.prove] * ((i + at) % 3 > 0))
        for i, how in enumerate(HOW)
        for at, place in enumerate(PLACES)
    ],
)
def test_weights_that_overflow_are_one_line_and_no_number(how, place, weights, tmp_path, monkeypatch):
    """Finite, as they are stored; what comes of them is not."""
    model = load_weights(archcalc.load("tiny"), weights)
    with torch.no_grad():
        part = {"token": model.embedding.token, "final_norm": model.final_norm, "last_mlp": model.layers[-1].mlp.down}
        part[place].weight.fill_(3e38)
    folder = str(tmp_path / "large")
    save_weights(model, folder)
    more = {"generate and show": ("--show", "3"), "generate and trace": ("--trace", str(tmp_path / "t"))}.get(how, ())
    command = how.split()[0]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"Hi\n")))
    for form in ((), ("-f", "json"), ("-f", "csv")) if command in ("predict", "trace") else ((),):
        done = ask(command, folder, *RUNS.get(how, RUNS[command]), *more, *form)
        assert done.code == 2, done.out
        assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", done.out)
        assert re.match(r"(logits|weights): .*not finite", done.err.splitlines()[-1]), done.err
    if more[:1] == ("--trace",):
        assert (tmp_path / "t").read_text() == ""
