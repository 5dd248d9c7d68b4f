"""The weights that packed tensors are: shapes, parameters and bytes by hand, from the layouts that each format has."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archcalc.errors import Invalid
from archcalc.huggingface.headers import BITS, Header
from archcalc.huggingface.packing import weights
from archcalc.huggingface.quantization import Quantization, Scheme, quantization_beside


def tensors(**announced):
    """Headers from name -> (type, sizes); __ is a dot."""
    found = []
    for name, (kind, *shape) in announced.items():
        count = 1
        for size in shape:
            count *= size
        found.append(Header("f", name.replace("__", "."), tuple(shape), kind, count * BITS[kind] // 8))
    return found


INT4 = Quantization("compressed-tensors", (Scheme(4, 128),))
MLX = Quantization("", (Scheme(4, 64),))

# What stands in the file; what is said beside it; the shape (out, in), the format and all bytes of the one weight.
PACKED = {
    # AutoAWQ's WQLinear_GEMM, 4096 to 11008: words along the output, 8 numbers each.
    "AWQ": (
        tensors(l__qweight=("I32", 4096, 1376), l__qzeros=("I32", 32, 1376), l__scales=("F16", 32, 11008)), None,
        (11008, 4096), "int4 (AWQ), groups of 128, zero points", 4 * 4096 * 1376 + 4 * 32 * 1376 + 2 * 32 * 11008,
    ),
    # AutoGPTQ's QuantLinear of the same layer: words along the input.
    "GPTQ": (
        tensors(l__qweight=("I32", 512, 11008), l__qzeros=("I32", 32, 1376), l__scales=("F16", 32, 11008), l__g_idx=("I32", 4096)), None,
        (11008, 4096), "int4 (GPTQ), groups of 128, zero points", 4 * 512 * 11008 + 4 * 32 * 1376 + 2 * 32 * 11008 + 4 * 4096,
    ),
    "GPTQ of 3 bits": (
        tensors(l__qweight=("I32", 384, 4096), l__qzeros=("I32", 32, 384), l__scales=("F16", 32, 4096)), None,
        (4096, 4096), "int3 (GPTQ), groups of 128, zero points", 4 * 384 * 4096 + 4 * 32 * 384 + 2 * 32 * 4096,
    ),
    "GPTQ of 8 bits without groups": (
        tensors(l__qweight=("I32", 1024, 4096), l__qzeros=("I32", 1, 1024), l__scales=("F16", 1, 4096)), None,
        (4096, 4096), "int8 (GPTQ), a scale per row, zero points", 4 * 1024 * 4096 + 4 * 1024 + 2 * 4096,
    ),
    "GPTQ without zero points": (
        tensors(l__qweight=("I32", 512, 4096), l__scales=("F16", 32, 4096)), INT4,
        (4096, 4096), "int4 (GPTQ), groups of 128", 4 * 512 * 4096 + 2 * 32 * 4096,
    ),
    # compressed-tensors' pack-quantized, as Kimi K2 Thinking has its experts: rows of words.
    "packed int4": (
        tensors(l__weight_packed=("I32", 2048, 896), l__weight_scale=("BF16", 2048, 56), l__weight_shape=("I64", 2)), INT4,
        (2048, 7168), "int4, groups of 128", 4 * 2048 * 896 + 2 * 2048 * 56 + 16,
    ),
    "packed int4 with zero points": (
        tensors(l__weight_packed=("I32", 2048, 896), l__weight_scale=("BF16", 2048, 56), l__weight_zero_point=("I32", 256, 56)), INT4,
        (2048, 7168), "int4, groups of 128, zero points", 4 * 2048 * 896 + 2 * 2048 * 56 + 4 * 256 * 56,
    ),
    # gpt-oss-20b: 32 experts of 2 x 2880 by 2880, blocks of 32 numbers in 16 bytes.
    "MXFP4 of gpt-oss": (
        tensors(e__gate_up_proj_blocks=("U8", 32, 5760, 90, 16), e__gate_up_proj_scales=("U8", 32, 5760, 90)), None,
        (32, 5760, 2880), "MXFP4", 32 * 5760 * 90 * 17,
    ),
    # ModelOpt: two numbers a byte, a scale of E4M3 for 16, one of fp32 for all.
    "NVFP4": (
        tensors(l__weight=("U8", 512, 1024), l__weight_scale=("F8_E4M3", 512, 128), l__weight_scale_2=("F32",), l__input_scale=("F32",)), None,
        (512, 2048), "NVFP4", 512 * 1024 + 512 * 128 + 4 + 4,
    ),
    "NVFP4 of compressed-tensors": (
        tensors(l__weight_packed=("U8", 512, 1024), l__weight_scale=("F8_E4M3", 512, 128), l__weight_global_scale=("F32", 1)), None,
        (512, 2048), "NVFP4", 512 * 1024 + 512 * 128 + 4,
    ),
    # DeepSeek-V3's kv_a_proj_with_mqa, 576 rows: the last block of 128 is cut.
    "FP8 by block": (
        tensors(l__weight=("F8_E4M3", 576, 7168), l__weight_scale_inv=("F32", 5, 56)), Quantization("fp8", (), (128, 128)),
        (576, 7168), "FP8 E4M3, scales per 128 x 128", 576 * 7168 + 4 * 5 * 56,
    ),
    "FP8 by block where nothing is said": (
        tensors(l__weight=("F8_E4M3", 576, 7168), l__weight_scale_inv=("F32", 5, 56)), None,
        (576, 7168), "FP8 E4M3, scales per 128 x 128", 576 * 7168 + 4 * 5 * 56,
    ),
    "FP8 by row": (
        tensors(l__weight=("F8_E4M3", 64, 32), l__weight_scale=("BF16", 64, 1)), None,
        (64, 32), "FP8 E4M3, a scale per row", 64 * 32 + 128,
    ),
    "FP8 with one scale": (
        tensors(l__weight=("F8_E4M3", 64, 32), l__weight_scale=("F32",), l__input_scale=("F32",)), None,
        (64, 32), "FP8 E4M3, one scale", 64 * 32 + 8,
    ),
    "FP8 experts in one tensor": (
        tensors(e__gate_up_proj=("F8_E4M3", 8, 256, 128), e__gate_up_proj_scale_inv=("F32", 8, 2, 1)), None,
        (8, 256, 128), "FP8 E4M3, scales per 128 x 128", 8 * 256 * 128 + 64,
    ),
    "FP4 with exponents in words of 8 bits": (
        tensors(l__weight=("I8", 64, 64), l__scale=("F8_E8M0", 64, 4)), None,
        (64, 128), "MXFP4", 64 * 64 + 64 * 4,
    ),
    "FP8 without scales": (tensors(l__weight=("F8_E5M2", 64, 32)), None, (64, 32), "F8_E5M2", 64 * 32),
    "LLM.int8": (
        tensors(l__weight=("I8", 64, 32), l__SCB=("F32", 64), l__weight_format=("U8",)), None,
        (64, 32), "int8, a scale per row", 64 * 32 + 256 + 1,
    ),
    # bitsandbytes: a column of bytes, a byte of absmax for 64 numbers, a table of 16 numbers, and what the state says.
    "NF4": (
        [*tensors(l__weight=("U8", 4096 * 2048, 1), l__weight__absmax=("U8", 262144), l__weight__quant_map=("F32", 16),
                  l__weight__nested_absmax=("F32", 1024), l__weight__nested_quant_map=("F32", 256)),
         Header("f", "l.weight.quant_state.bitsandbytes__nf4", (99,), "U8", 99)], None,
        None, "NF4 (bitsandbytes), blocks of 64, scales quantized", 4096 * 2048 + 262144 + 64 + 4096 + 1024 + 99,
    ),
    "MLX": (
        tensors(l__weight=("U32", 64, 32), l__scales=("F16", 64, 4), l__biases=("F16", 64, 4)), MLX,
        (64, 256), "int4 (MLX), groups of 64", 4 * 64 * 32 + 2 * 2 * 64 * 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("announced", "said", "shape", "form", "size"), PACKED.values(), ids=PACKED)
def test_a_packed_weight_has_its_real_shape_and_all_its_bytes(announced, said, shape, form, size):
    (weight,) = weights(announced, lambda: said or Quantization())
    assert weight.name.rpartition(".")[2] in ("weight", "gate_up_proj")
    assert (weight.shape, weight.format, weight.stored_bytes) == (shape, form, size)
    numbers = 4096 * 4096 if shape is None else 1
    for one in shape or ():
        numbers *= one
    assert weight.parameters == numbers
    assert sum(header.stored_bytes for header in announced) == size


UNKNOWN = {
    "words without scales": tensors(l__qweight=("I32", 8, 8), l__qzeros=("I32", 1, 8)),
    "words of so many bits that none fit": tensors(l__qweight=("I32", 8, 7), l__scales=("F16", 1, 21)),
    "packed int4 where nothing is said": tensors(l__weight_packed=("I32", 8, 8), l__weight_scale=("BF16", 8, 1)),
    "MLX where nothing is said": tensors(l__weight=("U32", 64, 32), l__scales=("F16", 64, 4)),
    "bytes": tensors(l__weight=("U8", 64, 32)),
    "blocks whose scales are of another shape": tensors(a_blocks=("U8", 2, 3, 16), a_scales=("U8", 2, 4)),
    "no rows": tensors(l__qweight=("I32", 0, 8), l__scales=("F16", 0, 8), l__qzeros=("I32", 0, 1)),
}


@pytest.mark.parametrize("announced", UNKNOWN.values(), ids=UNKNOWN)
def test_what_nothing_explains_is_bytes_and_no_number_of_parameters(announced):
    (weight,) = weights(announced)
    assert (weight.shape, weight.parameters, weight.packed) == (None, None, True)
    assert weight.format.endswith(", packed in an unknown way")
    assert weight.stored_bytes == sum(header.stored_bytes for header in announced)


def test_a_plain_tensor_has_its_shape_and_a_second_name_is_no_weight():
    plain = tensors(a=("BF16", 3, 4), b__bias=("F32", 7), c=("F32",))
    again = plain[0]._replace(name="d", same_as="a")
    found = weights([*plain, again])
    assert [(w.name, w.shape, w.format, w.parameters, w.stored_bytes) for w in found] == [
        ("a", (3, 4), "BF16", 12, 24),
        ("b.bias", (7,), "F32", 7, 28),
        ("c", (), "F32", 1, 4),
    ]


def test_buffers_are_told_from_parameters():
    """GPT-2's published file has a mask of 1,024 x 1,024 in each layer, and biases of the same module."""
    found = weights(tensors(
        h__0__attn__bias=("F32", 1, 1, 1024, 1024), h__0__attn__c_attn__bias=("F32", 2304), x__attention__bias=("BF16", 64),
        y__rotary_emb__inv_freq=("F32", 32), position_ids=("I64", 1, 512), z__e_score_correction_bias=("F32", 256),
        gpt_neox__layers__0__attention__bias=("BOOL", 1, 1, 64, 64), l__k_scale=("F32",),
    ))  # fmt: skip
    assert [w.name for w in found if not w.buffer] == ["h.0.attn.c_attn.bias", "x.attention.bias"]


def test_the_buffers_that_families_have_are_buffers():
    families = pytest.importorskip("archcalc_reference.weights.families")
    names = {buffer for family in families.FAMILIES for buffer in family.buffers}
    assert len(names) > 10
    for name in names:
        (weight,) = weights([Header("f", f"model.layers.0.{name}", (1, 1, 8, 8), "F32", 256)])
        assert weight.buffer, name


SAID = {
    "GPTQ": ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, Quantization("gptq", (Scheme(4, 128),))),
    "GPTQ without groups": ("quantize_config.json", {"bits": 8, "group_size": -1}, Quantization("", (Scheme(8, None),))),
    "AWQ": ("quant_config.json", {"w_bit": 4, "q_group_size": 64, "zero_point": True}, Quantization("", (Scheme(4, 64),))),
    "FP8": ("config.json", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, Quantization("fp8", (), (128, 128))),
    "compressed-tensors": (
        "config.json",
        {"text_config": {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}}}}},
        Quantization("compressed-tensors", (Scheme(4, 32),)),
    ),
    "MLX": ("config.json", {"quantization": {"bits": 4, "group_size": 64}}, Quantization("", (Scheme(4, 64),))),
    "ModelOpt": ("hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4", "group_size": 16}}, Quantization("nvfp4")),
    "nonsense": ("config.json", {"quantization_config": {"bits": "4", "config_groups": [1], "weight_block_size": [1]}}, Quantization()),
    "nothing": ("config.json", {"model_type": "llama"}, Quantization()),
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "said"), SAID.values(), ids=SAID)
def test_what_the_files_beside_say_is_read(tmp_path, name, data, said):
    (tmp_path / name).write_text(json.dumps(data))
    assert quantization_beside(str(tmp_path)) == said


def test_a_broken_file_beside_is_told_only_where_it_is_needed(tmp_path):
    (tmp_path / "config.json").write_text("{")

    def how():
        return quantization_beside(str(tmp_path))

    assert weights(tensors(a=("BF16", 3, 4)), how)
    with pytest.raises(Invalid, match="is not JSON"):
        weights(tensors(l__weight_packed=("I32", 8, 8), l__weight_scale=("BF16", 8, 1)), how)


LEAVES = ("weight", "qweight", "weight_packed", "w_blocks", "w_scales", "qzeros", "scales", "g_idx", "weight_scale",
          "weight_scale_inv", "weight_scale_2", "scale", "biases", "SCB", "weight.absmax", "weight.quant_map", "bias")  # fmt: skip
SHAPES = st.lists(st.sampled_from([0, 1, 2, 4, 16, 32, 128]), max_size=4).map(tuple)
SAYS = st.sampled_from([Quantization(), INT4, MLX, Quantization("fp8", (), (128, 128))])


@given(st.dictionaries(st.sampled_from(LEAVES), st.tuples(st.sampled_from(sorted(BITS)), SHAPES)), SAYS)
def test_whatever_stands_in_a_file_is_counted_once_and_breaks_nothing(announced, said):
    headers = [
        Header("f", f"l.{leaf}", shape, kind, 1 + i) for i, (leaf, (kind, shape)) in enumerate(announced.items())
    ]
    found = weights(headers, lambda: said)
    assert all(weight.parameters is None or weight.parameters >= 0 for weight in found)
    names = [weight.header.name for weight in found]
    assert len(names) == len(set(names))
    assert sum(weight.stored_bytes for weight in found) == sum(header.stored_bytes for header in headers)
