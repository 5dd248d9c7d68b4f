"""A flag is obeyed or refused, never taken and ignored: every command with every flag that it has.

A new flag needs a line in FLAGS: a call whose answer differs from the same call without it, or one that refuses it.
What takes a model's weights is held by the tests of its own, which RUN names.
"""

import json
from pathlib import Path

import pytest
from command import ask
from typer.main import get_command

import archcalc
from archcalc import cli
from archcalc.commands.flags import keeping, memory_run, work_run
from archcalc.commands.planning import TAKING, is_flag
from archcalc.counts.quantities import QUANTITIES, SECTIONS, Asked
from archcalc.errors import Invalid
from archcalc.spec.mtp import MTP

TESTS = Path(__file__).parents[1]
cli._load([])
COMMANDS = get_command(cli.app).commands

# Calls with one flag (in brackets): the numbers differ from those of the same call without it.
OBEYED = {
    "params": ["params tiny [--by layer]"],
    "list": [
        "list [--family gpt]",
        "list gpt [--least 1B]",
        "list gpt [--most 1B]",
        "list gpt [--feature rotary]",
    ],
    "flops": [
        "flops tiny [--phase prefill]",
        "flops tiny [--batch 2]",
        "flops tiny [--seq 5]",
        "flops tiny --phase decode [--context 5]",
        "flops tiny --phase prefill [--logits last]",
        "flops tiny [--causal half]",
        "flops tiny [--attention flash]",
        "flops tiny [--tokens 1M]",
        "flops tiny [--recompute full]",
        "flops tiny [--device l4]",
        "flops tiny --tokens 1M --device l4 [--devices 2]",
        "flops tiny --tokens 1M --device l4 [--mfu 40%]",
        "flops tiny --device l4 [--precision fp8]",
        "flops tiny --tokens 1M --device l4 [--price 2/h]",
    ],
    "memory": [
        "memory tiny [--for inference]",
        "memory tiny [--batch 2]",
        "memory tiny [--seq 5]",
        "memory tiny [--precision fp32]",
        "memory tiny [--optimizer sgd]",
        "memory tiny --batch 64 [--recompute full]",
        "memory tiny --batch 64 [--accumulate]",
        "memory tiny [--attention math]",
        "memory tiny --batch 64 [--dropout]",
        "memory tiny --for inference [--kv-precision fp32]",
        "memory tiny --batch 64 [--activation-kernel eager]",
        "memory tiny [--device l4]",
        "memory tiny --device l4 [--reserve 20]",
        "memory gpt3-175b --device l4 [--must-fit]",
        "memory gpt2 --device l4 [--gpus 2]",
    ],
    "traffic": [
        "traffic gpt2 --tp 2 [--phase prefill]",
        "traffic gpt2 --tp 2 [--batch 2]",
        "traffic gpt2 --tp 2 [--seq 8]",
        "traffic gpt2 --tp 2 --phase prefill --precision bf16 [--seq 8]",
        "traffic gpt2 --tp 2 [--precision fp32]",
        "traffic gpt2 --tp 2 [--recompute full]",
        "traffic gpt2 --tp 2 [--gpus-per-node 1]",
    ],
    "explain": [
        "explain tiny flops.forward [--batch 2]",
        "explain tiny flops.forward [--seq 5]",
        "explain tiny flops.backward [--attention flash]",
        "explain tiny memory.total --batch 64 [--attention math]",
        "explain tiny flops.forward [--phase decode]",
        "explain tiny flops.forward --phase decode [--context 5]",
        "explain tiny flops.forward --phase prefill [--logits last]",
        "explain tiny flops.forward [--causal half]",
        "explain tiny [--tokens 1M]",
        "explain tiny memory.state [--for inference]",
        "explain tiny cache.total [--seq 5]",
        "explain tiny memory.state [--precision bf16]",
        "explain tiny memory.state [--optimizer sgd]",
        "explain tiny activations.saved [--recompute full]",
        "explain tiny memory.total --batch 64 [--accumulate]",
        "explain tiny activations.saved [--dropout]",
        "explain tiny cache.per_token --for inference [--kv-precision fp8]",
        "explain tiny activations.saved [--activation-kernel eager]",
    ],
    "sweep": [
        "sweep tiny --vary batch=1 [--vary n_layers=1,2]",
        "sweep tiny --vary n_layers=1 [--columns parameters.stored]",
        "sweep tiny --vary n_layers=1 [--batch 2]",
        "sweep tiny --vary n_layers=1 [--seq 5]",
        "sweep tiny --vary n_layers=1 [--attention math]",
        "sweep tiny --vary n_layers=1 [--for inference]",
        "sweep tiny --vary n_layers=1 [--precision fp32]",
        "sweep tiny --vary n_layers=1 [--optimizer sgd]",
        "sweep tiny --vary n_layers=1 [--recompute full]",
        "sweep tiny --vary n_layers=1 --for inference [--kv-precision fp8]",
    ],
    "diff": [
        "diff tiny gpt2 [--batch 2]",
        "diff tiny gpt2 [--seq 5]",
        "diff tiny gpt2 [--attention math]",
        "diff tiny gpt2 [--for inference]",
        "diff tiny gpt2 [--precision fp32]",
        "diff tiny gpt2 [--optimizer sgd]",
        "diff tiny gpt2 [--recompute full]",
        "diff tiny gpt2 --for inference [--kv-precision fp8]",
        "diff tiny gpt2 [--exit-code]",
    ],
    "trace": ["trace tiny [--batch 2]", "trace tiny [--seq 5]", "trace tiny [--attention flash]"],
    "softmax": ["softmax 1 2 [--temperature 3]", "softmax 0.4 0.6 [--from-probabilities]"],
    "schema": ["schema [--of device]", "schema [--draft 07]"],
}

# The flags of a plan are made in one place for all commands that take one, so one command holds each to what it does.
PLANNED = [
    "memory gpt3-small [--plan zero1-dp8]",
    "memory gpt2 --zero 1 [--dp 2]",
    "memory gpt2 [--tp 2]",
    "memory gpt2 --tp 2 [--sequence-parallel]",
    "memory gpt2 [--cp 2]",
    "memory gpt2 [--pp 2]",
    "memory gpt2 --pp 2 --accumulation 8 [--schedule gpipe]",
    "memory gpt2 --pp 2 --accumulation 8 --schedule interleaved --chunks 2 [--chunks 3]",
    "memory gpt2 --pp 2 [--stage-layers 5,7]",
    "memory mixtral-8x7b --dp 2 [--ep 2]",
    "memory mixtral-8x7b --tp 2 --sequence-parallel --dp 2 --ep 2 [--etp 1]",
    "memory gpt2 --dp 2 [--zero 1]",
    "memory gpt2 --dp 5 --zero 1 [--sharding per-tensor]",
    "memory gpt2 --dp 2 --zero 3 [--no-reshard-after-forward]",
    "memory gpt2 --dp 2 --zero 3 --seq 16 [--prefetch none]",
    "memory gpt2 --tp 2 --sequence-parallel [--gathered-inputs kept]",
    "memory gpt2 --tp 2 [--micro-batch 2]",
    "memory gpt2 --pp 2 [--accumulation 2]",
    "memory gpt2 --tp 2 [--vocab-divisible-by 128]",
    "memory gpt2 --tp 2 --for inference [--cache-block 48]",
    "memory gpt2 --tp 2 [--framework megatron]",
    "memory gpt2 --recompute full [--recompute-layers 2]",
    "memory gpt2 --tp 2 [--offload-optimizer]",
]

# Calls with a flag that cannot bear on what is asked, and what is said of it.
REFUSED = {
    "flops tiny --seq 5 --phase decode": "--seq: does not apply to decode, which adds one position to each sequence; use --context",
    "flops tiny --context 5": "--context: applies only to decode, not to training; use --seq",
    "flops tiny --context 5 --phase prefill": "--context: applies only to decode, not to prefill; use --seq",
    "flops tiny --logits last": "--logits: must be all for training, whose loss reads the logits of all positions; got 'last'",
    "flops tiny --logits last --phase decode": "--logits: does not apply to decode, which computes the logits of one position",
    "flops tiny --causal half --phase decode": "--causal: must be full for decode",
    "flops tiny --tokens 1M --phase prefill": "--tokens: applies only to training; use --phase training",
    "traffic gpt2 --tp 2 --seq 5 --phase decode": "--seq: does not apply to decode, which adds one position to each sequence",
    "memory tiny --optimizer sgd --for inference": "--optimizer: applies only to training; use --for training",
    "memory tiny --recompute full --for inference": "--recompute: applies only to training; use --for training",
    "memory tiny --accumulate --for inference": "--accumulate: applies only to training; use --for training",
    "memory tiny --dropout --for inference": "--dropout: applies only to training; use --for training",
    "memory tiny --kv-precision fp8": "--kv-precision: applies only to inference; use --for inference",
    "memory tiny --precision int4": "--precision: for training must be one of mixed-16",
    "flops tiny --devices 2": "--devices: ",
    "flops tiny --mfu 40%": "--mfu: ",
    "flops tiny --precision bf16": "--precision: ",
    "flops tiny --price 2/h": "--price: ",
    "flops tiny --recompute full --phase prefill": "--recompute: ",
    "memory tiny --reserve 5": "--reserve: needs a --device",
    "memory tiny --must-fit": "--must-fit: needs a --device",
    "explain gpt2 inference.total --batch 64 --seq 128": "--batch: does not change inference.total; explain memory.total --for inference takes it",
    "explain gpt2 inference.total --seq 128": "--seq: does not change inference.total",
    "explain gpt2 devices.h100-sxm.training --precision int4": "--precision: does not change devices.h100-sxm.training; `archcalc memory --device`",
    "explain gpt2 parameters.stored --seq 5": "--seq: does not change parameters.stored",
    "explain gpt2 tensors.final_norm.weight.parameters --batch 2": "--batch: does not change tensors.final_norm.weight.parameters",
    "explain gpt2 cache.per_token --batch 2": "--batch: does not change cache.per_token",
    "explain gpt2 memory.total --causal half": "--causal: does not change memory.total",
    "explain gpt2 flops.forward --dropout": "--dropout: does not change flops.forward",
    "sweep tiny --vary n_layers=1 --columns parameters.stored --batch 2": "--batch: changes none of the columns; got n_layers, parameters.stored",
    "sweep tiny --vary n_layers=1 --columns flops.forward --precision fp32": "--precision: changes none of the columns",
    "sweep tiny --vary n_layers=1 --columns d_model --for inference": "--for: changes none of the columns",
    "verify tiny --tensors --dp 2": "--tensors: cannot be combined with a plan, whose ranks take steps",
    "verify tiny gpt2 --dp 2": "archcalc verify: needs one SPEC that the plan divides; got 2",
    "trace tiny --weights DIR": "--weights: needs a --prompt",
    "trace tiny --word x": "--word: needs a --prompt",
    "trace tiny --word x --group a=x --group b=x --prompt x": "--prompt: cannot be combined with --group, which has the texts",
    "trace tiny --tokenizer bytes": "--tokenizer: needs a --prompt",
    "trace tiny --prompt a --seq 3": "--seq: cannot be combined with --prompt, whose length is used",
    "trace tiny --prompt a --batch 3": "--batch: must be 1 with --prompt",
    "trace tiny --prompt a --attention flash": "--attention: must be math with --prompt",
    "embed words.vec king --axes man": "--axes: needs a --plot",
    "embed words.vec king --words words.vec": "--words: names the words of an .npy file; SOURCE has its own",
    "embed words.vec king --average": "--average: is for the tokens of a model; SOURCE has words",
    "embed words.vec king --along man --rank queen": "--rank: cannot be combined with --along, which lists no neighbours",
    "embed words.vec king --along man --along queen": "--along: may be given once; got 'queen'; ask for each by itself",
    "embed words.vec king --along man --top 3": "--top: cannot be combined with --along, which lists no neighbours",
    "predict tiny --prompt a --word b --top 3": "--top: cannot be combined with --word, which lists the tokens of words; got '3'",
    "predict tiny --prompt a --word b --retemper 3": "--retemper: cannot be combined with --word; --temperature bears on words",
    "predict tiny --prompt a --retemper 5 --temperature 2": "--temperature: cannot be combined with --retemper; got '2'",
    "generate tiny --prompt a --temperature 2 --compare-temperatures 1,3": "--temperature: cannot be combined with --compare-temperatures",
}  # fmt: skip

# What runs a model: the file whose tests hold each flag to what it does.
RUN = {
    "import": {"--part": "test_part_text"},
    "verify": {"--tensors": "test_verify"},
    "plan": {"--rules": "test_plans"},
    "check": {
        "--weights": "test_check_weights",
        **dict.fromkeys(
            ["--config", "--select", "--ignore", "--strict", "--fix", "--baseline", "--write-baseline", "--jobs",
             "--watch", "--skip-unknown"], "test_check"),
    },
    "trace": {**dict.fromkeys(["--prompt", "--weights", "--word"], "test_journey"), "--group": "test_senses",
              "--tokenizer": "test_tokenizer_flag"},
    "predict": {
        **dict.fromkeys(["--prompt", "--weights", "--temperature", "--top", "--precision"], "test_generate"),
        "--tokenizer": "test_tokenizer_flag",
        **dict.fromkeys(
            ["--word", "--retemper", "--top-k", "--top-p", "--min-p", "--repetition-penalty"], "test_predict"),
    },
    "generate": {"--tokenizer": "test_tokenizer_flag"} | dict.fromkeys(
        ["--prompt", "--weights", "--max-tokens", "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty",
         "--seed", "--samples", "--stop", "--show", "--compare-temperatures", "--trace", "--precision"], "test_generate"),
    "chat": {
        **dict.fromkeys(["--weights", "--system", "--max-tokens", "--temperature", "--top-p"], "test_chat"),
        "--repetition-penalty": "test_chat",
        "--tokenizer": "test_tokenizer_flag",
        **dict.fromkeys(["--top-k", "--min-p", "--seed", "--precision"], "test_generate"),  # one place reads them for both
    },
    "embed": {
        **dict.fromkeys(["--along", "--top", "--rank"], "test_embed"),
        **dict.fromkeys(["--plot", "--axes"], "test_embed_plot"),
        **dict.fromkeys(["--words", "--unit"], "test_vector_files"),
        "--average": "test_real_words", "--no-cache": "test_words_cache",
    },
    "tokens": dict.fromkeys(["--weights", "--tokenizer", "--ids"], "test_tokens"),
    "train": {"--tokenizer": "test_tokenizer_flag"} | dict.fromkeys(
        ["--data", "--data-as", "--from", "--out", "--steps", "--batch", "--seq", "--lr", "--warmup", "--accumulate", "--precision",
         "--attention", "--device", "--seed", "--every"], "test_training"),
}  # fmt: skip

# Calls without a flag, whose answer --format and --output change.
PLAIN = {
    "report": "report tiny", "params": "params tiny", "flops": "flops tiny", "memory": "memory tiny",
    "explain": "explain tiny memory.state", "sweep": "sweep tiny --vary n_layers=1", "diff": "diff tiny tiny",
    "check": "check tiny", "verify": "verify tiny --tensors", "trace": "trace tiny", "softmax": "softmax 1 2",
    "plan": "plan --rules", "traffic": "traffic gpt2 --tp 2", "list": "list", "schema": "schema", "embed": "embed words.vec king",
}  # fmt: skip
ELSEWHERE = {
    "predict": "test_generate",
    "tokens": "test_tokens",
    "train": "test_training",
    "import": "test_import_command",
    "export": "test_import_command",
}


def flags(command):
    """The long name of every flag of a command."""
    return {
        max(parameter.opts, key=len) for parameter in COMMANDS[command].params if parameter.opts[0].startswith("-")
    }


def told():
    """Every flag that the tables above have a line for, by command."""
    found = {}
    for command, calls in OBEYED.items():
        for call in calls:
            found.setdefault(command, set()).add(call[call.index("[") + 1 :].split()[0].rstrip("]"))
    for command, its in RUN.items():
        found.setdefault(command, set()).update(its)
    for command in TAKING:
        its = (call[call.index("[") + 1 :].split()[0].rstrip("]") for call in PLANNED)
        found.setdefault(command, set()).update(flag.replace("--no-", "--") for flag in its)
    for command in (*PLAIN, *ELSEWHERE):
        found.setdefault(command, set()).update({"--format", "--output"} & flags(command))
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_every_command_has_a_line_here(command):
    assert told().get(command, set()) == flags(command)


def answer(call):
    """What a call says, without its echo of what was asked."""
    words = call.replace("[", "").replace("]", "").split()
    form = [] if words[0] == "schema" else ["--format", "json"]
    done = ask(*words, *form)
    assert done.code == (1 if {"--must-fit", "--exit-code"} & set(words) else 0), done.err
    payload = json.loads(done.out)
    for echoed in ("conventions", "schema", "plan") if words[0] != "schema" else ():
        payload.pop(echoed, None)
    return done.code, payload


@pytest.mark.parametrize("call", [*(call for calls in OBEYED.values() for call in calls), *PLANNED])
def test_a_flag_that_is_taken_changes_the_answer(call):
    before, _, after = call.partition("[")
    without = before + after.partition("]")[2]
    assert answer(call) != answer(without.strip())


@pytest.mark.parametrize("call", REFUSED)
def test_a_flag_that_cannot_bear_on_what_is_asked_is_refused(call):
    if call.startswith(("generate", "predict", "trace tiny --prompt")):
        pytest.importorskip("torch")
    done = ask(*call.replace("words.vec", str(TESTS.parent / "docs" / "words.vec")).split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(REFUSED[call])
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("command", "file"), [(c, f) for c, its in RUN.items() for f in sorted(set(its.values()))])
def test_what_runs_a_model_has_tests_of_its_own(command, file):
    text = next(TESTS.rglob(f"{file}.py")).read_text()
    for flag, home in RUN[command].items():
        assert home != file or f'"{flag}' in text or f"{flag[2:].replace('-', '_')}=" in text, flag


@pytest.mark.parametrize("command", PLAIN)
def test_the_form_and_the_file_of_an_answer_are_obeyed(command, tmp_path):
    if command == "verify":
        pytest.importorskip("torch")
    words = PLAIN[command].replace("words.vec", str(TESTS.parent / "docs" / "words.vec")).split()
    plain = ask(*words)
    assert (plain.code, plain.err) == (0, "")
    if "--format" in flags(command):
        json.loads(ask(*words, "--format", "json").out)
    written = tmp_path / "answer.txt"
    assert ask(*words, "--output", str(written)).out == ""
    assert written.read_text() == plain.out


# Every quantity with every flag of `explain`: the flag is one of those that change it, and does, or it is refused.
CHANGES = {
    "--phase": [{"phase": "prefill"}, {"phase": "decode"}],
    "--batch": [{"batch": "3"}],
    "--seq": [{"seq": "5"}],
    "--context": [{"phase": "decode", "context": "5"}],
    "--causal": [{"causal": "half"}],
    "--attention": [{"attention": one, "batch": "64"} for one in ("flash", "math")],
    "--logits": [{"phase": "prefill", "logits": "last"}],
    "--tokens": [],
    "--for": [{"purpose": "inference"}],
    "--precision": [{"precision": "bf16"}, {"precision": "fp32"}],
    "--optimizer": [{"optimizer": "sgd"}],
    "--recompute": [{"recompute": "full", "batch": "64"}],
    "--accumulate": [{"accumulate": True, "batch": "64"}],
    "--dropout": [{"dropout": True, "batch": "64"}],
    "--kv-precision": [{"purpose": "inference", "kv_precision": "fp8"}],
    "--activation-kernel": [{"activation_kernel": "eager", "batch": "64"}],
}
OBEYED_ALIKE = {
    ("flops.forward", "--attention"),  # flash attention's forward pass has the FLOPs of math attention's
    ("flops.pointwise", "--attention"),
    ("decode.parameters", "--batch"),  # no experts
    ("decode.most_parameters", "--batch"),
    ("cache.per_token", "--for"),  # bf16 for both, if no precision is given
    ("cache.total", "--for"),
    ("cache.paged", "--for"),
    *(("cache.state", flag) for flag in ("--for", "--precision", "--batch")),  # no recurrent mixers
}
"""What a flag may ask of a quantity that has the same number all the same."""


def number(name, **asked):
    """A quantity of tiny, with a module where it is one of modules, as `explain` would ask for it; what differs for
    inference is None.
    """
    model, get = archcalc.load("tiny"), asked.get
    if "mtp" in name:
        model = model.model_copy(update={"mtp": MTP(n_modules=1)})
    kept = keeping(
        get("purpose", "training"), get("precision"), get("optimizer", "adamw-fused"), get("recompute", "none"),
        get("kv_precision"), accumulate=get("accumulate", False), dropout=get("dropout", False),
    )  # fmt: skip
    run, _ = work_run(
        model, get("phase", "training"), get("batch", "1"), get("seq") if get("phase") != "decode" else None,
        get("context"), get("logits"), get("causal", "full"), get("attention", "math"), None,
    )  # fmt: skip
    attention = get("attention", "flash")
    held = memory_run(
        model,
        get("purpose", "training"),
        get("batch", "1"),
        get("seq"),
        attention,
        get("activation_kernel", "fused"),
        dropout=get("dropout", False),
    )
    quantity, whole = QUANTITIES[name], Asked(model, run, held, kept)
    return None if quantity.refusal(whole) else quantity.of(whole)


def test_every_flag_of_explain_stands_in_the_product():
    assert {flag for flag in flags("explain") if not is_flag(flag)} - {"--format", "--output"} == set(CHANGES)
    known = {flag for quantity in QUANTITIES.values() for flag in quantity.flags}
    assert known | {flag for its in SECTIONS.values() for flag in its} == set(CHANGES)


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_changes_with_its_flags_and_with_no_other(name):
    for flag, changes in CHANGES.items():
        mine = {"--for": "purpose"}.get(flag, flag[2:].replace("-", "_"))
        differs = [
            number(name, **change) != number(name, **{key: value for key, value in change.items() if key != mine})
            for change in changes
        ]
        if (name, flag) in OBEYED_ALIKE:
            assert flag in QUANTITIES[name].flags
        else:
            assert any(differs) == (flag in QUANTITIES[name].flags), flag


@pytest.mark.parametrize("flag", CHANGES)
def test_explain_refuses_what_changes_nothing(flag):
    from archcalc.commands.explain import refuse_unused

    command = COMMANDS["explain"]
    parameter = next(p for p in command.params if flag in p.opts)

    class Called:
        params = {p.name: p.default for p in command.params} | {parameter.name: "other"}

    Called.command = command
    for path in (*QUANTITIES, *(f"{section}.x" for section in SECTIONS)):
        known = QUANTITIES[path].flags if path in QUANTITIES else SECTIONS[path.partition(".")[0]]
        if flag in known:
            refuse_unused(Called, path)
        else:
            with pytest.raises(Invalid, match=f"{flag}: does not change {path}"):
                refuse_unused(Called, path)
