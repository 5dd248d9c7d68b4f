"""Read and write weights: directories of safetensors with GPT-2's names or with archcalc's.

Tensors are read one by one, straight into the parameters that they fill, and written one by one: the weights are never
in memory twice.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any

import torch
from torch import Tensor, nn

from archcalc.errors import Invalid, Missing, Problem
from archcalc.files.regular import names_in
from archcalc.files.writing import umask
from archcalc.huggingface.headers import Header
from archcalc.spec.checkpoints import SPEC, WHOLE
from archcalc.spec.dumping import dump
from archcalc.spec.model import Model
from archcalc_reference.files import CONFIG
from archcalc_reference.model.transformer import Transformer
from archcalc_reference.text.tokenizer import TOKENIZER_FILES
from archcalc_reference.weights.entries import Entry, plain
from archcalc_reference.weights.exporting import exported
from archcalc_reference.weights.headers import TYPES, no_weights
from archcalc_reference.weights.layouts import TOKENS
from archcalc_reference.weights.places import Checkpoint, find_weights, otherwise_tied

__all__ = ["load_weights", "no_weights", "save_weights"]

ROWS = 4096  # of two tables that are compared: 4,096 rows of 12,288 features are 200 MB in fp32


def load_weights(
    model: Model, folder: str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Transformer:
    """A model with the weights of a folder, which are held against the spec before a number is read.

    Without `dtype` they stay in the type that they are stored in; where that is several, in the smallest that holds
    them all.

    Raises Missing without the folder, weights in it, a shard or the package safetensors; Invalid with a line for each
    tensor that the spec has otherwise, and for whatever is no weights.
    """
    with torch.device("meta"):
        reference = Transformer(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in _stored_tensors(reference).items()}
    found = find_weights(model, shapes, folder)
    if dtype is None:
        dtype = _promoted(found.types)
    buffers = dict(reference.named_buffers())
    filled: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(found.open(path))
            for path in dict.fromkeys(header.file for _, header in found.places)
        }
        for constant, expected in found.constants:
            _refuse_another_constant(_opened(files, stack, found, constant.file), constant, expected)
        if found.head:
            _refuse_another_tie(model, files, stack, found, found.head)
        for entry, header in found.places:
            for name in entry.parameters:
                if name not in filled:
                    width = torch.float32 if name in buffers else dtype
                    filled[name] = torch.empty(shapes[name], dtype=width, device=device)
            with torch.no_grad():
                _fill(filled, files[header.file].get_slice(header.stored), entry, header)
    for name in buffers.keys() - filled.keys():  # published files may lack them, and transformers takes zeros
        filled[name] = torch.zeros(shapes[name], device=device)
    for name, filling in filled.items():
        if name in buffers:
            parameter: Tensor = filling
        else:  # an indexer's learn nothing
            parameter = nn.Parameter(filling, requires_grad=reference.get_parameter(name).requires_grad)
        owner, _, leaf = name.rpartition(".")
        setattr(reference.get_submodule(owner), leaf, parameter)
    if model.unembedding.tied:
        reference.unembedding.weight = reference.embedding.token.weight
    return reference


def _promoted(types: list[str]) -> torch.dtype:
    """The smallest type that holds numbers of all these."""
    dtype: torch.dtype = getattr(torch, types[0])
    for name in types[1:]:
        dtype = torch.promote_types(dtype, getattr(torch, name))
    return dtype


def _opened(files: dict[str, Any], stack: ExitStack, found: Checkpoint, path: str) -> Any:
    """A file of a checkpoint, which is open already or stays open from now on."""
    return files.get(path) or stack.enter_context(found.open(path))


def _stored_tensors(reference: Transformer) -> dict[str, Tensor]:
    """What a checkpoint holds: the parameters, and buffers that a router has beside them."""
    return {**dict(reference.named_parameters()), **dict(reference.named_buffers())}


def _fill(filled: dict[str, Tensor], stored: Any, entry: Entry, header: Header) -> None:
    """Read a stored tensor into the parameters, piece by piece: rows of ours are columns of what is transposed."""
    start = 0
    for i, piece in enumerate(entry.pieces):
        rows = filled[piece.parameter][piece.start : piece.stop]
        if entry.stacked:
            part = _of_an_expert(stored, entry, *divmod(i, len(entry.pieces) // entry.shape[0]), rows.shape[1])
        elif len(entry.pieces) == 1:
            part = stored[:]
        else:
            cut = slice(start, start + piece.rows)
            part = stored[:, cut] if entry.transposed else stored[cut]
        if entry.transposed and not entry.stacked:
            part = part.reshape(*rows.shape[:-2], rows.shape[-1], rows.shape[-2]).mT
        _refuse_not_finite(rows.copy_(part.reshape(rows.shape)), part, header)
        start += piece.rows


def _of_an_expert(stored: Any, entry: Entry, expert: int, i: int, rows: int) -> Tensor:
    """Part i of an expert, of those that are one after the other or woven."""
    parts = len(entry.parameters)
    whole: Tensor = stored[expert : expert + 1]
    whole = whole.mT if entry.transposed else whole
    return whole[:, i::parts] if entry.woven else whole[:, i * rows : (i + 1) * rows]


def _refuse_another_constant(file: Any, header: Header, expected: float) -> None:
    """Raise Invalid where a constant of the computation is another one; bf16 has rounded it."""
    number = file.get_tensor(header.stored).double()
    if number.numel() != 1 or not math.isclose(number.item(), expected, rel_tol=2**-8):
        value = f"{number.item():g}" if number.numel() == 1 else str(list(number.shape))
        raise Invalid(Problem(header.file, f"must be {expected:g}", header.name, value=value))


def _refuse_not_finite(weight: Tensor, stored: Tensor, header: Header) -> None:
    """Raise Invalid where a weight is NaN or infinite, as it is stored or in the type that it becomes.

    The least and the largest number say so (of a tensor with NaN in it both are NaN), and take no memory for it.
    """
    if _finite(weight):
        return
    least, largest = (x.item() for x in stored.aminmax())
    wrong = [x for x in (least, largest) if not math.isfinite(x)]
    if wrong:
        raise Invalid(Problem(header.file, "has a number that is not finite", header.name, value=str(wrong[0])))
    what = f"has a number too large for {_type(weight)}"
    raise Invalid(Problem(header.file, what, header.name, value=f"{max(least, largest, key=abs):g}"))


def _finite(tensor: Tensor) -> bool:
    return all(math.isfinite(x.item()) for x in tensor.aminmax())


def _refuse_another_tie(
    model: Model, files: dict[str, Any], stack: ExitStack, found: Checkpoint, head: Header
) -> None:
    """Raise Invalid where a head beside the token table is not, or is, the same numbers, against spec and config.json.

    transformers ties what is equal and leaves apart what differs, where config.json says that they are tied.
    """
    tied = model.unembedding.tied
    if not tied and not (found.tie and found.tie.tied):
        return
    table = next(header for entry, header in found.places if TOKENS in entry.parameters)
    file = _opened(files, stack, found, head.file)
    ours, theirs = files[table.file].get_slice(table.stored), file.get_slice(head.stored)
    rows = range(0, head.shape[0], ROWS)
    same = all(torch.equal(ours[start : start + ROWS], theirs[start : start + ROWS]) for start in rows)
    if tied and not same:
        message = f"differs from {table.name}, and the spec ties them"
        raise Invalid(Problem(head.file, message, head.name, suggestion="unembedding.tied=false describes that model"))
    if not tied and same and found.tie:
        raise Invalid(otherwise_tied(model, found.tie))


def save_weights(reference: Transformer, folder: str, *, tokenizer_from: str | None = None) -> None:
    """Write a model's weights, in the type that they are in, with the spec beside them and a tokenizer's files.

    What GPT2LMHeadModel can be is written so that its `from_pretrained` reads the folder; any other model under our
    names. Everything is written into a temporary folder first and renamed at the end: a folder that was not there
    appears whole, in one that was each file is replaced by one step.

    Raises Missing where the folder's own folder is not there, Invalid where the disk is full or refuses.
    """
    target = os.path.realpath(folder)
    if os.path.exists(target) and not os.path.isdir(target):
        raise Invalid(Problem(folder, "is not a directory"))
    copied = [] if tokenizer_from is None else _tokenizer_files(tokenizer_from, target)
    temporary = None
    try:
        exists = os.path.isdir(target)
        temporary = tempfile.mkdtemp(dir=target if exists else os.path.dirname(target), prefix=".archcalc-")
        _write_all(reference, temporary, copied)
        if exists:
            for name in sorted(os.listdir(temporary)):
                os.replace(os.path.join(temporary, name), os.path.join(target, name))
        else:
            os.chmod(temporary, 0o777 & ~umask())
            os.rename(temporary, target)
    except FileNotFoundError:
        raise Missing(Problem(folder, "cannot be written: its parent directory does not exist")) from None
    except OSError as error:
        raise Invalid(Problem(folder, f"cannot be written: {error.strerror}")) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _tokenizer_files(source: str, target: str) -> list[str]:
    """The paths of a folder's tokenizer files; none where it is the folder that is written."""
    there = names_in(source)
    if os.path.realpath(source) == target:
        return []
    return [os.path.join(source, name) for name in TOKENIZER_FILES if name in there]


def _write_all(reference: Transformer, folder: str, copied: list[str]) -> None:
    model = reference.spec
    parameters = _stored_tensors(reference)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    dtype = _promoted(sorted({_type(parameter) for parameter in reference.parameters()}))
    config, entries, constants, zeros = exported(model, shapes, str(dtype).removeprefix("torch."))
    numbers = {name: torch.tensor(value, dtype=dtype) for name, value in constants.items()}
    numbers |= {name: torch.zeros(shape, dtype=dtype) for name, shape in zeros.items()}
    entries = [*entries, *(plain(name, name, tuple(number.shape)) for name, number in numbers.items())]
    with open(os.path.join(folder, WHOLE), "wb") as file:
        _write_tensors(file, entries, {**parameters, **numbers})
        _settle(file)
    texts = {SPEC: dump(model)}
    if config is not None:
        texts[CONFIG] = json.dumps(config, indent=2) + "\n"
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
            _settle(file)
    for path in copied:
        shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))


def _settle(file: IO[Any]) -> None:
    """On the disk, and not on its way: only then may it take another file's name."""
    file.flush()
    os.fsync(file.fileno())


def _type(tensor: Tensor) -> str:
    """PyTorch's name of a tensor's type, float32."""
    return str(tensor.dtype).removeprefix("torch.")


def _write_tensors(file: IO[bytes], entries: list[Entry], parameters: Mapping[str, Tensor]) -> None:
    """A safetensors file: the header's length in 8 bytes, the header, the tensors end to end.

    Written here and not by the package, which wants all tensors in memory in the layout that they are stored in.
    """
    letters = {name: letter for letter, name in TYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        first = parameters[entry.parameters[0]]
        start, end = end, end + math.prod(entry.shape) * first.element_size()
        header[entry.name] = {
            "dtype": letters[_type(first)],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8
    file.write(len(text).to_bytes(8, "little") + text)
    for entry in entries:
        file.write(memoryview(stored(entry, parameters).cpu().view(-1).view(torch.uint8).numpy()))


def stored(entry: Entry, parameters: Mapping[str, Tensor]) -> Tensor:
    """A tensor as a checkpoint stores it, of the parameters that it holds."""
    if not entry.shape:
        return parameters[entry.name]
    if entry.stacked:
        parts = [parameters[name].detach() for name in entry.parameters]
        whole = torch.stack(parts, 2).flatten(1, 2) if entry.woven else torch.cat(parts, 1)
    else:
        parts = [parameters[piece.parameter].detach()[piece.start : piece.stop] for piece in entry.pieces]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return (whole.mT if entry.transposed else whole).reshape(entry.shape).contiguous()
