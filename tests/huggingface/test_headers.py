"""Headers of safetensors files: what they announce, and one line, soon and in little memory, for what is damaged."""

import json
import os

import pytest
from examples import PROFILE
from hostile_headers import are_told_in_time

from archcalc.errors import Invalid, Missing
from archcalc.huggingface import headers
from archcalc.huggingface.headers import BITS, LARGEST_HEADER, MOST_VALUES, Header, read_header, with_other_names
from archcalc.huggingface.reading import parse_config, refuse_many_values
from archcalc.huggingface.shards import MOST_VALUES as MOST_IN_INDEX
from archcalc.huggingface.shards import nothing_in, read_files, read_folder, read_index, shards_named


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


@pytest.mark.parametrize("field", ["dtype", "shape", "data_offsets"])
@pytest.mark.parametrize("value", [5, "ab", None, {}, [[]], True, 1.5])
def test_what_stands_for_a_part_of_a_place_is_one_line(tmp_path, field, value):
    line = refusal(written(tmp_path / "x", {"a": {**place(0, 1, [1]), field: value}}, 1))
    assert line.startswith("FILE: ")
    assert "\n" not in line


def test_places_are_where_the_package_wrote_the_numbers(tmp_path):
    numpy = pytest.importorskip("numpy")
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {name: numpy.arange(i, i + 5, dtype=numpy.uint8) for i, name in enumerate("abc", 7)}
    safetensors.save_file(tensors, tmp_path / "x")
    places, data = read_header(str(tmp_path / "x")).places, (tmp_path / "x").read_bytes()
    assert {name: data[at : at + 5] for name, at in places.items()} == {n: t.tobytes() for n, t in tensors.items()}


@pytest.mark.parametrize("sign", [b",", b":", b"[", b"{"])
def test_every_sign_that_a_value_needs_is_counted(sign, monkeypatch):
    """So many values as are allowed are read, and not one more, whichever of them a hostile header is made of."""
    monkeypatch.setattr(headers, "MOST_VALUES", 9)
    assert headers._text("FILE", sign * 9, 9) == sign.decode() * 9
    with pytest.raises(Invalid, match=r"^FILE: has a header of more than 9 values$"):
        headers._text("FILE", sign * 10, 10)
    refuse_many_values(sign * 9, "FILE", 9)
    with pytest.raises(Invalid, match=r"^FILE: has more than 9 values$"):
        refuse_many_values(sign * 10, "FILE", 9)


def test_bounds_of_a_header_are_allowed_themselves(tmp_path, monkeypatch):
    text = json.dumps({"é": place(0, 1)}, ensure_ascii=False).encode()
    path = written(tmp_path / "x", text, 1)
    monkeypatch.setattr(headers, "LARGEST_HEADER", len(text))
    monkeypatch.setattr(headers, "LARGEST_WIDE", len(text))
    assert [one.name for one in read_header(str(path)).headers] == ["é"]
    monkeypatch.setattr(headers, "LARGEST_WIDE", len(text) - 1)
    assert refusal(path) == f"FILE: has a header larger than {len(text) - 1} bytes that is not ASCII alone"
    read_header(str(written(path, {"a": place(0, 1)}, 1)))  # of ASCII it may be as large as any
    monkeypatch.setattr(headers, "LARGEST_HEADER", len(text) - 1)
    written(path, text, 1)
    assert refusal(path) == f"FILE: has a header larger than {len(text) - 1} bytes; got {len(text)} bytes"


def test_a_file_that_shrinks_while_it_is_read_is_not_complete():
    with pytest.raises(
        Invalid, match=r"^FILE: is not a complete safetensors file: it became shorter while it was read$"
    ):
        headers._text("FILE", b"{}", 3)


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


WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1,
          "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1}  # fmt: skip
"""Bytes of a number, by its type's own name; those of less than a byte are apart."""


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [*((dtype, [3, 5], 15 * size) for dtype, size in WIDTHS.items()), ("F6_E2M3", [4], 3), ("F6_E3M2", [4], 3), ("F4", [2], 1),
     ("U8", [0, 2**63 - 1], 0), ("U8", [1] * 16, 1), ("F32", [], 4)],
)  # fmt: skip
def test_each_type_takes_its_bytes(tmp_path, dtype, shape, size):
    found = read_header(str(written(tmp_path / "x", {"a": place(0, size, shape, dtype)}, size)))
    (header,) = found.headers
    assert (header.shape, header.type, header.stored_bytes, header.stored) == (tuple(shape), dtype, size, "a")
    assert found.header_bytes == (tmp_path / "x").stat().st_size - size
    assert refusal(written(tmp_path / "x", {"a": place(0, size + 1, shape, dtype)}, size + 1)).startswith(
        "FILE: a: needs "
    )


def test_tensors_stand_in_any_order_and_may_be_empty(tmp_path):
    header = {"b": place(4, 6), "none": place(4, 4, [0]), "a": place(0, 4)}
    found = read_header(str(written(tmp_path / "x", header, 6)))
    assert [(one.name, one.numbers) for one in found.headers] == [("b", 2), ("none", 0), ("a", 4)]
    assert read_header(str(written(tmp_path / "y", {}, 0))).headers == []


@pytest.mark.parametrize(
    ("header", "size", "length", "said"),
    [
        (b"", 0, None, "its header is not JSON: Expecting value at character 1"),
        (b"\1", 0, 3, "its first 8 bytes announce a header of 3 bytes, and 1 follow"),
        ({"a": place(0, 1, [1] * 17)}, 1, None, "a: must have a shape of at most 16 sizes, none below 0; got [1, 1,"),
        ({"a": place(0, 1, [2**63])}, 1, None, "a: must have a shape of at most 16 sizes, none below 0; got [9223372036854775808]"),
        ({"a": {**place(0, 1), "data_offsets": [0, 1, 1]}}, 1, None, "a: must have two offsets, the second not below the first; got [0, 1, 1]"),
        ({"a": {**place(0, 1), "shape": "1"}}, 1, None, "a: must have a shape of at most 16 sizes, none below 0; got '1'"),
        ({"a": {**place(0, 1), "more": 1}}, 1, None, "a: must have data_offsets, dtype, shape and nothing else; got {'dtype'"),
        ({"a" * 4097: place(0, 1)}, 1, None, "has a name longer than 4,096 characters"),
        ({"__metadata__": "x"}, 0, None, "__metadata__ must map names to texts"),
        ({"__metadata__": None}, 0, None, "__metadata__ must map names to texts"),
        ({"__metadata__": {"a": "b", "c": None}}, 0, None, "__metadata__ must map names to texts"),
        ({"a": place(0, 0, [])}, 0, None, "a: needs 1 bytes for one number of U8, and has 0"),
        ({"a": place(0, 0, [2, 3], "F16")}, 0, None, "a: needs 12 bytes for 2 x 3 of F16, and has 0"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_told(tmp_path, header, size, length, said):
    line = refusal(written(tmp_path / "x", header, size, length))
    assert said in line
    assert "\n" not in line


def test_a_name_of_4096_characters_is_read(tmp_path):
    assert len(read_header(str(written(tmp_path / "x", {"a" * 4096: place(0, 1)}, 1))).headers) == 1


@pytest.mark.parametrize("size", range(1, 8))
def test_less_than_a_length_is_no_file_of_weights(tmp_path, size):
    (tmp_path / "x").write_bytes(b"\2" + bytes(size - 1))
    said = "FILE: is not a complete safetensors file: its first 8 bytes announce a header of 2 bytes, and 0 follow"
    assert refusal(tmp_path / "x") == said


def test_a_name_that_is_another_tensor_s_is_read_under_both(tmp_path):
    header = {
        "__metadata__": {"head": "table", "table": "head", "format": "pt", "again": "head"},
        "table": place(0, 4),
    }
    found = with_other_names(read_header(str(written(tmp_path / "x", header, 4))))
    assert [(one.name, one.same_as, one.stored) for one in found] == [
        ("table", None, "table"),
        ("head", "table", "table"),
        ("again", "table", "table"),
    ]
    assert {one.stored_bytes for one in found} == {4}


INDEX = "model.safetensors.index.json"


def shards(folder, index, **files):
    """A folder of files, each with these tensors of one byte, and an index."""
    for name, tensors in files.items():
        header = {tensor: place(i, i + 1) for i, tensor in enumerate(tensors)}
        written(folder / f"{name}.safetensors", header, len(tensors))
    text = index if isinstance(index, str) else json.dumps({"weight_map": index})
    (folder / INDEX).write_text(text)
    return str(folder / INDEX)


def told(read, *arguments, kind=Invalid):
    with pytest.raises(kind) as error:
        read(*arguments)
    return str(error.value)


def test_shards_are_read_together(tmp_path):
    index = shards(tmp_path, {"x": "b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}, a="yz", b="x")
    assert shards_named(index) == ["a.safetensors", "b.safetensors"]
    for found in (read_index(index, lambda _: False), read_folder(str(tmp_path), lambda _: False)):
        assert [(one.name, os.path.basename(one.file)) for one in found.headers] == [
            ("y", "a.safetensors"), ("z", "a.safetensors"), ("x", "b.safetensors"),
        ]  # fmt: skip
        assert [os.path.basename(path) for path in found.files] == ["a.safetensors", "b.safetensors"]
        sizes = [(tmp_path / name).stat().st_size for name in ("a.safetensors", "b.safetensors")]
        assert (found.header_bytes, found.file_bytes) == (sum(sizes) - 3, sum(sizes))
    written(tmp_path / "model.safetensors", {"w": place(0, 1)}, 1)
    assert [one.name for one in read_folder(str(tmp_path), lambda _: False).headers] == ["w"]


def test_what_an_index_promises_must_be_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = shards(tmp_path, {"x": "a.safetensors", "y": "a.safetensors", "buffer": "a.safetensors"}, a="xw")
    place_ = f"{tmp_path}/a.safetensors"
    said = f"is missing, although {INDEX} places it here"
    assert told(read_index, index, lambda name: name == "buffer") == f"{place_}: y: {said}"
    assert told(read_index, index, lambda _: False) == f"{place_}: y: {said}\n{place_}: buffer: {said}"
    assert len(read_index(INDEX, lambda name: name in ("y", "buffer")).headers) == 2
    shards(tmp_path, {"x": "a.safetensors", "y": "c.safetensors", "z": "b.safetensors"})
    assert told(read_index, index, lambda _: True, kind=Missing) == "\n".join(
        f"{tmp_path}/{name}.safetensors: no such file, although {INDEX} names it" for name in "bc"
    )


def test_a_name_in_two_shards_is_told_beside_what_is_missing(tmp_path):
    index = shards(tmp_path, {"x": "a.safetensors", "y": "b.safetensors"}, a="x", b="x")
    first = f"{tmp_path}/b.safetensors: x: is also in a.safetensors"
    assert told(read_index, index, lambda _: True) == first
    assert told(read_index, index, lambda _: False).splitlines() == [
        first,
        f"{tmp_path}/b.safetensors: y: is missing, although {INDEX} places it here",
    ]
    assert told(read_files, [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]) == first


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("{}", "weight_map: must map each tensor to a file"),
        ('{"weight_map": {}}', "weight_map: must map each tensor to a file"),
        ('{"weight_map": ["a.safetensors"]}', "weight_map: must map each tensor to a file"),
        ({"x": 1}, "x: must name a .safetensors file beside it; got 1"),
        ({"x": "a.bin"}, "x: must name a .safetensors file beside it; got 'a.bin'"),
        ({"x": "../a.safetensors"}, "x: must name a .safetensors file beside it; got '../a.safetensors'"),
        ({"x": "/a.safetensors"}, "x: must name a .safetensors file beside it; got '/a.safetensors'"),
    ],
)
def test_an_index_names_files_beside_it(tmp_path, index, said):
    path = shards(tmp_path, index)
    assert told(read_index, path, lambda _: True) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("names", "kind", "said"),
    [
        ([], Missing, f"has no weights: neither model.safetensors nor {INDEX}"),
        (["notes.txt"], Missing, f"has no weights: neither model.safetensors nor {INDEX}"),
        (["x.txt", "a.safetensors"], Missing, f"has neither model.safetensors nor {INDEX}; got 'a.safetensors'"),
        (["a.gguf", "a.safetensors"], Invalid, "holds a.gguf: GGUF is not supported; weights are read from model.safetensors"),
        *(
            ([f"x{end}", "x.gguf"], Invalid, f"holds x{end} and no model.safetensors; pickles are not read, since they can run code")
            for end in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
        ),
        *(
            ([f"x{end}"], Invalid, f"holds x{end}: {form} is not supported")
            for end, form in {
                ".onnx": "ONNX", ".npz": "arrays of MLX or NumPy", ".h5": "TensorFlow's HDF5", ".msgpack": "Flax's msgpack",
                ".ckpt.index": "a TensorFlow checkpoint", ".tflite": "TensorFlow Lite", ".ot": "rust-bert's archive",
                ".nemo": "a NeMo archive",
            }.items()
        ),
    ],
)  # fmt: skip
def test_a_folder_without_weights_that_are_read_is_told_what_it_has(names, kind, said):
    found = nothing_in("folder", names)
    assert type(found) is kind
    assert str(found).startswith(f"folder: {said}")


def test_what_to_do_about_a_folder_without_weights_is_said():
    assert str(nothing_in("folder", ["x.bin"])).endswith(
        "; convert it if you trust it, with transformers: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)"
    )
    kept = nothing_in("folder", ["blobs", "refs", "snapshots"])
    assert str(kept).endswith(f"; name one: {os.path.join('folder', 'snapshots', 'COMMIT')}")
    assert type(kept) is Missing


def test_a_header_s_numbers_are_counted_without_rounding():
    assert Header("f", "a", (2**62, 3), "F32", 0).numbers == 3 * 2**62


def test_of_numbers_that_json_does_not_have_infinity_alone_is_read():
    """Python's writer makes them, and configs of transformers have Infinity as the upper bound of a range."""
    assert parse_config(b'{"a": Infinity}', "FILE") == {"a": float("inf")}
    for name in ("NaN", "-Infinity"):
        with pytest.raises(Invalid, match=f"^FILE: has {name}, which JSON does not have$"):
            parse_config(f'{{"a": {name}}}'.encode(), "FILE")
