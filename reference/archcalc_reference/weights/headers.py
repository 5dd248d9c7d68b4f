"""The tensors of a folder of weights that the reference can read, by their headers, and its files opened.

Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc.files.regular import open_file
from archcalc.huggingface.headers import Header
from archcalc.huggingface.shards import read_folder
from archcalc.packages import needed
from archcalc_reference.files import LONGEST_REASON
from archcalc_reference.weights.layouts import may_be_absent

_TURNED = {"mlx": "MLX's layout", "flax": "Flax's layout", "tf": "TensorFlow's layout"}
"""Formats that a file's metadata may name, in which matrices may be transposed: square ones do not show it."""
_QUANTIZED = re.compile(
    r"\.(qweight|qzeros|g_idx|scales|SCB|(nested_)?absmax|(nested_)?quant_map|quant_state\..+|input_scale"
    r"|weight_(scale(_inv|_2)?|packed|zero_point))"
)
_QUANTIZED_TYPES = ("F8", "F6", "F4", "I4", "U4", "I8", "U8", "U32")
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Those that are read, by safetensors' names and PyTorch's."""


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
    found = read_folder(folder, may_be_absent)
    for path, metadata in found.metadata.items():
        if turned := _TURNED.get(metadata.get("format", "")):
            message = f"is in {turned}, in which matrices may be transposed"
            raise Invalid(
                Problem(path, message, "format", value=shown(metadata["format"]), suggestion="supported: 'pt'")
            )
    return found.headers


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
