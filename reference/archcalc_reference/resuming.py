"""Checkpoints: folders that stand whole or not at all, from which training goes on bit for bit.

    DIR/step-00000400/        the newest; an older one is there only until this one stands
        model.safetensors     the weights, by the names of the reference's parameters
        spec.yaml             the architecture
        optimizer.safetensors both moments and the count of steps of each weight, and the state of random numbers
        state.json            the step, the place in the data and what was asked for
        tokenizer.json ...    the tokenizer's files, where the weights came with one

A checkpoint is written to a folder beside it, which gets its name when all of it is on the disk. What a killed process
leaves begins with a dot, and goes with the next checkpoint. Beside them stands .lock, which a training holds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import archcalc
from archcalc.errors import Invalid, Missing, Problem
from archcalc_reference.checkpoint import STATE, WHOLE, latest, steps_in
from archcalc_reference.layouts import SPEC
from archcalc_reference.model import Transformer

MODEL, OPTIMIZER = WHOLE, "optimizer.safetensors"
LOCK = ".lock"
_UNFINISHED, _DROPPED = ".unfinished-", ".dropped-"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made where there is none: two trainings would drop each other's checkpoints.

    The system lets go of it when the process ends, however it ends, so that the file can stay and means nothing by
    itself. Raises Invalid where another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise Invalid(Problem(str(folder), f"cannot be written: {error.strerror}")) from None
    try:
        _hold(handle, folder)
        yield
    finally:
        os.close(handle)


def _hold(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        what, fix = "another training writes there", "say another --out"
        raise Invalid(Problem(str(folder), what, suggestion=fix)) from None
    except OSError:  # a file system without locks
        return


def save(
    folder: Path,
    step: int,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    beside: Mapping[str, bytes],
) -> Path:
    """Write the checkpoint of a step, with the files that are to stand `beside` it; then drop those before it.

    Raises Invalid where it cannot be written: a full disk, no permission. The one before it stands then.
    """
    standing, unfinished = folder / f"step-{step:08d}", folder / f"{_UNFINISHED}{step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        if standing.is_dir():  # a run that was interrupted right after it
            return standing
        unfinished.mkdir()
        save_file({name: p.detach() for name, p in model.named_parameters()}, unfinished / MODEL)
        save_file(_moments(model, optimizer), unfinished / OPTIMIZER)
        (unfinished / SPEC).write_text(archcalc.dump(model.spec), encoding="utf-8")
        for name, content in beside.items():
            (unfinished / name).write_bytes(content)
        (unfinished / STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
        for path in (*sorted(unfinished.iterdir()), unfinished):
            _to_disk(path)
        os.replace(unfinished, standing)
        _to_disk(folder)
        for old, path in steps_in(folder).items():
            if old != step:
                os.replace(path, folder / f"{_DROPPED}{old:08d}")  # so that no half of it is ever found
        _clear(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        kept = latest(folder)
        what = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        fix = None if kept is None else f"{kept.name} stands"
        raise Invalid(Problem(str(standing), what, suggestion=fix)) from None
    return standing


def read_spec(folder: Path) -> archcalc.Model:
    """The architecture of a checkpoint."""
    return archcalc.load(folder / SPEC)


def read_state(folder: Path) -> dict[str, Any]:
    """What state.json says: the step, and what was asked for."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Missing(Problem(str(folder / STATE), "no such file", suggestion="its weights can be tuned")) from None
    except (OSError, ValueError) as error:
        raise Invalid(Problem(str(folder / STATE), f"cannot be read: {error}")) from None
    return state


def load_optimizer(folder: Path, model: Transformer, optimizer: torch.optim.Optimizer) -> None:
    """Put both moments of each weight back, and the state of random numbers."""
    stored = _read(folder / OPTIMIZER)
    for name, parameter in model.named_parameters():
        mine = {key: stored[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in stored}
        # copies, laid out as the optimizer's own; it counts steps on the device where it has one kernel for all
        fused = optimizer.defaults.get("fused")
        optimizer.state[parameter] = {
            key: x.to(parameter.device if key != "step" or fused else "cpu", copy=True) for key, x in mine.items()
        }
    torch.set_rng_state(stored["random.cpu"])
    if "random.cuda" in stored and torch.cuda.is_available():
        torch.cuda.set_rng_state(stored["random.cuda"])


def _moments(model: Transformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {
        f"{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }
    found["random.cpu"] = torch.get_rng_state()
    if model.embedding.token.weight.is_cuda:
        found["random.cuda"] = torch.cuda.get_rng_state()
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise Missing(Problem(str(path), "no such file")) from None
    except (OSError, SafetensorError) as error:
        raise Invalid(Problem(str(path), f"cannot be read: {error}")) from None
    return tensors


def _clear(folder: Path) -> None:
    """Remove what a killed process left, and what was dropped."""
    for path in folder.iterdir():
        if path.name.startswith((_UNFINISHED, _DROPPED)):
            shutil.rmtree(path)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
