"""Small GGUF files, written by the package that defines the format, and the bytes of damaged ones."""

import struct

import pytest


def gguf_file(path, tensors, arch="llama", alignment=32, **keys):
    """A file with these tensors, whose numbers are zeros: name -> (shape with the output first, type)."""
    import numpy as np

    gguf = pytest.importorskip("gguf", reason="the extra `gguf`")
    writer = gguf.GGUFWriter(path, arch)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for key, value in keys.items():
        name = key.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_uint32(name, value)
    for name, (shape, kind) in tensors.items():
        kind = gguf.GGMLQuantizationType[kind]
        width = gguf.quant_shape_to_byte_shape(shape, kind)[-1]
        writer.add_tensor(name, np.zeros((*shape[:-1], width), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def info(name, sizes, kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def raw(*parts, version=3, tensors=None, keys=None, size=0):
    """The bytes of a file of keys and infos, and so many for the tensors."""
    count = sum(isinstance(part, tuple) for part in parts)
    head = b"GGUF" + struct.pack(
        "<IQQ", version, count if tensors is None else tensors, len(parts) - count if keys is None else keys
    )
    body = head + b"".join(part[0] if isinstance(part, tuple) else part for part in parts)
    return body + bytes(-len(body) % 32 + size)
