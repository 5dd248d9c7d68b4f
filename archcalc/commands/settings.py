"""The flags of training: new weights, a checkpoint's or others'; what cannot be is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from archcalc.blocks.base import LARGEST_SIZE
from archcalc.commands.base import number
from archcalc.commands.weights import tokenizer_in
from archcalc.errors import Invalid, Missing, Problem, shown
from archcalc.proof.learning import Expected
from archcalc.report.output import tell
from archcalc.spec.catalogue import Found, find
from archcalc.spec.checkpoints import (
    SPEC,
    STATE,
    Chosen,
    State,
    is_checkpoint,
    read_state,
    steps_in,
    weights_in,
)
from archcalc.spec.configs import CONFIG
from archcalc.spec.settings import DEFAULTS, MOST_STEPS, Said, Settings
from archcalc.units import grouped

if TYPE_CHECKING:
    from archcalc_reference.text.tokenizer import Tokenizer

Device = Literal["cpu", "cuda"]
DEFAULT_SPEC = "tiny"
TUNED_RATE = 5e-5  # of weights that have learned already, as transformers' TrainingArguments has it

_SPELLED = {"sequence": "seq", "rate": "lr"}  # flags that bear another name than the setting


class Lesson(NamedTuple):
    """A model, how it is to learn, from what and where its checkpoints go.

    `state` is that of `start` where that checkpoint is continued, and None where its weights alone are taken. The
    tokenizer is the one that lies there, or the one of `place`. `there` has the checkpoints of `out` when the
    flags were read.
    """

    found: Found
    settings: Settings
    files: tuple[str, ...]
    start: Path | None
    out: Path | None
    state: State | None
    tokenizer: Tokenizer | None
    place: str | None
    there: frozenset[int]
    said: Said | None
    """What the files hold, where that was said."""


def settle(
    spec: str | None,
    files: list[str],
    source: str | None,
    out: str | None,
    flags: dict[str, str | None],
    said: Said | None = None,
    tokenizer: str | None = None,
) -> Lesson:
    """Put the flags together with a checkpoint's settings, or with the defaults."""
    chosen = None if source is None else _start(source)
    start = None if chosen is None else chosen.path
    goes_on = start is not None and (out is None or _same(out, source)) and start != Path(source or "")
    if start is not None and out is None and not goes_on and is_checkpoint(start):
        fix = f"--from {start.parent} continues it, --out DIR fine-tunes its weights"
        raise Invalid(Problem("--from", "is a single checkpoint of a training", value=shown(source), suggestion=fix))
    folder = source if goes_on else out
    if folder == "":
        raise Invalid(Problem("--out", "is empty"))
    if not goes_on and folder is not None:
        _refuse_what_is_kept(folder)
    if chosen is not None and chosen.said:
        tell(chosen.said)
    found = _found(spec, start)
    state = read_state(start) if start is not None and goes_on else None
    asked = _numbers(flags, found.model.context_length)
    kept = {} if state is None else state.settings.model_dump()
    for name, value in asked.items():
        if name != "steps" and name in kept and kept[name] != value:
            flag = f"--{_SPELLED.get(name, name)}"
            what, fix = f"was {kept[name]} when the training began", "leave it out, or say another --out to fine-tune"
            raise Invalid(Problem(flag, what, value=str(value), suggestion=fix))
    given = {"sequence": found.model.context_length, **({"rate": TUNED_RATE} if start and not goes_on else {})}
    chosen_ones = {**DEFAULTS, **given, **kept, **asked}
    chosen_ones.setdefault("warmup", -(-chosen_ones["steps"] // 20))
    settings = Settings(**chosen_ones)
    _refuse(settings, 0 if state is None else state.step)
    if state is not None and settings.sequence > (most := found.model.context_length):
        what, value = f"is longer than the context of {most:,}", f"{settings.sequence:,}"
        raise Invalid(Problem(str(start and start / STATE), what, "settings.sequence", value=value))
    told = tuple(files or (state.data.files if state is not None else []))
    if said is not None and not told:
        raise Invalid(Problem("--data-as", "needs a --data", value=shown(said)))
    if state is not None:
        said = said or state.data.data_as
    place = tokenizer_in(tokenizer) if tokenizer is not None else None if start is None else os.fspath(start)
    cuts = None if place is None else _tokenizer(place, found, told, said, named=tokenizer is not None, start=start)
    there = frozenset(steps_in(folder)) if folder is not None else frozenset[int]()
    kept_in = None if folder is None else Path(folder)
    return Lesson(found, settings, told, start, kept_in, state, cuts, place, there, said)


def _refuse_what_is_kept(folder: str) -> None:
    """Raise Invalid where weights are already in the folder that is to have a new training's."""
    if is_checkpoint(Path(folder)):
        raise Invalid(Problem("--out", "is a checkpoint", value=shown(folder), suggestion="say another --out"))
    kept = [path for path in steps_in(folder).values() if is_checkpoint(path)]
    if kept:
        fix = "--from continues it, another --out starts anew"
        raise Invalid(Problem("--out", f"has a checkpoint, {kept[-1].name}", value=shown(folder), suggestion=fix))
    if weights_in(folder) is not None:
        raise Invalid(Problem("--out", "has weights", value=shown(folder), suggestion="say another --out"))


def _start(source: str) -> Chosen:
    from archcalc_reference.weights.headers import read_headers

    if not os.path.isdir(source):
        known = os.path.exists(source)
        raise (Invalid if known else Missing)(
            Problem("--from", "is not a directory" if known else "no such directory", value=shown(source))
        )
    start = weights_in(source)
    if start is None:
        read_headers(source)  # which says what there is instead
        raise Missing(Problem("--from", "has no checkpoint", value=shown(source)))
    return start


def _tokenizer(
    folder: str, found: Found, files: tuple[str, ...], said: Said | None, *, named: bool, start: Path | None
) -> Tokenizer | None:
    """The tokenizer that was named, or that beside weights.

    None where bytes are tokens, or where files of tokens need none.
    """
    from archcalc_reference.text.tokenizer import read_tokenizer, tokenizer_for, tokenizer_of
    from archcalc_reference.training.data import any_of_tokens

    if named:
        tokenizer = tokenizer_for(folder, found.name, found.model.vocab_size, weights=start is not None)
        return None if tokenizer.name == "bytes" else tokenizer
    if any_of_tokens(files, said) and read_tokenizer(folder).name == "bytes":
        return None
    tokenizer = tokenizer_of(folder, found.name, found.model.vocab_size)
    return None if tokenizer.name == "bytes" else tokenizer


def _same(out: str, source: str | None) -> bool:
    return source is not None and os.path.realpath(out) == os.path.realpath(source)


def _found(spec: str | None, start: Path | None) -> Found:
    """The spec that was named, which must be the checkpoint's; or the checkpoint's; or the default."""
    if start is None:
        found = find(spec or DEFAULT_SPEC)
        if found.folder:
            tell(f"{found.typed}: only its spec is used; --from {found.typed} continues from its weights")
        return found
    if not (start / SPEC).exists():
        if spec is None and (start / CONFIG).exists():
            return find(os.fspath(start))
        if spec is None:
            what, fix = f"has weights but no spec and no {CONFIG}", "name one: archcalc train SPEC --from DIR"
            raise Invalid(Problem("--from", what, value=shown(str(start)), suggestion=fix))
        return find(spec)  # what they are is held against it before they are read
    mine = find(os.fspath(start / SPEC))
    if spec is None:
        return mine
    asked = find(spec)
    if asked.model.layers != mine.model.layers or asked.model != mine.model.model_copy(
        update={"name": asked.model.name}
    ):
        what = f"is not the architecture of {start}"
        raise Invalid(Problem(spec, what, suggestion="leave it out: the checkpoint has its own"))
    return asked


def _numbers(flags: dict[str, str | None], context: int) -> dict[str, Any]:
    """The flags that were given, as the settings that they mean."""
    most = {"steps": MOST_STEPS, "batch": LARGEST_SIZE, "seq": context, "accumulate": LARGEST_SIZE}
    found: dict[str, Any] = {}
    for flag, text in flags.items():
        if text is None:
            continue
        if flag in most:
            found[{"seq": "sequence"}.get(flag, flag)] = number(f"--{flag}", text, most[flag])
        elif flag == "lr":
            found["rate"] = _rate(text)
        elif flag in ("seed", "warmup"):
            found[flag] = number(f"--{flag}", text, LARGEST_SIZE, least=0)
        else:
            found[flag] = text
    return found


def _rate(text: str) -> float:
    from archcalc.spec.scalars import resolve

    value = resolve(text.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise Invalid(Problem("--lr", "must be above 0 and at most 1", value=shown(text)))
    return float(value)


def _refuse(settings: Settings, done: int) -> None:
    if settings.batch % settings.accumulate:
        parts = [n for n in range(1, min(settings.batch, 10_000) + 1) if settings.batch % n == 0]
        nearest = min(parts, key=lambda n: abs(n - settings.accumulate))
        what, fix = f"must divide the batch, {settings.batch:,}", f"nearest: {nearest:,}"
        raise Invalid(Problem("--accumulate", what, value=str(settings.accumulate), suggestion=fix))
    if settings.warmup > settings.steps:
        what = f"must be at most the steps, {settings.steps:,}"
        raise Invalid(Problem("--warmup", what, value=str(settings.warmup)))
    if settings.steps < done:
        raise Invalid(
            Problem("--steps", f"is less than the {done:,} that the checkpoint has done", value=str(settings.steps))
        )


def chosen_device(asked: Device | None, precision: str) -> Device:
    """The device that was asked for, or the best that is there; it must be there, and multiply in the precision."""
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise Missing(Problem("--device", "no CUDA device is visible", value="'cuda'", suggestion="use --device cpu"))
    device: Device = asked or ("cuda" if there else "cpu")
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        what = f"{torch.cuda.get_device_name()} does not multiply in bf16"
        raise Invalid(Problem("--precision", what, value="'bf16'", suggestion="use --precision fp32"))
    return device


def refuse_what_is_larger(lesson: Lesson, counted: Expected, device: Device) -> None:
    """Raise Invalid, before anything is built, for a step that this machine cannot hold."""
    import torch

    if device == "cuda":
        there = torch.cuda.get_device_properties(0).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if counted.memory.total > there:
        raise too_large(lesson, counted, f"{'the device' if device == 'cuda' else 'the machine'} has {grouped(there)}")


def too_large(lesson: Lesson, counted: Expected, why: str) -> Invalid:
    """What is said of a step that has no room."""
    what = f"a step takes {grouped(counted.memory.total)} bytes at its peak; {why}"
    return Invalid(
        Problem(lesson.found.name, what, suggestion="a smaller --batch or --seq, or more --accumulate, takes less")
    )


def refuse_other_tokenizer(lesson: Lesson) -> None:
    """Raise Invalid where the tokenizer that was named has other files than that of the checkpoint."""
    from archcalc_reference.text.tokenizer import read_tokenizer, tokenizer_files

    if lesson.start is None or lesson.place is None:
        return
    start = os.fspath(lesson.start)
    mine, now = read_tokenizer(start), lesson.tokenizer
    if now is None and mine.name == "bytes":
        return
    if now is None or mine.name == "bytes" or _words(tokenizer_files(lesson.place)) != _words(tokenizer_files(start)):
        what = f"is not the tokenizer of the checkpoint, {mine.name}"
        fix = "leave it out, or choose another --out to fine-tune with it"
        raise Invalid(Problem("--tokenizer", what, value=shown(lesson.place), suggestion=fix))


def _words(files: dict[str, bytes]) -> dict[str, bytes]:
    """Of a tokenizer's files those that cut a text."""
    return {name: data for name, data in files.items() if name in _CUT}


_CUT = ("tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe", "tokenizer.model")
