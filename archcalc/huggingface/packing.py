"""The weights that tensors are: real shape and format of what is packed, with its scales; buffers apart.

| format | tensors of a weight of (out, in) | source |
| --- | --- | --- |
| GPTQ | qweight (in x bits / 32, out), qzeros (groups, out x bits / 32), scales (groups, out), g_idx | AutoGPTQ |
| AWQ | qweight (in, out x bits / 32), qzeros (groups, out x bits / 32), scales (groups, out) | AutoAWQ |
| int, packed | weight_packed (out, in x bits / 32), weight_scale (out, groups) | compressed-tensors |
| NVFP4 | weight or weight_packed (out, in / 2), 8-bit scales (out, in / 16) and one of 32 bits | ModelOpt |
| MXFP4 | _blocks (..., in / 32, 16), _scales (..., in / 32), E8M0 | OCP MX 1.0, gpt-oss |
| FP8, int8 | weight (out, in) and weight_scale or weight_scale_inv: one, by row, by block | DeepSeek-V3 |
| NF4, FP4 | weight (out x in / 2, 1), absmax by block, quant_map, quant_state | bitsandbytes |
| MLX | weight (out, in x bits / 32), scales and biases (out, groups) | MLX |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from archcalc.huggingface.headers import Header, Shape
from archcalc.huggingface.quantization import Quantization, Scheme

How = Callable[[], Quantization]
"""What the files beside say: read once a tensor needs it."""

_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|causal_mask|inv_freq|(cos|sin)_cached|embed_positions|position_ids|e_score_correction_bias"
    r"|layer_scalar|moe\.router_bias|slope_rate|(query|key|diagonal)_decay"
    r"|expert_bias|act_fn\.(beta|eps)|num_batches_tracked|(\w+_)?(input|output|[qkv]|kv|prob)_scale|rope_freqs\.weight"
    r"|rope_factors_(long|short)\.weight|exp_probs_b\.bias)$"
)
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")  # a mask has four axes; a bias has one
_WORDS = ("I8", "U8", "I16", "U16", "I32", "U32")
_BESIDE = (
    *("qzeros", "scales", "g_idx", "weight_scale", "weight_scale_2", "weight_scale_inv", "weight_zero_point"),
    *("weight_g_idx", "weight_shape", "weight_global_scale", "input_global_scale", "input_scale", "output_scale"),
    *("SCB", "weight_format", "scale", "biases"),
)
"""What may stand beside a packed weight and belongs to it."""


class Weight(NamedTuple):
    """A weight, or a buffer, with everything that is stored of it.

    `shape` is None where the header does not tell it, and `parameters` where it does not even tell how many. `format`
    names how numbers are stored, and `header` is the tensor that has them.
    """

    name: str
    shape: Shape | None
    format: str
    parameters: int | None
    stored_bytes: int
    header: Header
    buffer: bool = False
    packed: bool = False


class _Packed(NamedTuple):
    name: str
    shape: Shape | None
    format: str
    parameters: int | None
    beside: tuple[Header, ...]


def weights(headers: Iterable[Header], how: How = Quantization) -> list[Weight]:
    """The weights and buffers that some tensors are, in their order; a second name of a tensor is no weight."""
    own = {header.name: header for header in headers if header.same_as is None}
    packed = {name: one for name, header in own.items() if (one := _unpacked(header, own, how))}
    left = {part.name: part for one in packed.values() for part in one.beside if part.name not in packed}
    beside = set(left)
    found = []
    for name, header in own.items():
        if one := packed.get(name):  # what belongs to two is counted with the first
            parts = [part for part in one.beside if left.pop(part.name, None)]
            stored = header.stored_bytes + sum(part.stored_bytes for part in parts)
            found.append(Weight(one.name, one.shape, one.format, one.parameters, stored, header, packed=True))
        elif name not in beside:
            found.append(_plain(header))
    return found


def _plain(header: Header) -> Weight:
    """A tensor of one number for each parameter, or a buffer; whole numbers that nothing explains are packed."""
    name, shape, kind = header.name, header.shape, header.type
    mask = _MASK.search(name) and (len(shape) == 4 or kind in ("BOOL", "U8"))
    buffer = bool(mask or _BUFFERS.search(name)) or (kind in ("BOOL", "I64", "U64"))
    if kind in _WORDS and not buffer:
        return Weight(name, None, _unknown(header), None, header.stored_bytes, header, packed=True)
    return Weight(name, shape, kind, header.numbers, header.stored_bytes, header, buffer=buffer)


def _unpacked(header: Header, own: Mapping[str, Header], how: How) -> _Packed | None:
    """What a tensor is, if it is the packed numbers of a weight."""
    if header.type not in _WORDS and not header.type.startswith("F8_E"):
        return None
    base, _, leaf = header.name.rpartition(".")
    main = leaf in ("weight", *_BY_LEAF) or leaf.endswith("_blocks")
    if not main and not any(header.name + end in own for end in _ENDS):
        return None
    beside = {part: own[name] for part in _BESIDE if (name := f"{base}.{part}" if base else part) in own}
    rule = _BY_LEAF.get(leaf)
    if rule is None and leaf.endswith("_blocks"):
        rule = _mxfp4_blocks
    if found := (rule or _with_scales)(header, own, beside, how):
        return found
    if header.type in _WORDS and (rule or leaf == "weight"):
        scales = own.get(f"{header.name.removesuffix('_blocks')}_scales")
        return _Packed(header.name, None, _unknown(header), None, (*beside.values(), *([scales] if scales else [])))
    return None


def _unknown(header: Header) -> str:
    return f"{header.type}, packed in an unknown way"


def _qweight(header: Header, own: Mapping[str, Header], beside: dict[str, Header], how: How) -> _Packed | None:  # noqa: ARG001
    """GPTQ packs along the input, AWQ along the output; as many bits as the other sizes leave."""
    scales, zeros = beside.get("scales"), beside.get("qzeros")
    if scales is None or len(scales.shape) != 2 or len(header.shape) != 2 or header.type != "I32":
        return None
    (rows, columns), (groups, outputs) = header.shape, scales.shape
    if not rows * columns * groups * outputs:
        return None
    if outputs == columns:
        bits = _whole(32 * zeros.shape[-1], outputs) if zeros and len(zeros.shape) == 2 else _bits(how())
        inputs, name = _whole(32 * rows, bits), "GPTQ"
    else:
        bits, inputs, name = _whole(32 * columns, outputs), rows, "AWQ"
    if not bits or not inputs or bits > 8 or (name == "AWQ" and 32 * columns != bits * outputs):
        return None
    points = ", zero points" if zeros else ""
    form = f"int{bits} ({name}), {_in_groups(inputs, groups)}{points}"
    return _as_weight(header, "qweight", (outputs, inputs), form, beside)


def _weight_packed(header: Header, own: Mapping[str, Header], beside: dict[str, Header], how: How) -> _Packed | None:
    """Compressed-tensors: two FP4 numbers a byte, or whole numbers in 32-bit words."""
    scale = beside.get("weight_scale")
    if scale is None or len(header.shape) < 2 or not header.shape[-1]:
        return None
    if header.type in ("U8", "I8"):
        return _fp4(header, "weight_packed", scale, beside)
    del own
    groups = scale.shape[-1] if len(scale.shape) == len(header.shape) else 1
    for scheme in how().schemes:
        inputs = _whole(32 * header.shape[-1], scheme.bits)
        if inputs and groups in (1, -(-inputs // (scheme.group or inputs))):
            points = ", zero points" if "weight_zero_point" in beside else ""
            form = f"int{scheme.bits}, {_in_groups(inputs, groups)}{points}"
            return _as_weight(header, "weight_packed", (*header.shape[:-1], inputs), form, beside)
    return None


def _mxfp4_blocks(header: Header, own: Mapping[str, Header], beside: dict[str, Header], how: How) -> _Packed | None:  # noqa: ARG001
    """Blocks of 32 numbers in 16 bytes, each with an exponent."""
    name = header.name.removesuffix("_blocks")
    scales = own.get(f"{name}_scales")
    if scales is None or scales.shape != header.shape[:-1] or header.shape[-1:] != (16,) or len(header.shape) < 2:
        return None
    shape = (*header.shape[:-2], header.shape[-2] * 32)
    return _Packed(name, shape, "MXFP4", 2 * header.numbers, (scales,))


def _with_scales(header: Header, own: Mapping[str, Header], beside: dict[str, Header], how: How) -> _Packed | None:
    """A tensor beside which its scales stand: 8 bits a number, two numbers a byte, or words of several."""
    name = header.name
    leaf = name.rpartition(".")[2]
    if header.type == "U8" and f"{name}.absmax" in own:
        return _bitsandbytes(header, {n: own[n] for one in _NESTED if (n := f"{name}.{one}") in own})
    near = {**beside, **{f"{leaf}{end}": own[name + end] for end in _ENDS if name + end in own}}
    scale = next((near[one] for one in (*(leaf + end for end in _ENDS), "scale", "SCB") if one in near), None)
    if header.type == "U32" and "scales" in beside:
        return _words_of_mlx(header, beside["scales"], beside, how())
    if scale is None:
        return None
    if header.type in ("U8", "I8") and (found := _fp4(header, leaf, scale, near)):
        return found
    if header.type == "I8" or header.type.startswith("F8_E4M3") or header.type.startswith("F8_E5M2"):
        kind = "int8" if header.type == "I8" else f"FP8 {header.type[3:]}"
        form = f"{kind}, {_scaled(header.shape, scale.shape, how)}"
        return _as_weight(header, leaf, header.shape, form, near)
    return None


_NESTED = (
    *("absmax", "quant_map", "nested_absmax", "nested_quant_map"),
    *("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4"),
)
_ENDS = ("_scale_inv", "_scale", "_scale_2", "_scales")
_Rule = Callable[[Header, Mapping[str, Header], "dict[str, Header]", How], "_Packed | None"]
_BY_LEAF: dict[str, _Rule] = {"qweight": _qweight, "weight_packed": _weight_packed}


def _fp4(header: Header, leaf: str, scale: Header, beside: dict[str, Header]) -> _Packed | None:
    """Two numbers of E2M1 a byte: NVFP4 has a scale of E4M3 for 16 of them, MXFP4 an exponent for 32."""
    if len(header.shape) < 2 or scale.shape[:-1] != header.shape[:-1] or not scale.shape[-1]:
        return None
    inputs = 2 * header.shape[-1]
    group = _whole(inputs, scale.shape[-1])
    if group == 16 and scale.type == "F8_E4M3":
        form = "NVFP4"
    elif group == 32 and scale.type in ("F8_E8M0", "U8"):
        form = "MXFP4"
    else:
        return None
    return _as_weight(header, leaf, (*header.shape[:-1], inputs), form, beside)


def _bitsandbytes(header: Header, nested: dict[str, Header]) -> _Packed:
    """4 bits a number; the shape stands in the data of quant_state."""
    absmax = nested[f"{header.name}.absmax"]
    state = next((n for n in nested if ".quant_state.bitsandbytes__" in n), "")
    kind = state.rpartition("__")[2].upper() or "4-bit"
    parameters = 2 * header.numbers
    double = ", scales quantized" if absmax.type == "U8" else ""
    block = _whole(parameters, absmax.numbers)
    form = f"{kind} (bitsandbytes), {f'blocks of {block}' if block else 'blocks'}{double}"
    return _Packed(header.name, None, form, parameters, tuple(nested.values()))


def _words_of_mlx(header: Header, scales: Header, beside: dict[str, Header], said: Quantization) -> _Packed | None:
    for scheme in said.schemes:
        inputs = _whole(32 * header.shape[-1], scheme.bits) if header.shape else None
        if inputs and scheme.group and scales.shape == (*header.shape[:-1], inputs // scheme.group):
            form = f"int{scheme.bits} (MLX), groups of {scheme.group}"
            return _as_weight(header, "weight", (*header.shape[:-1], inputs), form, beside)
    return None


def _as_weight(header: Header, leaf: str, shape: Shape, form: str, beside: dict[str, Header]) -> _Packed:
    """The weight that a packed tensor is, under the name that it has where nothing is packed."""
    name = header.name.removesuffix(leaf) + "weight" if leaf in _BY_LEAF else header.name
    parameters = 1
    for size in shape:
        parameters *= size
    return _Packed(name, shape, form, parameters, tuple(beside.values()))


def _scaled(shape: Shape, scale: Shape, how: How) -> str:
    """How far one scale reaches, in words."""
    whole = 1
    for size in scale:
        whole *= size
    if whole == 1:
        return "one scale"
    rows, columns = shape[-2:] if len(shape) > 1 else (*shape, 1, 1)[:2]
    if (scale[-1] == rows and len(scale) == 1) or scale[-2:] == (rows, 1):
        return "a scale per row"
    for block in (how().block, (128, 128), (32, 32), (64, 64), (256, 256)):
        if block and scale[-2:] == (-(-rows // block[0]), -(-columns // block[1])):
            return f"scales per {block[0]} x {block[1]}"
    group = _whole(columns, scale[-1])
    return f"groups of {group}" if scale[-2:-1] == (rows,) and group else f"{whole:,} scales"


def _in_groups(inputs: int, groups: int) -> str:
    return "a scale per row" if groups == 1 else f"groups of {-(-inputs // groups)}"


def _bits(said: Quantization) -> int | None:
    first: Scheme | None = next(iter(said.schemes), None)
    return first.bits if first else None


def _whole(part: int, whole: int | None) -> int | None:
    """A quotient, where it is a whole number above 0."""
    return part // whole if whole and part % whole == 0 and part else None
