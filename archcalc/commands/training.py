"""The command train: from a spec to weights, or on from a checkpoint."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from archcalc.commands.base import RUN, Form, Output, TokenizerOf, app, needs_to_run, number
from archcalc.commands.completing import spec_words
from archcalc.commands.interruption import polite
from archcalc.commands.settings import (
    DEFAULT_SPEC,
    TUNED_RATE,
    Device,
    Lesson,
    chosen_device,
    refuse_other_tokenizer,
    refuse_what_is_larger,
    settle,
    too_large,
)
from archcalc.errors import Invalid, Problem, printable, shown
from archcalc.proof.learning import Expected, expected, promised
from archcalc.proof.watching import Seen, watch
from archcalc.report.output import emit, refuse_output, tell
from archcalc.report.progress import Pace, Progress, tell_sample
from archcalc.report.training import Trained, training_sheet
from archcalc.spec.checkpoints import steps_in
from archcalc.spec.settings import DEFAULTS, MOST_STEPS, Learned, Said
from archcalc.units import binary, grouped

if TYPE_CHECKING:
    from archcalc_reference.model.transformer import Transformer
    from archcalc_reference.text.tokenizer import Tokenizer
    from archcalc_reference.training.data import Data
    from archcalc_reference.training.trainer import Trainer

_PROMPT, _SAMPLE = 16, 100  # tokens


def _flag(help_: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, metavar=metavar, show_default=False, help=help_)


@app.command(rich_help_panel=RUN)
def train(
    spec: Annotated[
        str | None,
        typer.Argument(
            metavar="SPEC",
            autocompletion=spec_words,
            show_default=False,
            help=f"catalogue name, YAML file or config.json; default: the spec in --from, else {DEFAULT_SPEC}",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        _flag(
            "file of text (split by --tokenizer or that in --from, else into bytes) or of tokens (.u16, .u32, "
            ".npy, llm.c's .bin); may repeat; default: archcalc's own sources",
            metavar="FILE",
        ),
    ] = None,
    data_as: Annotated[
        Said | None,
        _flag(
            "content of --data: text, bytes, uint16 (nanoGPT's .bin) or uint32; default: by header or suffix",
            metavar="KIND",
        ),
    ] = None,
    source: Annotated[
        str | None,
        _flag(
            "folder to continue from; with another --out its weights are fine-tuned, also those of a model "
            "from Hugging Face",
            "--from",
            metavar="DIR",
        ),
    ] = None,
    tokenizer: TokenizerOf = None,
    out: Annotated[
        str | None, _flag("folder for checkpoints; default: that of --from, or none", metavar="DIR")
    ] = None,
    steps: Annotated[str | None, _flag(f"optimizer steps in total; default: {DEFAULTS['steps']}", metavar="N")] = None,
    batch: Annotated[str | None, _flag(f"sequences per step; default: {DEFAULTS['batch']}", metavar="B")] = None,
    seq: Annotated[str | None, _flag("tokens per sequence; default: the context length", metavar="S")] = None,
    lr: Annotated[
        str | None,
        _flag(f"peak learning rate; default: {DEFAULTS['rate']}, to fine-tune {TUNED_RATE}", metavar="RATE"),
    ] = None,
    warmup: Annotated[str | None, _flag("warm-up steps, then cosine; default: 5% of --steps", metavar="N")] = None,
    accumulate: Annotated[str | None, _flag("micro-batches per step, to save memory; default: 1", metavar="N")] = None,
    precision: Annotated[
        Literal["fp32", "bf16"] | None, _flag("number format: fp32 (default) or bf16", metavar="TYPE")
    ] = None,
    attention: Annotated[
        Literal["math", "flash"] | None, _flag("attention kernel: math or flash; default: flash", metavar="KERNEL")
    ] = None,
    device: Annotated[Device | None, _flag("cpu or cuda; default: cuda if available", metavar="NAME")] = None,
    seed: Annotated[str | None, _flag("seed of initial weights and data order; default: 0", metavar="N")] = None,
    every: Annotated[
        str | None,
        _flag("steps between checkpoints, validation losses and samples; default: 1/5 of --steps", metavar="N"),
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Train a model on text, or fine-tune one from a folder.

    By default a tiny model learns archcalc's sources in about a minute on two cores.

    Example: archcalc train gpt2@n_layers=4 --data book.txt --out run
    """
    needs_to_run("train")
    flags = {"steps": steps, "batch": batch, "seq": seq, "lr": lr, "warmup": warmup, "accumulate": accumulate}
    lesson = settle(
        spec,
        data or [],
        source,
        out,
        {**flags, "precision": precision, "attention": attention, "seed": seed},
        data_as,
        tokenizer,
    )
    place = chosen_device(device, lesson.settings.precision)
    refuse_output(output)
    counted = expected(lesson.found.model, lesson.settings, place)
    refuse_what_is_larger(lesson, counted, place)
    between = -(-lesson.settings.steps // 5) if every is None else number("--every", every, MOST_STEPS)
    with nullcontext() if lesson.out is None else _locked(lesson, lesson.out):
        trained, pace = _learn(lesson, counted, place, between)
    emit(training_sheet(lesson.found, trained, counted, pace), form, output)


@contextmanager
def _locked(lesson: Lesson, out: Path) -> Iterator[None]:
    """The folder of the checkpoints for this training alone, as it was when the flags were read."""
    from archcalc_reference.training.locking import alone

    with alone(out):
        if steps_in(out).keys() != lesson.there:
            raise Invalid(Problem(os.fspath(out), "another training just wrote there", suggestion="try again"))
        yield


def _learn(lesson: Lesson, counted: Expected, device: Device, between: int) -> tuple[Trained, Pace]:
    """The training itself, with its messages and checkpoints."""
    import torch

    from archcalc_reference.training.data import Data, begin_of, read_stream
    from archcalc_reference.training.trainer import Trainer

    found, settings = lesson.found, lesson.settings
    model, beside = _begun(lesson, device)  # before the data, which may take a while
    stream, kind = read_stream(lesson.files, found.model.n_logits, lesson.tokenizer, lesson.said)
    begin = begin_of(lesson.files, lesson.tokenizer, lesson.said)
    data = Data(stream, settings.sequence, settings.seed, kind, begin)
    files = [os.path.abspath(file) for file in lesson.files]
    learned = Learned(files=files, data_as=lesson.said, kind=kind, fingerprint=data.fingerprint())
    _refuse_other_data(lesson, learned)
    trainer = Trainer(found.model, settings, data, device, model)
    if lesson.start is not None and lesson.state is not None:
        trainer.go_on(lesson.start, lesson.state)
    name = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    pace = Pace(
        counted.tokens,
        counted.flops,
        counted.model_flops,
        promised(name, settings.precision) if device == "cuda" else None,
    )
    _announce(lesson, counted, trainer, name)
    held_out, text = [_held_out(trainer)], ""
    loss: float | None = None
    seen: Seen | None = None
    folder = trainer.save(lesson.out, learned, beside) if lesson.out else None
    with Progress(settings.steps, trainer.done, pace) as progress, polite() as asked_to_stop:
        begun = trainer.done
        while trainer.done < settings.steps and not asked_to_stop:
            if trainer.done == begun + 1:  # the optimizer has its state by then
                heard, seen = watch(lambda: _step(trainer, lesson, counted), trainer.held, device)
            else:
                since = time.perf_counter()
                heard = _step(trainer, lesson, counted)
                pace.add(time.perf_counter() - since)
            progress.step(trainer.done, heard)
            loss = heard
            due = trainer.done % between == 0 or trainer.done == settings.steps
            if due and not asked_to_stop:
                held_out.append(_held_out(trainer))  # first, so that weights which give no number are not kept
            if lesson.out and (due or asked_to_stop):
                folder = trainer.save(lesson.out, learned, beside)
            if due and not asked_to_stop:
                text = _sample(trainer, data, lesson.tokenizer)
                tell_sample(*held_out[-1], text)
    if asked_to_stop:
        kept = "nothing was saved" if folder is None else f"saved in {folder}; --from {lesson.out} continues"
        tell(printable(f"interrupted after step {grouped(trainer.done)}; {kept}"))
        raise KeyboardInterrupt
    trained = Trained(
        trainer.done,
        {**settings.model_dump(), "seconds_are_of": "steps alone"},
        kind,
        data.learned,
        loss,
        tuple(held_out),
        text or _sample(trainer, data, lesson.tokenizer),
        None if folder is None else str(folder),
        seen,
        name,
    )
    return trained, pace


def _begun(lesson: Lesson, device: Device) -> tuple[Transformer | None, dict[str, bytes]]:
    """The weights that learned already, and the files of their tokenizer; neither where it begins with none."""
    from archcalc_reference.text.tokenizer import tokenizer_files
    from archcalc_reference.training.trainer import TYPES
    from archcalc_reference.weights.folder import load_weights

    beside = {} if lesson.tokenizer is None or lesson.place is None else tokenizer_files(lesson.place)
    if lesson.start is None:
        return None, beside
    start, width = os.fspath(lesson.start), TYPES[lesson.settings.precision]
    model = load_weights(lesson.found.model, start, dtype=width, device=device)
    return model, beside


def _step(trainer: Trainer, lesson: Lesson, counted: Expected) -> float:
    """One step, whose loss must be a number and which must find its memory."""
    try:
        heard = trainer.step()
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        raise too_large(lesson, counted, "the device ran out of memory") from None
    if not heard.finite:
        what = "gradients are" if math.isfinite(heard.loss) else "loss is"
        raise _no_number(trainer, what)
    return heard.loss


def _held_out(trainer: Trainer) -> tuple[int, float]:
    """The steps that are done, and the held-out loss after them, which must be a number."""
    loss = trainer.held_out()
    if not math.isfinite(loss):
        raise _no_number(trainer, "held-out loss is")
    return trainer.done, loss


def _no_number(trainer: Trainer, what: str) -> Invalid:
    """The error for a training whose numbers overflow; earlier checkpoints are kept."""
    if not trainer.done:
        return Invalid(Problem("weights", f"the {what} not finite before the first step: damaged, or too large"))
    message = f"the {what} not finite after step {grouped(trainer.done)}"
    kept = "" if trainer.kept is None else f"; {trainer.kept} is intact"
    rate = str(trainer.settings.rate)
    return Invalid(Problem("--lr", message, value=rate, suggestion=f"a lower one may work{kept}"))


def _refuse_other_data(lesson: Lesson, learned: Learned) -> None:
    before = lesson.state and lesson.state.data
    if before and (before.kind, before.fingerprint) != (learned.kind, learned.fingerprint):
        refuse_other_tokenizer(lesson)
        what, fix = "differs from the data of the checkpoint", "say another --out to fine-tune on it"
        value = shown(list(lesson.files)) if lesson.files else "archcalc's own sources"
        raise Invalid(Problem("--data", what, value=value, suggestion=fix))


def _announce(lesson: Lesson, counted: Expected, trainer: Trainer, device: str) -> None:
    import torch

    asked, done = lesson.settings, trainer.done
    begins = f"continuing after step {grouped(done)}" if lesson.state else "training"
    parts = f" in {asked.accumulate} micro-batches" if asked.accumulate > 1 else ""
    size = f"{grouped(asked.batch)} x {grouped(asked.sequence)} tokens per step{parts}"
    peak = f"predicted peak memory {binary(counted.memory.total)}"
    tell(f"{lesson.found.name}: {grouped(counted.parameters)} parameters; {begins} on {device}: {size}, {peak}")
    if lesson.out is None:
        tell("nothing will be saved: --out DIR saves checkpoints")
    if lesson.tokenizer is not None:
        tell(f"tokenizer: {printable(lesson.tokenizer.name)}")
        for line in (*lesson.tokenizer.told, *_of_begin(lesson.tokenizer, trainer.data.before)):
            tell(printable(f"{lesson.tokenizer.name}: {line}"))
    before, now = lesson.state and lesson.state.threads, torch.get_num_threads()
    if before and before != now:
        tell(f"it began with {before} threads and now has {now}: sums may differ in their last digits")


def _of_begin(tokenizer: Tokenizer, begin: tuple[int, ...]) -> Iterator[str]:
    """What becomes of the tokens that it puts around a text."""
    from archcalc_reference.text.around import Around, spelled

    if begin:
        yield f"adds {spelled(Around(begin), tokenizer.text_of)}; each sequence begins so"
    if adds := spelled(tokenizer.around._replace(before=() if begin else tokenizer.around.before), tokenizer.text_of):
        yield f"adds {adds}, which training leaves out"


def _sample(trainer: Trainer, data: Data, tokenizer: Tokenizer | None) -> str:
    """A continuation of the first held-out words, after a bar."""
    from archcalc_reference.text.tokenizer import ByteTokenizer
    from archcalc_reference.training.trainer import sample

    prompt = [int(n) for n in data.stream.take(data.learned, data.learned + _PROMPT)]
    if tokenizer is None and data.kind == "bytes":
        tokenizer = ByteTokenizer()
    never = [] if tokenizer is None else tokenizer.nameless(trainer.model.spec.vocab_size)
    found = sample(trainer.model, [*data.before, *prompt], _SAMPLE, seed=trainer.settings.seed, never=never)
    if tokenizer is not None:
        return "|".join(map(tokenizer.decode, (prompt, found)))
    return "| ".join(" ".join(map(str, part)) for part in (prompt, found))
