"""Write checkpoints atomically, and resume from one bit for bit.

`archcalc.spec.checkpoints` says what is in such a folder. It is written under another name, and renamed when all of
it is on the disk. What a killed process leaves begins with a dot, and is removed with the next checkpoint. The
last two are kept.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import archcalc
from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.spec.checkpoints import (
    OPTIMIZER,
    SPEC,
    STATE,
    WHOLE,
    is_checkpoint,
    name_of,
    sealed,
    steps_in,
    stored,
)
from archcalc.spec.model import Model
from archcalc.units import grouped
from archcalc.units import shape as sizes
from archcalc_reference.files import LONGEST_REASON
from archcalc_reference.model.transformer import Transformer
from archcalc_reference.training.locking import hold_on

MOMENTS = ("exp_avg", "exp_avg_sq")
_UNFINISHED, _DROPPED = ".unfinished-", ".dropped-"
_CPU, _CUDA = "random.cpu", "random.cuda"  # the states of random numbers


def save(
    folder: Path,
    step: int,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    beside: Mapping[str, bytes],
    before: Path | None = None,
) -> Path:
    """Write the checkpoint of a step, with the files that are to stand `beside` it, and drop those of earlier steps.

    `before` is the one that this training wrote last or went on from: it stays, for the case that the new one is
    damaged. Raises Invalid, and leaves all others as they are, where a weight is no finite number, or where nothing
    can be written: a full disk, no permission.
    """
    standing = folder / name_of(step)
    if standing == before:  # a run that was interrupted right after it
        return standing
    tensors = weights_of(model)
    moments = _moments(model, optimizer)
    refuse_no_numbers(step, {**tensors, **moments}, before)
    write(standing, model.spec, tensors, moments, {"version": 1, "step": step, **state}, beside, before)
    return standing


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """The tensors that a checkpoint has of a model: parameters, and buffers, which no gradient changes."""
    return {name: x.detach() for name, x in (*model.named_parameters(), *model.named_buffers())}


def write(
    standing: Path,
    spec: Model,
    tensors: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    state: dict[str, Any],
    beside: Mapping[str, bytes],
    before: Path | None = None,
) -> None:
    """Write a checkpoint from its tensors. Raises Invalid as `save` does where nothing can be written."""
    hold_on(standing.parent)
    with unfinished(standing, before) as folder:
        begin(folder)
        save_file(dict(tensors), folder / WHOLE)
        save_file(dict(moments), folder / OPTIMIZER)
        (folder / SPEC).write_text(archcalc.dump(spec), encoding="utf-8")
        for name, content in beside.items():
            (folder / name).write_bytes(content)
        files = {path.name: stored(path).model_dump() for path in sorted(folder.iterdir())}
        (folder / STATE).write_text(sealed({**state, "files": files}), encoding="utf-8")
        complete(folder, standing, before)


@contextmanager
def unfinished(standing: Path, before: Path | None) -> Iterator[Path]:
    """The folder of what is to be a checkpoint. Where it cannot be written it is removed, and Invalid raised."""
    made = standing.with_name(standing.name.replace("step-", _UNFINISHED))
    try:
        yield made
    except (OSError, SafetensorError) as error:
        shutil.rmtree(made, ignore_errors=True)
        what = f"cannot be written: {getattr(error, 'strerror', None) or error}"
        raise Invalid(Problem(str(standing), what, suggestion=_kept(before))) from None


def begin(made: Path) -> None:
    """Make a folder for what is to be a checkpoint, where nothing is left of others."""
    made.parent.mkdir(parents=True, exist_ok=True)
    _clear(made.parent)
    made.mkdir()


def complete(made: Path, standing: Path, before: Path | None) -> None:
    """Give a folder, of which all is written, the name of a checkpoint, and drop earlier ones but `before`."""
    for path in (*sorted(made.iterdir()), made):
        _to_disk(path)
    if is_checkpoint(standing):  # a damaged one, or it would have been gone on from
        _drop(standing)
    os.replace(made, standing)
    _to_disk(standing.parent)
    steps = {path: step for step, path in steps_in(standing.parent).items()}
    for path, step in steps.items():
        if step < steps[standing] and path != before and is_checkpoint(path):
            _drop(path)
    _clear(standing.parent)


def _kept(before: Path | None) -> str | None:
    return None if before is None else f"{before.name} is kept"


def refuse_no_numbers(step: int, tensors: Mapping[str, Tensor], before: Path | None) -> None:
    """Raise Invalid for NaN or infinity, from which no training goes on."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            what = f"is not finite after step {grouped(step)}; no checkpoint was written"
            raise Invalid(Problem("weights", what, name, suggestion=_kept(before)))


def load_optimizer(folder: Path, model: Transformer, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Put both moments of each weight back, and the state of random numbers, as they were after a step.

    Raises Invalid where the file has other tensors than the weights need, of other shapes or types, or numbers that no
    training writes: its hashes may have been computed again after a change.
    """
    path = folder / OPTIMIZER
    found = _read(path)
    needed = _needed(model, step)
    problems = [
        *(Problem(str(path), "is missing", name) for name in needed if name not in found),
        *(
            Problem(str(path), "does not belong to any weight", name)
            for name in found
            if name not in needed and name != _CUDA
        ),
        *(
            Problem(
                str(path),
                "does not match its weight",
                name,
                value=_said(found[name]),
                suggestion=f"must be {_said(wanted)}",
            )
            for name, wanted in needed.items()
            if name in found and _said(found[name]) != _said(wanted)
        ),
    ]
    problems += [
        Problem(str(path), f"must be {step:,}, the steps done", name, value=shown(found[name].item()))
        for name in needed
        if not problems and name.endswith(".step") and found[name].item() != step
    ]
    if problems:
        raise Invalid(problems[0])
    _refuse_impossible(str(folder / WHOLE), {name: tensor.detach() for name, tensor in model.named_parameters()})
    _refuse_impossible(str(path), found)
    fused = optimizer.defaults.get("fused")
    for name, parameter in _learning(model) if step else ():
        # copies, laid out as the optimizer's own; it counts steps on the device where it has one kernel for all
        optimizer.state[parameter] = {
            key: found[f"{name}.{key}"].to(parameter.device if key != "step" or fused else "cpu", copy=True)
            for key in ("step", *MOMENTS)
        }
    _restore_random(path, _CPU, found[_CPU], torch.set_rng_state)
    if _CUDA in found and torch.cuda.is_available():
        _restore_random(path, _CUDA, found[_CUDA], torch.cuda.set_rng_state)


def _refuse_impossible(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise Invalid for a number that is not finite, and for a mean of squares below zero."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if not torch.isfinite(tensor).all():
            raise Invalid(Problem(path, "has a number that is not finite", name))
        if name.endswith(".exp_avg_sq") and (tensor < 0).any():
            what = "has a negative number, and it averages squares"
            raise Invalid(Problem(path, what, name, value=shown(tensor.min().item())))


def _restore_random(path: Path, name: str, state: Tensor, restore: Callable[[Tensor], None]) -> None:
    """Raise Invalid for a state that PyTorch's generator does not accept."""
    try:
        restore(state)
    except (RuntimeError, TypeError) as error:
        what = f"is not a valid state of random numbers: {cut(str(error), LONGEST_REASON)}"
        raise Invalid(Problem(str(path), what, name)) from None


def _needed(model: Transformer, step: int) -> dict[str, Tensor]:
    """What the optimizer's file has after a step: before the first one the optimizer has no state."""
    needed: dict[str, Tensor] = {_CPU: torch.get_rng_state()}
    for name, parameter in _learning(model) if step else ():
        needed[f"{name}.step"] = torch.tensor(0.0)
        needed |= {f"{name}.{key}": parameter for key in MOMENTS}
    return needed


def _learning(model: Transformer) -> list[tuple[str, Tensor]]:
    """The weights that an optimizer steps, by name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _said(tensor: Tensor) -> str:
    return f"{sizes(tuple(tensor.shape)) or 'a number'} of {str(tensor.dtype).removeprefix('torch.')}"


def _moments(model: Transformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in _learning(model)
        for key in MOMENTS
        if key in optimizer.state[parameter]
    }
    return found | counts(model, optimizer)


def counts(model: Transformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer's file has beside the moments: the steps of each weight, and the state of random numbers."""
    found = {
        f"{name}.step": optimizer.state[parameter]["step"]
        for name, parameter in _learning(model)
        if optimizer.state[parameter]
    }
    found[_CPU] = torch.get_rng_state()
    if model.embedding.token.weight.is_cuda:
        found[_CUDA] = torch.cuda.get_rng_state()
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise Invalid(Problem(str(path), f"cannot be read: {cut(str(error), LONGEST_REASON)}")) from None
    return tensors


def _drop(path: Path) -> None:
    """So that no half of it is ever found."""
    os.replace(path, path.with_name(f"{_DROPPED}{path.name}"))


def _clear(folder: Path) -> None:
    """Remove what a killed process left, and what was dropped."""
    for path in folder.iterdir():
        if path.name.startswith((_UNFINISHED, _DROPPED)) and path.is_dir():
            shutil.rmtree(path)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
