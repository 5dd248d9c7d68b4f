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
        elif isinstance(value, bool):
            writer.add_bool(name, value)
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
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size", "shared_intermediate_size"),
}
REALS = {
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon"),
    "attention.scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logit_scale", "logits_scaling"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
}


def woven(rows, heads):
    """The rows of each head as llama.cpp turns them, halves beside each other: `LlamaModel.permute` of its converter."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


WOVEN = ("llama", "smollm3", "granite", "granitemoe")
"""Architectures whose converters are LlamaModel's, which weaves rows."""


def _as_stored(config, arch, name, numbers, *, weave):
    """The tensors that the converter makes of one, by names that it asks the package about."""
    if arch == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return {name: numbers.T}
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return {name: numbers + 1}
    if name.endswith("sinks"):
        return {f"{name}.weight": numbers}
    heads = {".q_proj.": "num_attention_heads", ".k_proj.": "num_key_value_heads"}
    part = next((part for part in heads if part in name), None)
    if arch in WOVEN and weave and part:
        return {name: woven(numbers, getattr(config, heads[part]))}
    return _of_a_mixture(arch, name, numbers) or {name: numbers}


def _of_a_mixture(arch, name, numbers):
    """Gate and up projection of experts apart, of gpt-oss from alternate columns; of a shared gate its one row."""
    if "experts.gate_up_proj" in name or "input_linear" in name:
        before, _, last = name.rpartition("gate_up_proj" if "gate_up_proj" in name else "input_linear")
        kind = "bias" if last == "_bias" else "weight"
        before = before.replace("block_sparse_moe.", "mlp.").replace("shared_mlp.", "mlp.shared_expert.")
        if arch == "gpt-oss":
            numbers = numbers if kind == "bias" else numbers.swapaxes(-1, -2)
            parts = (numbers[:, ::2], numbers[:, 1::2])
        else:
            half = numbers.shape[-2] // 2
            parts = (numbers[..., :half, :], numbers[..., half:, :])
        return {f"{before}{one}_proj.{kind}": part for one, part in zip(("gate", "up"), parts, strict=True)}
    if "experts.down_proj" in name:
        before, _, last = name.rpartition("down_proj")
        turned = arch == "gpt-oss" and last != "_bias"
        before = before.replace("block_sparse_moe.", "mlp.")
        kind = "bias" if last == "_bias" else "weight"
        return {f"{before}down_proj.{kind}": numbers.swapaxes(-1, -2) if turned else numbers}
    if "shared_mlp.output_linear" in name:
        return {name.replace("shared_mlp.output_linear", "mlp.shared_expert.down_proj"): numbers}
    if "router." in name:
        return {name.replace("block_sparse_moe.router", "mlp.gate").replace("mlp.router", "mlp.gate"): numbers}
    return {name: numbers[0]} if name.endswith("shared_expert_gate.weight") else None


def converted(model, path, arch, kind="F32", *, weave=True, texts=None, leave=(), **keys):
    """The file that llama.cpp's converter makes of a model of transformers, matrices in blocks of `kind`.

    `keys` are further ones below the architecture's name, `texts` those of the tokenizer, `leave` keys that are left
    out.
    """
    import numpy as np

    gguf = pytest.importorskip("gguf", reason="the extra `gguf`")
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    said = {}
    for table in (SIZES, REALS):
        for key, names in table.items():
            value = next((found for name in names if (found := getattr(config, name, None)) is not None), None)
            if value is not None and key not in leave:
                said[key] = float(value) if table is REALS else value
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)  # of two kinds of layers, as Gemma 3's, the other has a key of its own
    if "rope_theta" in rope and "rope.freq_base" not in leave:
        said["rope.freq_base"] = float(rope["rope_theta"])
    said |= {key.replace("__", "."): value for key, value in keys.items()}
    for key, value in {**{f"{arch}.{key}": value for key, value in said.items()}, **(texts or {})}.items():
        add = {float: writer.add_float32, int: writer.add_uint32, str: writer.add_string, bytes: writer.add_array}
        add |= {bool: writer.add_bool, list: writer.add_array, np.float64: writer.add_float64}
        add[type(value)](key, value)
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for theirs, numbers in _as_stored(config, arch, name, tensor.float().numpy(), weave=weave).items():
            stored = gguf.GGMLQuantizationType[kind if numbers.ndim > 1 else "F32"]
            data = gguf.quants.quantize(numbers.copy(), stored)
            writer.add_tensor(names.get_name(theirs, (".weight", ".bias")) or theirs, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
