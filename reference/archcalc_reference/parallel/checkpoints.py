"""Checkpoints that all ranks write together, each its part, and that any number of ranks reads.

    DIR/ranks/step-00000400/   the newest
        __0_0.distcp ...       what each rank has of the weights and of both moments, by torch.distributed.checkpoint
        .metadata              where each part of a tensor lies; PyTorch pickles it, and only its own classes are read
        spec.yaml plan.yaml    the architecture, and the plan that it was trained under
        state.json             the step, the settings, the place in the data, and size and SHA-256 of each file above
    DIR/ranks/step-00000300/   the one before it, which is used where the newest is damaged
    DIR/step-00001100/         the end, as one process writes it

All ranks must see the same folder.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed.checkpoint as dcp
from pydantic import Field
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

import archcalc
from archcalc.errors import Invalid, Problem, cut
from archcalc.plan.description import Plan
from archcalc.spec.checkpoints import (
    SPEC,
    STATE,
    Chosen,
    Kept,
    Stored,
    name_of,
    newest,
    read_kept,
    refuse_damage,
    sealed,
    stored,
)
from archcalc.spec.dumping import plain
from archcalc.spec.settings import Learned
from archcalc.units import shape
from archcalc_reference.files import LONGEST_REASON
from archcalc_reference.parallel.learning import RankTrainer
from archcalc_reference.parallel.parts import part_of, whole
from archcalc_reference.training import resuming

RANKS, PLAN, METADATA = "ranks", "plan.yaml", ".metadata"
MOST_FILES = 2**16  # one a rank
LARGEST_METADATA = 2**30  # bytes


class RanksKept(Kept):
    """What the state.json of a checkpoint says that ranks wrote."""

    needed = (SPEC, PLAN, METADATA)

    files: Annotated[
        dict[Annotated[str, Field(pattern=r"^(\.metadata|__\d{1,9}_\d{1,9}\.distcp|spec\.yaml|plan\.yaml)$")], Stored],
        Field(max_length=MOST_FILES),
    ]


def save(root: Path, trainer: RankTrainer, learned: Learned) -> Path:
    """Write what all ranks have after a step, and drop earlier checkpoints but the one before.

    Raises Invalid, or ends all ranks, where it cannot be written or a number is not finite; what was there stays.
    """
    standing, before, world = root / name_of(trainer.done), trainer.kept, trainer.world
    if standing == before:  # a run that was interrupted right after it
        return standing
    tensors = _tensors(trainer)
    with world.together():
        resuming.refuse_no_numbers(trainer.done, {name: part_of(x) for name, x in tensors.items()}, before)
    with world.together(), resuming.unfinished(standing, before) as made:
        if world.first:
            resuming.begin(made)
    with world.together(), resuming.unfinished(standing, before), _told(standing):
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(made))
        own = {path.name: stored(path).model_dump() for path in sorted(made.glob(f"__{world.rank}_*"))}
    files = {name: file for one in world.gathered(own) for name, file in one.items()}
    with world.together(), resuming.unfinished(standing, before):
        if world.first:
            (made / SPEC).write_text(archcalc.dump(trainer.model.spec), encoding="utf-8")
            (made / PLAN).write_text(_yaml(trainer.plan), encoding="utf-8")
            files |= {name: stored(made / name).model_dump() for name in RanksKept.needed}
            (made / STATE).write_text(sealed({**_state(trainer, learned), "files": files}), encoding="utf-8")
            resuming.complete(made, standing, before)
    trainer.kept = standing
    return standing


def intact(folder: Path) -> RanksKept:
    """What state.json says, where every file of the checkpoint is as it was written; else Invalid, with one line."""
    state = state_of(folder)
    for name, written in state.files.items():
        refuse_damage(folder / name, written)
    return state


def state_of(folder: Path) -> RanksKept:
    """What state.json says of a checkpoint that ranks wrote; the other files are not looked at."""
    return read_kept(folder, RanksKept)


def newest_of_ranks(root: Path) -> Chosen | None:
    """The newest checkpoint of ranks that is whole; None where there is none at all."""
    return newest(root, intact)


def go_on(folder: Path, trainer: RankTrainer, step: int) -> None:
    """Put weights and moments back as they were after a step, whatever ranks they were on.

    Raises Invalid where the checkpoint has other tensors than these weights need.
    """
    there = read_places(folder).state_dict_metadata
    state = trainer.optimizer.state
    fused = trainer.optimizer.defaults.get("fused")
    for name, parameter in trainer.model.named_parameters():
        if f"{name}.{resuming.MOMENTS[0]}" in there:
            counted = torch.tensor(float(step), device=parameter.device if fused else "cpu")
            moments = {key: torch.zeros_like(parameter, requires_grad=False) for key in resuming.MOMENTS}
            state[parameter] = {"step": counted, **moments}
    tensors = _tensors(trainer)
    _refuse_others(folder, tensors, there)
    with _told(folder):
        dcp.load(tensors, storage_reader=_Reader(folder))
    trainer.done, trainer.kept = step, folder


def export(standing: Path, trainer: RankTrainer, learned: Learned) -> None:
    """Write a checkpoint as one process does, which archcalc's commands read. The first rank gathers each tensor."""
    world = trainer.world
    weights: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    for name, tensor in _tensors(trainer).items():
        gathered = whole(tensor).cpu()  # by all ranks
        if world.first:
            (moments if name.endswith(resuming.MOMENTS) else weights)[name] = gathered.contiguous()
    with world.together():
        if world.first:
            narrow = next(iter(weights.values())).dtype == torch.bfloat16
            state = _state(trainer, learned)
            state["settings"]["precision"] = "bf16" if narrow else "fp32"  # what is written
            moments |= resuming.counts(trainer.model, trainer.optimizer)
            resuming.write(standing, trainer.model.spec, weights, moments, state, {})


def _state(trainer: RankTrainer, learned: Learned) -> dict[str, Any]:
    return {"version": 1, "step": trainer.done, **trainer.state(learned)}


def _tensors(trainer: RankTrainer) -> dict[str, Tensor]:
    """The weights by their names, and both moments of each."""
    found = resuming.weights_of(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        kept = trainer.optimizer.state.get(parameter, {})
        found |= {f"{name}.{key}": kept[key] for key in resuming.MOMENTS if key in kept}
    return found


def _refuse_others(folder: Path, tensors: Mapping[str, Tensor], there: Mapping[str, Any]) -> None:
    """Raise Invalid where a checkpoint has other tensors than are needed, or of other sizes or types."""
    where = str(folder / METADATA)
    for name in sorted(tensors.keys() ^ there.keys()):
        what = "does not belong to any weight" if name in there else "is missing"
        raise Invalid(Problem(where, what, name))
    for name, tensor in tensors.items():
        found, right = _said(there[name]), f"{shape(tuple(tensor.shape))} of {tensor.dtype}"
        if found != right:
            what, fix = "does not match its weight", f"must be {right}"
            raise Invalid(Problem(where, what, name, value=found, suggestion=fix))


def _said(found: Any) -> str:
    if not isinstance(found, TensorStorageMetadata):
        return "no tensor"
    return f"{shape(tuple(found.size))} of {found.properties.dtype}"


def _yaml(plan: Plan) -> str:
    """A plan as YAML that loads as an equal one."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in {"schema": 0, **plain(plan)}.items())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What torch.distributed.checkpoint raises, which is no Exception, in one line."""
    try:
        yield
    except dcp.CheckpointException as error:
        first = next(iter(error.failures.values()))[0] if error.failures else error
        raise Invalid(Problem(str(folder), f"checkpoint failed: {cut(str(first), LONGEST_REASON)}")) from None


def read_places(folder: Path) -> Metadata:
    """Where each part of a checkpoint's tensors lies.

    Raises Invalid for a file that is too large, and for a pickle that names anything but what PyTorch writes there.
    """
    path = folder / METADATA
    if path.stat().st_size > LARGEST_METADATA:
        raise Invalid(Problem(str(path), f"is larger than {LARGEST_METADATA:,} bytes"))
    with open(path, "rb") as file:
        try:
            found: Metadata = _Known(file).load()
        except Exception as error:  # noqa: BLE001  (a pickle raises whatever it likes)
            what = f"cannot be read: {cut(str(error) or type(error).__name__, LONGEST_REASON)}"
            raise Invalid(Problem(str(path), what)) from None
    if not _is_ours(found):
        raise Invalid(Problem(str(path), "is not what torch.distributed.checkpoint writes"))
    return found


def _is_ours(found: object) -> bool:
    """Whether it says of tensors which files of ranks have their parts: none is looked for elsewhere."""
    if not isinstance(found, Metadata):
        return False
    tensors, parts = found.state_dict_metadata, found.storage_data
    files = [getattr(part, "relative_path", None) for part in parts.values()] if isinstance(parts, dict) else [None]
    return isinstance(tensors, dict) and all(isinstance(name, str) and _PART.fullmatch(name) for name in files)


_PART = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")


class _Reader(dcp.FileSystemReader):
    """PyTorch's reader of parts, by the places that `read_places` finds."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        found = read_places(Path(self.path))
        if found.storage_meta is not None:
            found.storage_meta.load_id = self.load_id
        return found


_NAMES = re.compile(
    r"torch\.distributed\.checkpoint\.metadata\.(_MEM_FORMAT_ENCODING|(Bytes|Chunk|Tensor)StorageMetadata"
    r"|Metadata(Index)?|StorageMeta|TensorProperties)|torch\.distributed\.checkpoint\.filesystem\._StorageInfo"
    r"|torch\.(Size|b?float\w*|serialization\._get_layout)|pathlib\.(Posix|Windows)Path|pathlib\._local\.\w+Path"
)


class _Known(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if not _NAMES.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return super().find_class(module, name)
