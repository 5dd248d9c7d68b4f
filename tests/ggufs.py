"""Small GGUF files, written by the package that defines the format."""

import numpy as np
import pytest


def gguf_file(path, tensors, arch="llama", alignment=32, **keys):
    """A file with these tensors, whose numbers are zeros: name -> (shape with the output first, type)."""
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
