"""`params` of weights without a spec: parameters and bytes by format, layer and tensor, from headers alone."""

import csv
import io
import json
import random
import shutil

import pytest
from command import ask
from examples import few
from ggufs import gguf_file
from sparse import FILE, INDEX, shards, weights_file

TENSORS = {
    "model.embed_tokens.weight": ("BF16", (64, 32)),
    **{f"model.layers.{i}.self_attn.q_proj.weight": ("BF16", (32, 32)) for i in range(12)},
    **{f"model.layers.{i}.input_layernorm.weight": ("F32", (32,)) for i in range(12)},
    "model.norm.weight": ("F32", (32,)),
    "model.layers.0.rotary_emb.inv_freq": ("F32", (16,)),
}
MATRICES, NORMS = 64 * 32 + 12 * 32 * 32, 13 * 32
FORMATS = [
    {"format": "BF16", "tensors": 13, "parameters": MATRICES, "stored_bytes": 2 * MATRICES},
    {"format": "F32", "tensors": 13, "parameters": NORMS, "stored_bytes": 4 * NORMS},
]


def test_a_file_an_index_and_a_folder_say_the_same(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    weights_file(tmp_path / "whole" / FILE, TENSORS)
    shards(tmp_path / "parts", TENSORS, 3)
    paths = (tmp_path / "whole", tmp_path / "whole" / FILE, tmp_path / "parts", tmp_path / "parts" / INDEX)
    for path in paths:
        answer = ask("params", str(path), "-f", "json")
        assert (answer.code, answer.err) == (0, "")
        assert answer.json["parameters"]["stored"] == MATRICES + NORMS
        assert answer.json["stored_bytes"] == 2 * MATRICES + 4 * NORMS
        assert answer.json["formats"] == FORMATS
        assert answer.json["buffers"] == {"tensors": 1, "parameters": 16, "stored_bytes": 64}
        assert len(answer.json["files"]) == (3 if "parts" in str(path) else 1)


def test_a_folder_may_name_its_one_file_otherwise_and_its_parts_may_have_no_index(tmp_path):
    for name in ("one", "parts", "some"):
        (tmp_path / name).mkdir()
    weights_file(tmp_path / "one" / "consolidated.safetensors", TENSORS)
    shards(tmp_path / "parts", TENSORS, 3).unlink()
    for name in ("one", "parts"):
        assert ask("params", str(tmp_path / name), "-f", "json").json["parameters"]["stored"] == MATRICES + NORMS
    shards(tmp_path / "some", TENSORS, 3).unlink()
    (tmp_path / "some" / "model-00002-of-00003.safetensors").unlink()
    answer = ask("params", str(tmp_path / "some"))
    said = f"has neither {FILE} nor {INDEX}; got 'model-00001-of-00003.safetensors'"
    assert (answer.code, answer.err) == (3, f"{tmp_path}/some: {said}\n")


def test_the_bytes_of_headers_and_tensors_are_the_file(tmp_path):
    path = weights_file(tmp_path / FILE, TENSORS)
    found = ask("params", str(path), "-f", "json").json
    together = found["header_bytes"] + found["stored_bytes"] + found["buffers"]["stored_bytes"]
    assert together == path.stat().st_size


def test_layers_that_are_alike_stand_in_one_row(tmp_path):
    path = weights_file(tmp_path / FILE, TENSORS)
    answer = ask("params", str(path), "--by", "layer", "-f", "csv")
    rows = [(r["module"], r["layer_indices"], int(r["parameters"])) for r in csv.DictReader(io.StringIO(answer.out))]
    assert rows == [
        ("model.embed_tokens", "", 64 * 32),
        ("model.norm", "", 32),
        ("model.layers.{i}", "0-11", 12 * (32 * 32 + 32)),
    ]


def test_every_tensor_has_its_shape_and_format(tmp_path):
    path = weights_file(tmp_path / FILE, TENSORS)
    found = ask("params", str(path), "--by", "tensor", "-f", "json").json["tensors"]
    assert len(found) == len(TENSORS) - 1
    assert found[0] == {
        "name": "model.embed_tokens.weight", "shape": [64, 32], "format": "BF16", "parameters": 2048, "stored_bytes": 4096,
    }  # fmt: skip
    lines = ask("params", str(path), "--by", "tensor").out.splitlines()
    assert "model.embed_tokens.weight 64 x 32 2,048 4,096 BF16" in [" ".join(line.split()) for line in lines]


def test_a_folder_with_a_config_json_stays_a_spec(tmp_path):
    from test_check_weights import LLAMA

    weights_file(tmp_path / FILE, TENSORS)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert ask("params", str(tmp_path), "-f", "json").json["tally"]
    assert ask("params", str(tmp_path / FILE), "-f", "json").json["formats"] == FORMATS


def test_two_names_of_one_tensor_are_stored_once(tmp_path):
    path = weights_file(tmp_path / FILE, {"a": ("F32", (3, 4))}, {"format": "pt", "b": "a"})
    assert ask("params", str(path), "-f", "json").json["parameters"]["stored"] == 12


def test_what_is_packed_in_an_unknown_way_is_bytes(tmp_path):
    path = weights_file(tmp_path / FILE, {**TENSORS, "l.weight": ("U8", (8, 8))})
    answer = ask("params", str(path), "-f", "json")
    assert answer.json["parameters"]["stored"] == MATRICES + NORMS
    assert answer.json["packed_in_an_unknown_way"] == {"tensors": 1, "parameters": 0, "stored_bytes": 64}
    assert ", and 64 bytes packed in an unknown way\n" in ask("params", str(path)).out


def test_a_shard_alone_says_that_there_are_others(tmp_path):
    index = shards(tmp_path, TENSORS, 3)
    answer = ask("params", str(index.parent / "model-00001-of-00003.safetensors"))
    assert "this is one file of 3; their folder or index counts all of them" in answer.out


KINDS = {
    "a.weight": ((2, 512), "Q4_K"),
    "b.weight": ((2, 512), "Q8_0"),
    "c.weight": ((2, 512), "MXFP4"),
    "d.bias": ((5,), "F16"),
}
# 1,024 numbers in 4 blocks of 144 bytes, 32 of 34, 32 of 17; five of two bytes.
GGUF = {"Q4_K": (1024, 4 * 144), "Q8_0": (1024, 32 * 34), "MXFP4": (1024, 32 * 17), "F16": (5, 10)}


def test_a_gguf_file_and_a_folder_with_one(tmp_path):
    gguf_file(tmp_path / "m.gguf", KINDS, general__name="a small one")
    for path in (tmp_path, tmp_path / "m.gguf"):
        found = ask("params", str(path), "-f", "json").json["formats"]
        assert {one["format"]: (one["parameters"], one["stored_bytes"]) for one in found} == GGUF
    assert "name a small one, architecture llama" in ask("params", str(tmp_path / "m.gguf")).out
    shutil.copy(tmp_path / "m.gguf", tmp_path / "n.gguf")
    answer = ask("params", str(tmp_path))
    assert (answer.code, answer.err) == (2, f"{tmp_path}: holds 2 GGUF models; name one: m.gguf, n.gguf\n")


def test_a_split_gguf_file_is_all_its_parts(tmp_path):
    for i, name in enumerate(KINDS):
        keys = {"split__no": i, "split__count": 4, "split__tensors__count": 4}
        gguf_file(tmp_path / f"m-{i + 1:05}-of-00004.gguf", {name: KINDS[name]}, **keys)
    for path in (tmp_path, tmp_path / "m-00001-of-00004.gguf", tmp_path / "m-00003-of-00004.gguf"):
        found = ask("params", str(path), "-f", "json").json["formats"]
        assert {one["format"]: (one["parameters"], one["stored_bytes"]) for one in found} == GGUF
    (tmp_path / "m-00002-of-00004.gguf").unlink()
    answer = ask("params", str(tmp_path / "m-00001-of-00004.gguf"))
    said = "no such file, although m-00001-of-00004.gguf is one of 4 parts"
    assert (answer.code, answer.err) == (3, f"{tmp_path}/m-00002-of-00004.gguf: {said}\n")
    (tmp_path / "m-00001-of-00004.gguf").rename(tmp_path / "alone.gguf")
    answer = ask("params", str(tmp_path / "alone.gguf"))
    assert (answer.code, answer.err) == (
        2,
        f"{tmp_path}/alone.gguf: is one of 4 parts; its name must end as in -00001-of-00004.gguf\n",
    )


@pytest.mark.parametrize(
    ("part", "key", "said", "right"), [(0, "count", 3, 2), (1, "count", 1, 2), (0, "no", 1, 0), (1, "no", 0, 1)]
)
def test_each_part_is_the_one_that_its_name_says(tmp_path, part, key, said, right):
    """Whichever is named; llama.cpp takes a split file by split.no and split.count of each (llama-model-loader.cpp)."""
    paths = [tmp_path / f"m-{i + 1:05}-of-00002.gguf" for i in range(2)]
    for i, (path, name) in enumerate(zip(paths, list(KINDS)[:2], strict=True)):
        keys = {"split__no": i, "split__count": 2}
        keys |= {f"split__{key}": said} if i == part else {}
        gguf_file(path, {name: KINDS[name]}, **keys)
    for path in paths:
        answer = ask("params", str(path))
        assert answer.code == 2
        if (part, key, path) != (0, "count", paths[0]):  # whose own count stands against its name
            what = f"split.{key}: must be {right}, as its name says; got {said}"
            assert answer.err == f"{paths[part]}: {what}\n"


def test_parts_have_a_bound(tmp_path):
    path = gguf_file(tmp_path / "m-00001-of-10001.gguf", {"a": KINDS[next(iter(KINDS))]}, split__count=10_001)
    said = "split.count: has more than 10,000 parts; got 10,001"
    assert ask("params", str(path)).err == f"{path}: {said}\n"


@pytest.mark.parametrize("name", ["x.safetensors", "x.gguf", "model.safetensors.index.json"])
def test_what_is_not_there_or_damaged_is_one_line(tmp_path, name):
    path = tmp_path / name
    answer = ask("params", str(path))
    assert (answer.code, answer.out, answer.err) == (3, "", f"{path}: no such file\n")
    path.write_bytes(b"\0" * 100)
    answer = ask("params", str(path))
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(f"{path}:")


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_a_file_with_changed_bytes_is_counted_or_refused_in_lines(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "gguf":
        gguf_file(path, KINDS, general__name="n", tokenizer__ggml__tokens=["a", "bc"])
    else:
        packed = {"l.qweight": ("I32", (4, 8)), "l.scales": ("F16", (1, 8)), "l.qzeros": ("I32", (1, 1))}
        weights_file(path, {"a.weight": ("BF16", (2, 3)), **packed}, {"format": "pt"})
    whole, chance = path.read_bytes(), random.Random(0)  # noqa: S311
    header = 400 if kind == "gguf" else len(whole) - 12 - 128 - 16 - 4
    for _ in range(few(40)):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5])):
            data[chance.randrange(header)] = chance.choice(
                [0, 1, 8, 9, 34, 44, 48, 57, 125, 255, chance.randrange(256)]
            )
        path.write_bytes(data)
        answer = ask("params", str(path), "--by", chance.choice(["category", "layer", "tensor"]))
        assert answer.code in (0, 2), answer.err
        assert answer.err.count("\n") == (answer.code == 2)


def test_a_folder_without_weights_or_spec_is_told_as_before(tmp_path):
    assert "is a directory" in ask("params", str(tmp_path)).err


def test_the_first_part_has_the_keys_of_all_and_the_names_tell_parts_too(tmp_path):
    names = list(KINDS)
    for i, name in enumerate(names):
        keys = {"general__name": "a small one", "split__tensors__count": 4} if i == 0 else {}
        gguf_file(tmp_path / f"m-{i + 1:05}-of-00004.gguf", {name: KINDS[name]}, **keys)
    for path in (tmp_path, tmp_path / "m-00003-of-00004.gguf"):
        answer = ask("params", str(path))
        assert (answer.code, answer.err) == (0, "")
        assert "name a small one, architecture llama" in answer.out
        assert "in 4 files" in answer.out
    gguf_file(tmp_path / "m-00002-of-00004.gguf", {names[1]: KINDS[names[1]], "more": ((2,), "F32")})
    answer = ask("params", str(tmp_path))
    said = "m-00001-of-00004.gguf: split.tensors.count: has 5 tensors in all parts; got 4"
    assert (answer.code, answer.err) == (2, f"{tmp_path}/{said}\n")
