"""A training's folder: its checkpoints, what each one's state.json says, and whether all of a checkpoint is intact.

    DIR/step-00000400/        the newest
        model.safetensors     the weights, by the names of the reference's parameters and buffers
        optimizer.safetensors both moments and the count of steps of each weight, and the state of random numbers
        spec.yaml             the architecture
        tokenizer.json ...    the tokenizer's files, where the weights came with one
        state.json            the step, the settings, the place in the data, and size and SHA-256 of each file above
    DIR/step-00000300/        the one before it, which is used where the newest is damaged

state.json is sealed: `seal` is the SHA-256 of the rest of its text. Nothing here takes PyTorch.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import LARGEST_SIZE, Strict
from archcalc.errors import Invalid, Problem
from archcalc.files.regular import read_regular
from archcalc.huggingface.reading import refuse_many_values
from archcalc.huggingface.shards import INDEX as INDEX  # noqa: PLC0414
from archcalc.huggingface.shards import WHOLE as WHOLE  # noqa: PLC0414
from archcalc.spec.settings import MOST_STEPS, Hash, Learned, Settings, Steps
from archcalc.spec.source import Document
from archcalc.spec.validation import validate

OPTIMIZER, SPEC, STATE = "optimizer.safetensors", "spec.yaml", "state.json"
LARGEST_STATE = 16 * 2**20  # bytes: it names the files of the data, and an argument list has two million bytes
MOST_VALUES = 400_000
"""Commas, colons and brackets of a state.json: a file of the data has one."""
_STEP = re.compile(r"step-([0-9]{8,10})")
_MOST_TOLD = 3  # that were passed over
_LARGEST_FILE = 2**62  # bytes


class Stored(Strict):
    """A file as it was written."""

    size: Annotated[int, Field(ge=0, le=_LARGEST_FILE, description="bytes")]
    sha256: Hash


class Kept(Strict):
    """What any state.json says. Nothing in it has a default, and what contradicts itself is refused."""

    needed: ClassVar[tuple[str, ...]] = (SPEC,)
    """The files without which there is no checkpoint."""

    version: Literal[1]
    step: Steps
    sequences: Annotated[int, Field(ge=0, le=MOST_STEPS * LARGEST_SIZE)]
    settings: Settings
    threads: Annotated[int, Field(ge=1, le=2**20)]
    data: Learned
    files: dict[str, Stored]
    seal: Hash

    @field_validator("settings", mode="before")
    @classmethod
    def _says_every_setting(cls, value: Any) -> Any:
        """A default of today may be another one than that of the training."""
        for name in Settings.model_fields if isinstance(value, dict) else ():
            if name not in value:
                raise PydanticCustomError("one_of", "has no {name}", {"name": name})
        return value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        asked = self.settings
        for wrong, what in (
            (self.step > asked.steps, f"has done {self.step:,} steps of {asked.steps:,}"),
            (self.sequences != self.step * asked.batch, "says a number of sequences that is not steps x batch"),
            (asked.warmup > asked.steps, "says a warm-up longer than the training"),
            (asked.batch % asked.accumulate, "says a batch that is not a multiple of its parts"),
            (set(self.files) & {STATE}, "has a hash of itself"),
        ):
            if wrong:
                raise PydanticCustomError("one_of", "{what}", {"what": what})
        for name in self.needed:
            if name not in self.files:
                raise PydanticCustomError("one_of", "has no hash of {name}", {"name": name})
        return self


class State(Kept):
    """What the state.json of a checkpoint says that one process wrote."""

    needed = (WHOLE, OPTIMIZER, SPEC)

    files: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")], Stored], Field(max_length=50)]


Described = TypeVar("Described", bound=Kept)


class Chosen(NamedTuple):
    """The folder whose weights are used, and what is wrong with the newer checkpoints that were passed over."""

    path: Path
    passed: tuple[Problem, ...] = ()

    @property
    def said(self) -> str | None:
        """One line about those that were passed over."""
        if not self.passed:
            return None
        more = len(self.passed) - _MOST_TOLD
        told = [*map(str, self.passed[:_MOST_TOLD]), *([f"{more:,} more"] if more > 0 else [])]
        return f"skipped: {', '.join(told)}; {self.path.name} is used"


def name_of(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step-{step:08d}"


def steps_in(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """Whatever is named as a checkpoint in a folder, by step; it may be none, or damaged."""
    try:
        there = os.listdir(folder)
    except (OSError, ValueError):  # a name with a NUL
        return {}
    numbers = {name: int(match[1]) for name in there if (match := _STEP.fullmatch(name))}
    return {step: Path(folder) / name for name, step in sorted(numbers.items()) if name == name_of(step)}


def is_checkpoint(path: Path) -> bool:
    """Whether a training wrote this folder, however damaged it is now."""
    named = _STEP.fullmatch(path.name) is not None
    names = (STATE, OPTIMIZER, WHOLE) if named else (STATE, OPTIMIZER)
    return any(os.path.lexists(path / name) for name in names)


def intact(folder: Path) -> State:
    """What state.json says, where every file of the checkpoint is as it was written; else Invalid, with one line."""
    state = read_state(folder)
    for name, written in state.files.items():
        refuse_damage(folder / name, written)
    return state


def read_state(folder: Path) -> State:
    """What state.json says of a checkpoint; the other files are not looked at. Raises Invalid with one line."""
    return read_kept(folder, State)


def read_kept(folder: Path, kind: type[Described]) -> Described:
    """What state.json says of a checkpoint of some kind; see `read_state`."""
    path = folder / STATE
    text = _state_text(path)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid(Problem(str(path), "is not readable JSON")) from None
    if isinstance(data, dict) and "version" not in data:
        what = "has no version: it is damaged, or was written before checkpoints had checksums"
        raise Invalid(Problem(str(path), what, suggestion="start the training again"))
    try:
        state = validate(Document(str(path), data), kind)
    except Invalid as error:
        raise Invalid(error.problems[0]) from None
    if text != sealed({**state.model_dump(), "seal": None}):
        raise Invalid(Problem(str(path), "was changed after it was written: its checksum does not match"))
    if _STEP.fullmatch(folder.name) and folder.name != name_of(state.step):
        raise Invalid(Problem(str(path), f"belongs to {name_of(state.step)}"))
    return state


def spec_of(folder: Path) -> Path:
    """The spec of a checkpoint, where it is as it was written; the weights are not read."""
    refuse_damage(folder / SPEC, read_state(folder).files[SPEC])
    return folder / SPEC


def newest(folder: str | os.PathLike[str], check: Callable[[Path], object] = intact) -> Chosen | None:
    """The newest checkpoint in a folder that passes a check; None where there is no checkpoint at all.

    Raises Invalid, with what is wrong with the newest, where none passes.
    """
    passed: list[Problem] = []
    worst: Problem | None = None
    for _, path in sorted(steps_in(folder).items(), reverse=True):
        if not is_checkpoint(path):
            passed.append(Problem(str(path), "is not a checkpoint"))
            continue
        try:
            check(path)
        except Invalid as error:
            passed.append(error.problems[0])
            worst = worst or error.problems[0]
        else:
            return Chosen(path, tuple(passed))
    if worst is not None:
        raise Invalid(worst)
    return None


def weights_in(folder: str | os.PathLike[str]) -> Chosen | None:
    """Where a folder has its weights: in itself, or in the newest intact checkpoint; None where it has none.

    Raises Invalid for a damaged checkpoint, and where every checkpoint in it is damaged.
    """
    root = Path(folder)
    if is_checkpoint(root):
        intact(root)
        return Chosen(root)
    if any(os.path.lexists(root / name) for name in (WHOLE, INDEX)):  # a pipe too, which its reader then refuses
        return Chosen(root)
    return newest(root)


def sealed(state: dict[str, Any]) -> str:
    """The text of state.json, with its seal."""
    import hashlib

    body = {name: value for name, value in state.items() if name != "seal"}
    seal = hashlib.sha256(json.dumps(body, indent=1).encode()).hexdigest()
    return json.dumps({**body, "seal": seal}, indent=1) + "\n"


def stored(path: Path) -> Stored:
    """Size and SHA-256 of a file. Raises OSError."""
    import hashlib

    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return Stored(size=file.tell(), sha256=found)


def _state_text(path: Path) -> str:
    size = _size(path)
    if size > LARGEST_STATE:
        raise Invalid(Problem(str(path), f"is larger than {LARGEST_STATE:,} bytes"))
    if not size:
        raise Invalid(Problem(str(path), "is empty"))
    data = read_regular(str(path), LARGEST_STATE)
    refuse_many_values(data, str(path), MOST_VALUES)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Invalid(Problem(str(path), "cannot be read: it is not UTF-8")) from None


def refuse_damage(path: Path, written: Stored) -> None:
    """Raise Invalid for a file that is not as it was written, or not there."""
    size = _size(path)
    if size != written.size:
        raise Invalid(Problem(str(path), f"has {size:,} bytes; {written.size:,} were written"))
    try:
        now = stored(path)
    except OSError as error:
        raise Invalid(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    if now != written:
        raise Invalid(Problem(str(path), "was changed or damaged after it was written: its SHA-256 differs"))


def _size(path: Path) -> int:
    """The size of a regular file; Invalid for anything else, which reading might never come to the end of."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise Invalid(Problem(str(path), "is missing from the checkpoint")) from None
    except OSError as error:
        raise Invalid(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    if stat.S_ISDIR(found.st_mode):
        raise Invalid(Problem(str(path), "is a directory"))
    if not stat.S_ISREG(found.st_mode):
        raise Invalid(Problem(str(path), "is not a regular file"))
    return found.st_size
