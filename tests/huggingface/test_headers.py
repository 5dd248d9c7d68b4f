"""Headers of safetensors files: what they announce, and one line, soon and in little memory, for what is damaged."""

import json
import os

import pytest
from examples import PROFILE
from hostile_headers import are_told_in_time

from archcalc.errors import Invalid, Missing
from archcalc.huggingface.headers import BITS, LARGEST_HEADER, MOST_VALUES, read_header
from archcalc.huggingface.shards import MOST_VALUES as MOST_IN_INDEX
from archcalc.huggingface.shards import read_index


def place(start, end, shape=None, dtype="U8"):
    """What stands under a tensor's name."""
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def written(path, header, size=0, length=None):
    """A file with this header, and so many bytes after it, which take no place on the disk."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text)
    os.truncate(path, path.stat().st_size + size)
    return path


def refusal(path, kind=Invalid):
    with pytest.raises(kind) as error:
        read_header(str(path))
    return str(error.value).replace(str(path), "FILE")


def test_names_shapes_types_and_bytes_are_those_that_the_package_wrote(tmp_path):
    numpy = pytest.importorskip("numpy")
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {
        "a": numpy.zeros((2, 3), numpy.float32),
        "b": numpy.zeros((), numpy.float16),
        "c": numpy.zeros((0, 7), numpy.int64),
        "d.weight": numpy.zeros((4, 1, 5), numpy.uint8),
    }
    safetensors.save_file(tensors, tmp_path / "x", {"format": "np"})
    found = read_header(str(tmp_path / "x"))
    letters = {"a": "F32", "b": "F16", "c": "I64", "d.weight": "U8"}
    assert {h.name: (h.shape, h.type, h.stored_bytes) for h in found.headers} == {
        name: (tensor.shape, letters[name], tensor.nbytes) for name, tensor in tensors.items()
    }
    assert found.metadata == {"format": "np"}
    assert found.header_bytes + sum(t.nbytes for t in tensors.values()) == (tmp_path / "x").stat().st_size


def test_every_type_of_the_package_is_known(tmp_path):
    """Its own message lists them: the Rust enum of the format."""
    safetensors = pytest.importorskip("safetensors")
    with pytest.raises(safetensors.SafetensorError) as error:
        safetensors.safe_open(written(tmp_path / "x", {"a": place(0, 1, dtype="X")}, 1), "np").__enter__()
    assert set(str(error.value).replace("`", " ").replace(",", " ").split()) >= set(BITS)


DAMAGED = {
    "no byte": (b"", 0, 0, "FILE: is empty"),
    "a length beyond the file": (b"{}", 0, 1000, "FILE: is not a complete safetensors file: its first 8 bytes announce a header of 1,000 bytes, and 2 follow"),
    "a length that no file has": (b"{}", 0, 2**64 - 1, "FILE: is not a complete safetensors file: its first 8 bytes announce a header of 18,446,744,073,709,551,615 bytes, and 2 follow"),
    "an overlap": ({"a": place(0, 4), "b": place(2, 6)}, 6, None, "FILE: b: begins before a ends; got 2"),
    "one place twice": ({"a": place(0, 4), "b": place(0, 4)}, 4, None, "FILE: b: begins before a ends; got 0"),
    "a gap": ({"a": place(0, 4), "b": place(5, 6)}, 6, None, "FILE: b: leaves a gap of 1 bytes after a"),
    "a gap at the beginning": ({"a": place(3, 4)}, 4, None, "FILE: a: leaves a gap of 3 bytes after the header"),
    "bytes beyond the tensors": ({"a": place(0, 4)}, 5, None, "FILE: is not a complete safetensors file: its tensors take 4 bytes, and 5 follow the header"),
    "too few bytes": ({"a": place(0, 4)}, 3, None, "FILE: is not a complete safetensors file: its tensors take 4 bytes, and 3 follow the header"),
    "a name twice": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1, None, "FILE: a: is in the header twice"),
    "a key twice": (b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1, None, "FILE: dtype: is in the header twice"),
    "no JSON": (b'{"a":', 0, None, "FILE: is not a complete safetensors file: its header is not JSON: Expecting value at character 6"),
    "a list": (b"[1]", 0, None, "FILE: is not a complete safetensors file: its header is not a JSON object, but list"),
    "brackets without end": (b"[" * 100_000, 0, None, "FILE: is not a complete safetensors file: its header is nested too deeply, or a number in it is too long"),
    "a number without end": (b'{"a":' + b"1" * 10_000 + b"}", 0, None, "FILE: is not a complete safetensors file: its header is nested too deeply, or a number in it is too long"),
    "no UTF-8": (b'{"\xff":1}', 0, None, "FILE: is not a complete safetensors file: its header is not UTF-8, at byte 10"),
    "a negative offset": ({"a": place(-4, 0)}, 4, None, "FILE: a: must have two offsets, the second not below the first; got [-4, 0]"),
    "an end before its beginning": ({"a": place(4, 0, [0])}, 4, None, "FILE: a: must have two offsets, the second not below the first; got [4, 0]"),
    "half an offset": ({"a": {**place(0, 4), "data_offsets": [0.0, 4]}}, 4, None, "FILE: a: must have two offsets, the second not below the first; got [0.0, 4]"),
    "a negative size": ({"a": place(0, 4, [-2, -2])}, 4, None, "FILE: a: must have a shape of at most 16 sizes, none below 0; got [-2, -2]"),
    "a truth for a size": ({"a": place(0, 1, [True])}, 1, None, "FILE: a: must have a shape of at most 16 sizes, none below 0; got [True]"),
    "a hundred axes": ({"a": place(0, 1, [1] * 100)}, 1, None, "FILE: a: must have a shape of at most 16 sizes, none below 0; got [1, 1, 1"),
    "a shape of another size": ({"a": place(0, 4, [3], "F32")}, 4, None, "FILE: a: needs 12 bytes for 3 of F32, and has 4"),
    "a huge shape": ({"a": place(0, 4, [2**62] * 16, "F32")}, 4, None, "FILE: a: needs "),
    "half a byte": ({"a": place(0, 2, [3], "F4")}, 2, None, "FILE: a: needs 12 bits for 3 of F4, and has 2"),
    "an unknown type": ({"a": place(0, 4, dtype="F33")}, 4, None, "FILE: a: has an unknown type; got 'F33'"),
    "a type that is no text": ({"a": {**place(0, 4), "dtype": [1]}}, 4, None, "FILE: a: has an unknown type; got [1]"),
    "a tensor that is a number": ({"a": 3}, 0, None, "FILE: a: must have data_offsets, dtype, shape and nothing else; got 3"),
    "a tensor without a shape": ({"a": {"dtype": "U8"}}, 0, None, "FILE: a: must have data_offsets, dtype, shape and nothing else; got {'dtype': 'U8'}"),
    "texts that are numbers": ({"__metadata__": {"a": 1}}, 0, None, "FILE: is not a complete safetensors file: __metadata__ must map names to texts"),
    "a name that a terminal obeys": ({"\x1b[2J": place(0, 4)}, 3, None, "FILE: is not a complete"),
}  # fmt: skip


@pytest.mark.parametrize(("header", "size", "length", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_header_is_told_in_one_line(tmp_path, header, size, length, said):
    path = written(tmp_path / "x", header, size, length)
    if header == b"":
        path.write_bytes(b"")
    line = refusal(path)
    assert line.startswith(said)
    assert "\n" not in line


def test_what_is_no_file_of_weights_is_called_what_it_is(tmp_path):
    assert refusal(tmp_path / "no", Missing) == "FILE: no such file"
    assert refusal(tmp_path) == "FILE: is a directory"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("FILE: is a pipe, not a file")
    (tmp_path / "lfs").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    said = "FILE: is a Git LFS pointer, not the weights; `git lfs pull` fetches them"
    assert refusal(tmp_path / "lfs") == said


def many(count, name="{}"):
    """The header of so many tensors of one byte."""
    one = '"%s":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    return ("{" + ",".join(one % (name.format(i), i, i + 1) for i in range(count)) + "}").encode()


def hostile(tmp_path):
    """Files that should be refused, or read, soon: path, and what is said of it or None."""
    gb = 10**9
    yield written(tmp_path / "sparse", {"a": place(0, 10 * gb)}, 10 * gb), None
    yield written(tmp_path / "other", {"a": place(0, 10 * gb)}, 10 * gb - 1), "its tensors take"
    yield written(tmp_path / "zeros", b"", 10 * gb, 0), "its header is not JSON"
    yield written(tmp_path / "nul", b"", 10 * gb, 99 * 10**6), "its header is not JSON"
    yield written(tmp_path / "long", b"", 10 * gb, LARGEST_HEADER + 1), "has a header larger than 100,000,000 bytes"
    fits = MOST_VALUES // 13
    yield written(tmp_path / "many", many(fits), fits), None
    more = fits * 2 if PROFILE == "prove" else fits * 5 // 4
    yield written(tmp_path / "more", many(more), more), "has a header of more than 1,000,000 values"
    name = b"a" * (LARGEST_HEADER - 100)
    named = b'{"' + name + b'":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
    yield written(tmp_path / "name", named, 2), "has a name longer than 4,096 characters"
    wide = '{"' + "\U0001f600" + "a" * (2**24 - 20) + '":1}'
    yield written(tmp_path / "wide", wide.encode()), "must have"
    yield written(tmp_path / "wider", wide.encode() + b" " * 100), "not ASCII alone"
    if PROFILE != "prove":
        return  # the rest are as many values, of other kinds
    texts = ",".join(f'"k{i}":"v{i}"' for i in range(MOST_VALUES // 2 - 10))
    yield written(tmp_path / "texts", f'{{"__metadata__":{{{texts}}}}}'.encode()), None
    yield written(tmp_path / "lists", b'{"a":[' + b"[]," * (MOST_VALUES // 2 - 10) + b"1]}"), "must have"
    numbers = ",".join(str(10**9 + i) for i in range(MOST_VALUES - 10))
    yield written(tmp_path / "numbers", f'{{"a":[{numbers}]}}'.encode()), "must have"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is asked of Linux")
def test_hostile_headers_are_told_within_two_seconds_and_300_megabytes(tmp_path):
    def each():
        for path, said in hostile(tmp_path):
            yield path, said
            path.unlink()

    are_told_in_time(each(), "headers", "read_header")


def test_an_index_is_bounded(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    names = ",".join(f'"a{i}":"b.safetensors"' for i in range(MOST_IN_INDEX // 2 + 1))
    index.write_text(f'{{"weight_map":{{{names}}}}}')
    with pytest.raises(Invalid, match="has more than 1,000,000 values"):
        read_index(str(index), lambda _: False)
    index.write_text('{"weight_map":{"a":"b.safetensors","a":"b.safetensors"}}')
    with pytest.raises(Invalid, match="has the key 'a' twice"):
        read_index(str(index), lambda _: False)
