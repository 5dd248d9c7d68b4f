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


SIZES = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size",),
    "block_count": ("num_hidden_layers",),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.sliding_window": ("sliding_window",),
}
REALS = {
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}


def woven(rows, heads):
    """The rows of each head as llama.cpp turns them, halves beside each other: `LlamaModel.permute` of its converter."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _as_stored(config, arch, name, numbers, *, weave):
    """A tensor as the converter stores it."""
    if arch == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return numbers.T
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return numbers + 1
    heads = {".q_proj.": "num_attention_heads", ".k_proj.": "num_key_value_heads"}
    part = next((part for part in heads if part in name), None)
    return woven(numbers, getattr(config, heads[part])) if arch == "llama" and weave and part else numbers


def converted(model, path, arch, kind="F32", *, weave=True, texts=None, leave=(), **keys):
    """The file that llama.cpp's converter makes of a model of transformers, matrices in blocks of `kind`.

    `keys` are further ones below the architecture's name, `texts` those of the tokenizer, `leave` keys that are left
    out.
    """
    gguf = pytest.importorskip("gguf", reason="the extra `gguf`")
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    said = {}
    for table in (SIZES, REALS):
        for key, names in table.items():
            value = next((found for name in names if (found := getattr(config, name, None)) is not None), None)
            if value is not None and key not in leave:
                said[key] = float(value) if table is REALS else value
    if (rope := getattr(config, "rope_parameters", None)) and "rope_theta" in rope:
        said["rope.freq_base"] = float(rope["rope_theta"])
    said |= {key.replace("__", "."): value for key, value in keys.items()}
    for key, value in {**{f"{arch}.{key}": value for key, value in said.items()}, **(texts or {})}.items():
        add = {float: writer.add_float32, int: writer.add_uint32, str: writer.add_string}
        {**add, bool: writer.add_bool, list: writer.add_array}[type(value)](key, value)
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = _as_stored(config, arch, name, tensor.float().numpy(), weave=weave)
        stored = gguf.GGMLQuantizationType[kind if numbers.ndim == 2 else "F32"]
        data = gguf.quants.quantize(numbers.copy(), stored)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
