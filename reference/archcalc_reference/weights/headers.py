"""A folder of weights by its headers: which tensors are in which file, of which shape and type. No number is read.

The format is safetensors (github.com/huggingface/safetensors): model.safetensors, or model.safetensors.index.json and
the shards that it names. Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal, NamedTuple

from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc.packages import needed
from archcalc.spec.checkpoints import INDEX, WHOLE
from archcalc_reference.files import LONGEST_REASON, names_in, open_file, read_object
from archcalc_reference.weights.entries import Shape
from archcalc_reference.weights.layouts import may_be_absent

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FORMATS = {
    ".gguf": "GGUF",
    ".onnx": "ONNX",
    ".npz": "arrays of MLX or NumPy",
    ".h5": "TensorFlow's HDF5",
    ".msgpack": "Flax's msgpack",
    ".ckpt.index": "a TensorFlow checkpoint",
    ".tflite": "TensorFlow Lite",
    ".ot": "rust-bert's archive",
    ".nemo": "a NeMo archive",
}
"""Other files of weights, by how their names end."""
_TURNED = {"mlx": "MLX's layout", "flax": "Flax's layout", "tf": "TensorFlow's layout"}
"""Formats that a file's metadata may name, in which matrices may be transposed: square ones do not show it."""
_QUANTIZED = re.compile(
    r"\.(qweight|qzeros|g_idx|scales|SCB|(nested_)?absmax|(nested_)?quant_map|quant_state\..+|input_scale"
    r"|weight_(scale(_inv|_2)?|packed|zero_point))"
)
_QUANTIZED_TYPES = ("F8", "F6", "F4", "I4", "U4", "I8", "U8", "U32")
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Those that are read, by safetensors' names and PyTorch's."""


class Header(NamedTuple):
    """A tensor as its file announces it.

    `same_as` is the name that it is stored under where the file's metadata says that two names are one tensor, as
    safetensors' `save_model` writes it.
    """

    file: str
    name: str
    shape: Shape
    type: str
    same_as: str | None = None

    @property
    def stored(self) -> str:
        """The name in the file."""
        return self.same_as or self.name


def no_weights(spec: str) -> Missing:
    """What a command that needs weights says where none are named, with the ways out."""
    ways = f"`archcalc train {spec}` trains them, --weights DIR reads them"
    published = "GPT-2's are published at huggingface.co/openai-community/gpt2"
    return Missing(
        Problem("--weights", f"{spec} has no weights in the current directory", suggestion=f"{ways}; {published}")
    )


def package() -> Any:
    """The package safetensors; Missing says how to install it."""
    return needed("safetensors", "weights")


def refuse_quantized(headers: list[Header]) -> None:
    """Raise Invalid for weights that are packed or scaled: one line, at the first."""
    for header in headers:
        packed = header.type not in TYPES and header.type.startswith(_QUANTIZED_TYPES) and len(header.shape) == 2
        if packed or _QUANTIZED.search(header.name):
            message = "belongs to quantized weights, which are not supported yet"
            raise Invalid(Problem(header.file, message, header.name, value=header.type))


def read_headers(folder: str) -> list[Header]:
    """Every tensor that a folder's weights announce; where they are whole and sharded too, whole."""
    there = names_in(folder)
    if WHOLE in there:
        return _announced(os.path.join(folder, WHOLE))
    if INDEX not in there:
        raise _nothing(folder, there)
    index = os.path.join(folder, INDEX)
    promised = _promises(index)
    shards = sorted(set(promised.values()))
    gone = [shard for shard in shards if shard not in there]
    if gone:
        raise Missing(
            *(Problem(os.path.join(folder, shard), f"no such file, although {INDEX} names it") for shard in gone)
        )
    found: dict[str, Header] = {}
    problems = []
    for shard in shards:
        for header in _announced(os.path.join(folder, shard)):
            first = found.setdefault(header.name, header)
            if first is not header:
                problems.append(Problem(header.file, f"is also in {os.path.basename(first.file)}", header.name))
    for name, shard in promised.items():
        if name not in found and not may_be_absent(name):
            problems.append(Problem(os.path.join(folder, shard), f"is missing, although {INDEX} places it here", name))
    if problems:
        raise Invalid(*problems)
    return list(found.values())


def _nothing(folder: str, there: list[str]) -> Invalid | Missing:
    pickles = [name for name in there if name.endswith(PICKLES)]
    if pickles:
        fix = "if you trust it, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)"
        message = f"holds {pickles[0]} and no {WHOLE}; pickles are not read, since they can run code"
        return Invalid(Problem(folder, message, suggestion=f"convert it {fix}"))
    for ending, form in _FORMATS.items():
        if named := [name for name in there if name.endswith(ending)]:
            what = f"holds {named[0]}: {form} is not supported"
            return Invalid(Problem(folder, what, suggestion=f"weights are read from {WHOLE}"))
    others = [name for name in there if name.endswith(".safetensors")]
    if others:
        return Missing(Problem(folder, f"has neither {WHOLE} nor {INDEX}", value=shown(others[0])))
    return Missing(Problem(folder, f"has no weights: neither {WHOLE} nor {INDEX}"))


def _promises(index: str) -> dict[str, str]:
    """Which shard has which tensor, as the index says."""
    promised = read_object(index).get("weight_map")
    if not isinstance(promised, dict) or not promised:
        raise Invalid(Problem(index, "must map each tensor to a file", "weight_map"))
    for name, shard in promised.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or os.path.basename(shard) != shard:
            raise Invalid(Problem(index, "must name a .safetensors file beside it", name, value=shown(shard)))
    return promised


def _announced(path: str) -> list[Header]:
    with open_tensors(path, "numpy") as file:  # what it announces takes no PyTorch, BF16 included
        metadata: dict[str, str] = file.metadata() or {}
        turned = _TURNED.get(metadata.get("format", ""))
        if turned:
            message = f"is in {turned}, in which matrices may be transposed"
            raise Invalid(
                Problem(path, message, "format", value=shown(metadata["format"]), suggestion="supported: 'pt'")
            )
        slices = [(name, file.get_slice(name)) for name in file.keys()]  # noqa: SIM118  (no mapping)
        found = {n: Header(path, n, tuple(part.get_shape()), str(part.get_dtype())) for n, part in slices}
        for name, kept in metadata.items():
            if kept in found and name not in found:
                found[name] = found[kept]._replace(name=name, same_as=found[kept].stored)
        return list(found.values())


def open_tensors(path: str, framework: Literal["numpy", "pt"]) -> Any:
    """A file of weights, mapped into memory: what is not asked for is not read. Invalid where it is none, or cut.

    The package opens by name and would wait for a pipe, so what is no regular file is refused before.
    """
    open_file(path).close()
    try:
        return package().safe_open(path, framework=framework)
    except (OSError, ValueError, package().SafetensorError) as error:
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            raise Invalid(Problem(path, "is empty")) from None
        reason = cut(str(error), LONGEST_REASON)
        raise Invalid(Problem(path, f"is not a complete safetensors file: {reason}")) from None
