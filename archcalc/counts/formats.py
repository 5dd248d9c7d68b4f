"""Bytes of weights in a format with scales: which tensors are packed, by how many bits, and what stays wide.

- q4_0 to q6_k: matrices by the mixture of llama-quantize; norms, biases, positions and routers in F32 (llama.cpp,
  src/llama-quant.cpp at 007dbbf3).
- fp8-block: matrices of layers; a scale of 4 bytes for 128 x 128 (DeepSeek-V3, arXiv:2412.19437, section 3.3.2).
- mxfp4: experts, or all matrices of layers where there are none; an exponent of a byte for 32 (OCP MX 1.0; gpt-oss).
- nvfp4: the same; a scale of a byte for 16, and two of 4 bytes for a matrix (NVIDIA's ModelOpt, as GLM-5-NVFP4).
- awq: matrices of layers; a scale of 2 bytes and a zero of 4 bits for 128 (Lin et al. 2023, arXiv:2306.00978).
- gptq: the same, and an index of 4 bytes for each input (Frantar et al. 2022, arXiv:2210.17323; AutoGPTQ).
- nf4: matrices of layers; a scale of 4 bytes for 64, and a table of 16 such for a matrix (Dettmers et al. 2023,
  arXiv:2305.14314; bitsandbytes without double quantization).

But for those of llama.cpp, token table, head, norms, biases and routers stay in 16 bits. A file in which several of
our matrices are one (query, key and value) may differ in the last bytes, and by llama.cpp's rules in a type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from archcalc.counts.parameters import Parameters, Stored
from archcalc.errors import Invalid, Problem, shown
from archcalc.tape.legend import CATEGORIES, Size, add, product, quotient

_K = "llama.cpp, src/llama-quant.cpp"
_LLAMA = "; head Q6_K (Q8_0 in q8_0); norms, biases, positions, routers F32"
_SIXTEEN = "; token table, head, norms, biases, routers in 16 bits"
_EXPERTS = "experts, or all matrices of layers where there are none"
MEANINGS: dict[str, tuple[str, str]] = {
    "q4_0": (f"matrices in blocks of 32 with a scale{_LLAMA}", _K),
    "q4_1": (f"matrices in blocks of 32 with a scale and a minimum{_LLAMA}", _K),
    "q5_0": (f"matrices in blocks of 32 with a scale{_LLAMA}", _K),
    "q5_1": (f"matrices in blocks of 32 with a scale and a minimum{_LLAMA}", _K),
    "q8_0": (f"matrices in blocks of 32 with a scale{_LLAMA}", _K),
    "q4_k_s": (f"Q4_K; value and down projections of the first layers Q5_K{_LLAMA}", _K),
    "q4_k_m": (f"Q4_K; value and down projections of half of the layers Q6_K{_LLAMA}", _K),
    "q5_k_s": (f"Q5_K{_LLAMA}", _K),
    "q5_k_m": (f"Q5_K; value and down projections of half of the layers Q6_K{_LLAMA}", _K),
    "q6_k": (f"Q6_K{_LLAMA}", _K),
    "mxfp4": (f"{_EXPERTS}: 4 bits, a byte of exponent for 32{_SIXTEEN}", "OCP MX 1.0; gpt-oss's config.json"),
    "nvfp4": (f"{_EXPERTS}: 4 bits, a byte of scale for 16{_SIXTEEN}", "NVIDIA's ModelOpt; GLM-5-NVFP4"),
    "fp8-block": (f"matrices of layers: 8 bits, fp32 scales for 128 x 128{_SIXTEEN}", "DeepSeek-V3, arXiv:2412.19437"),
    "awq": (f"matrices of layers: 4 bits, fp16 scale and 4-bit zero for 128{_SIXTEEN}", "AWQ, arXiv:2306.00978"),
    "gptq": (f"as awq, and an index of 32 bits for each input{_SIXTEEN}", "GPTQ, arXiv:2210.17323; AutoGPTQ"),
    "nf4": (f"matrices of layers: 4 bits, fp32 scale for 64{_SIXTEEN}", "QLoRA, arXiv:2305.14314; bitsandbytes"),
}
"""Each format in words, and its source."""

BLOCKS = {
    "F32": (1, 4),
    "F16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
"""Numbers of a block and its bytes, by ggml's names; the package gguf has the same (GGML_QUANT_SIZES)."""

_FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""What llama-quantize takes where a row is no whole number of blocks; where that does not fit either, F16."""

_TABLES = ("embedding", "unembedding")


class Formatted(NamedTuple):
    """Some tensors of one name and type."""

    name: str
    type: str
    parameters: Size
    bytes: Size


def formatted(counts: Parameters, precision: str) -> list[Formatted]:
    """The weights as a format stores them. Raises Invalid for arrays: how layers are mixed depends on their number."""
    if any(hasattr(size, "dtype") for tensor in counts.tensors for size in (tensor.layers, *tensor.shape)):
        what = "is a format with scales, which is counted of one model at a time"
        raise Invalid(Problem("--precision", what, value=shown(precision)))
    found = _by_llama_cpp(counts, precision) if precision in _MIXTURES else _by_matrices(counts, precision)
    return list(found)


def format_bytes(counts: Parameters, precision: str) -> Size:
    """Bytes of all weights in a format."""
    return add(one.bytes for one in formatted(counts, precision))


# What llama-quantize makes of a file: the type of most matrices, and of some by the layer that they are in.

_MIXTURES = {
    **{name: name.upper() for name in ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q6_k")},
    **dict.fromkeys(("q4_k_s", "q4_k_m"), "Q4_K"),
    **dict.fromkeys(("q5_k_s", "q5_k_m"), "Q5_K"),
}
_EIGHT = 8  # experts: Mixtral's number has a rule of its own
_LARGE = 80  # layers of a model that llama.cpp takes for one of 70B


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and of the others every third."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _by_llama_cpp(counts: Parameters, precision: str) -> Iterator[Formatted]:
    layers = sum(1 for _ in {i for tensor in counts.tensors if tensor.within for i in tensor.within.indices()})
    values = sorted(i for t in counts.tensors if t.part == "value" and t.within for i in t.within.indices())
    experts = max((int(t.shape[0]) for t in counts.tensors if t.active is not None), default=1)
    tied = not any(tensor.part == "unembedding" for tensor in counts.tensors)
    query, value = (next((t for t in counts.tensors if t.part == part), None) for part in ("query", "value"))
    shares = query is not None and value is not None and query.shape[0] != value.shape[0]

    def type_of(tensor: Stored, index: int) -> str:
        most = _MIXTURES[precision]
        if tensor.part == "unembedding" or (tied and tensor.part == "embedding"):
            whole = int(tensor.shape[-1]) % BLOCKS[most][0] == 0
            return "Q6_K" if whole and most != "Q8_0" else "Q8_0"
        if tensor.part == "value":
            if experts == _EIGHT:
                return "Q8_0"
            at = values.index(index)
            if precision in ("q4_k_m", "q5_k_m") and _more_bits(at, len(values)):
                return "Q6_K"
            if precision == "q4_k_s" and at < 4:
                return "Q5_K"
            return "Q5_K" if most == "Q4_K" and layers == _LARGE and shares else most
        if tensor.part == "key" and experts == _EIGHT:
            return "Q8_0"
        if tensor.part == "output" and experts == _EIGHT and most == "Q4_K":
            return "Q5_K"
        if tensor.part == "down_projection":
            if precision in ("q4_k_m", "q5_k_m") and _more_bits(index, layers):
                return "Q6_K"
            if precision == "q4_k_s" and index < layers // 8:
                return "Q5_K"
        return most

    for tensor in counts.tensors:
        indices = tensor.within.indices() if tensor.within else [0]
        each = quotient(tensor.parameters, tensor.layers)
        matrix = len(tensor.shape) > 1 and (tensor.part in CATEGORIES or tensor.part not in _WIDE)
        types = Counter(_fitting(type_of(tensor, i), tensor) if matrix else "F32" for i in indices)
        for kind, times in types.items():
            numbers, size = BLOCKS[kind]
            # All layers of one type: their number stays a letter where it is one.
            many = tensor.layers if len(types) == 1 else times
            yield Formatted(tensor.name, kind, each * many, quotient(each * size, numbers) * many)


def _fitting(kind: str, tensor: Stored) -> str:
    row = int(tensor.shape[-1])
    if row % BLOCKS[kind][0]:
        kind = _FALLBACKS.get(kind, kind)
    return "F16" if row % BLOCKS[kind][0] else kind


_WIDE = ("positions", "biases", "norms", "router", "convolutions")


# What others make: matrices of layers alone, each with its scales.


def _by_matrices(counts: Parameters, precision: str) -> Iterator[Formatted]:
    name, rule = _MATRICES[precision]
    mixture = any(tensor.active is not None for tensor in counts.tensors)
    for tensor in counts.tensors:
        packed = len(tensor.shape) > 1 and tensor.within is not None and tensor.part not in (*_WIDE, *_TABLES)
        if precision in ("mxfp4", "nvfp4") and mixture:
            packed = packed and tensor.active is not None
        if not packed:
            yield Formatted(tensor.name, "16 bits", tensor.parameters, tensor.parameters * 2)
            continue
        rows, columns = tensor.shape[-2:]
        matrices = product(tensor.shape[:-2]) * tensor.layers
        yield Formatted(tensor.name, name, tensor.parameters, rule(rows, columns) * matrices)


def _up(n: Size, parts: int) -> Size:
    return -(-n // parts)


_MATRICES: dict[str, tuple[str, Callable[[Size, Size], Size]]] = {
    "fp8-block": ("FP8", lambda rows, columns: rows * columns + 4 * _up(rows, 128) * _up(columns, 128)),
    "mxfp4": ("MXFP4", lambda rows, columns: rows * _up(columns, 32) * 17),
    "nvfp4": ("NVFP4", lambda rows, columns: rows * _up(columns, 2) + rows * _up(columns, 16) + 8),
    "awq": (
        "int4 (AWQ)",
        lambda rows, columns: _up(rows, 2) * columns + _up(columns, 128) * (2 * rows + _up(rows, 2)),
    ),
    "gptq": (
        "int4 (GPTQ)",
        lambda rows, columns: _up(rows, 2) * columns + _up(columns, 128) * (2 * rows + _up(rows, 2)) + 4 * columns,
    ),
    "nf4": ("NF4", lambda rows, columns: _up(rows * columns, 2) + 4 * _up(rows * columns, 64) + 64),
}
