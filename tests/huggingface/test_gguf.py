"""Headers of GGUF files: as the package `gguf` writes and reads them, and one line for what is damaged."""

import os
import struct
import sys

import pytest
from examples import PROFILE
from hostile_headers import are_told_in_time

pytest.importorskip("gguf", reason="the extra `gguf`")

from ggufs import gguf_file, info, key, raw, text

from archcalc.errors import Invalid, Missing
from archcalc.huggingface import gguf
from archcalc.huggingface.gguf import LONGEST_NAME, MOST_KEYS, MOST_TENSORS, MOST_TEXTS, read_gguf, read_growing

# Bytes of a block and its numbers, by hand: scales and minima are fp16 but for the 6-bit ones of Q4_K (12 bytes), the
# 8-bit ones of Q6_K (16 bytes), E8M0 of MXFP4 (1 byte) and E4M3 of NVFP4 (4 bytes).
BLOCKS = {
    "F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 2 + 16), "Q8_0": (32, 2 + 32),
    "Q4_K": (256, 2 + 2 + 12 + 128), "Q6_K": (256, 128 + 64 + 16 + 2), "MXFP4": (32, 1 + 16), "NVFP4": (64, 4 + 32),
}  # fmt: skip


def refusal(path, kind=Invalid):
    with pytest.raises(kind) as error:
        read_gguf(str(path))
    return str(error.value).replace(str(path), "FILE")


def test_formats_shapes_and_bytes_are_those_of_the_blocks(tmp_path):
    path = gguf_file(tmp_path / "x", {kind: ((3, 512), kind) for kind in BLOCKS} | {"one": ((256,), "F32")})
    found = {header.name: header for header in read_gguf(str(path)).headers}
    assert found.pop("one").shape == (256,)
    for kind, header in found.items():
        numbers, size = BLOCKS[kind]
        assert (header.type, header.shape, header.stored_bytes) == (kind, (3, 512), 3 * 512 // numbers * size)
    assert set(found) == set(BLOCKS)


def test_it_reads_what_the_package_s_reader_does(tmp_path):
    import gguf

    texts = [f"token {i}" * (i % 7) for i in range(30_000)]
    tensors = {f"blk.{i}.ffn_up.weight": ((8, 32 * i), "Q8_0") for i in range(1, 9)} | {"a": ((2, 3, 5), "F16")}
    path = gguf_file(
        tmp_path / "x", tensors, general__name="small", llama__block_count=8, tokenizer__ggml__tokens=texts,
        tokenizer__ggml__scores=[0.5] * 30_000, tokenizer__chat_template="x" * 2_000_000, alignment=64,
    )  # fmt: skip
    found, theirs = read_gguf(str(path)), gguf.GGUFReader(path)
    assert found.header_bytes <= theirs.data_offset < found.header_bytes + 64
    assert [(h.name, h.type, list(h.shape[::-1]), h.stored_bytes) for h in found.headers] == [
        (t.name, t.tensor_type.name, t.shape.tolist(), t.n_bytes) for t in theirs.tensors
    ]
    assert {key: found.metadata[key] for key in ("general.name", "llama.block_count", "tokenizer.ggml.tokens")} == {
        "general.name": "small",
        "llama.block_count": 8,
        "tokenizer.ggml.tokens": 30_000,
    }
    assert found.metadata["tokenizer.chat_template"] is None


U64 = struct.Struct("<Q").pack
DAMAGED = {
    "no byte": (b"", "FILE: is empty"),
    "another file": (b"PK\3\4", "FILE: is not a GGUF file: it does not begin with the letters GGUF; got b'PK\\x03\\x04'"),
    "four bytes": (b"GGUF", "FILE: is not a complete GGUF file: its header goes on beyond its 4 bytes"),
    "version 1": (raw(version=1), "FILE: is of a version that is not supported; got version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "FILE: is big-endian, which is not supported"),
    "tensors without end": (raw(tensors=2**63), f"FILE: has more than {MOST_TENSORS:,} tensors; got 9,223,372,036,854,775,808"),
    "keys without end": (raw(keys=2**63), f"FILE: has more than {MOST_KEYS:,} keys; got"),
    "fewer tensors than it says": (raw(tensors=5), "FILE: is not a complete GGUF file: its header goes on beyond its 32 bytes"),
    "a name without end": (raw((U64(2**63),)), "FILE: has a tensor's name longer than 65,535 bytes; got 9,223"),
    "a name that is no UTF-8": (raw((info(b"\xff", [1]),), size=4), "FILE: has a tensor's name that is not UTF-8"),
    "a text without end": (raw(key("a", 8, U64(2**63))), "FILE: is not a complete GGUF file: its header goes on beyond"),
    "an array without end": (raw(key("a", 9, struct.pack("<IQ", 4, 2**63))), "FILE: is not a complete GGUF file: its header goes on beyond"),
    "texts without end": (raw(key("a", 9, struct.pack("<IQ", 8, 2**62))), f"FILE: a: has more than {MOST_TEXTS:,} texts in arrays"),
    "a text of an array without end": (raw(key("a", 9, struct.pack("<IQQ", 8, 1, 2**63))), "FILE: is not a complete GGUF file: its header goes on beyond"),
    "an array of arrays": (raw(key("a", 9, struct.pack("<IQ", 9, 1))), "FILE: a: is an array of an unknown type; got 9"),
    "a value of no type": (raw(key("a", 77, b"")), "FILE: a: has a value of an unknown type; got 77"),
    "a key twice": (raw(key("a", 4, b"1234"), key("a", 4, b"1234")), "FILE: a: is in the header twice"),
    "an alignment of 0": (raw(key("general.alignment", 4, bytes(4))), "FILE: general.alignment: must be a power of two, at most 1,048,576; got 0"),
    "an alignment that is text": (raw(key("general.alignment", 8, text("x"))), "FILE: general.alignment: must be a power of two, at most 1,048,576; got 'x'"),
    "a name twice": (raw((info("a", [1]),), (info("a", [1], offset=32),), size=64), "FILE: a: is in the header twice"),
    "an unknown type": (raw((info("a", [1], 999),), size=32), "FILE: a: has an unknown type; got 999"),
    "five axes": (raw((info("a", [1] * 5),), size=32), "FILE: a: has more than 4 axes; got 5"),
    "axes without end": (raw((text("a") + struct.pack("<I", 2**32 - 1),), size=32), "FILE: a: has more than 4 axes; got 4,294,967,295"),
    "half a block": (raw((info("a", [100], 12),), size=32), "FILE: a: has rows of 100 numbers, and a block of Q4_K has 256"),
    "an overlap": (raw((info("a", [16]),), (info("b", [16], offset=32),), size=128), "FILE: b: begins before a ends; got 32"),
    "a gap": (raw((info("a", [8]),), (info("b", [8], offset=64),), size=128), "FILE: b: must begin at 32, the next multiple of 32 after a; got 64"),
    "a gap at the beginning": (raw((info("a", [8], offset=32),), size=64), "FILE: a: must begin at 0, the next multiple of 32 after the header; got 32"),
    "an offset that is not aligned": (raw((info("a", [1]),), (info("b", [1], offset=4),), size=64), "FILE: b: must begin at 32, the next multiple of 32 after a; got 4"),
    "too few bytes": (raw((info("a", [16]),), size=32), "FILE: is not a complete GGUF file: its tensors take 64 bytes, and 32 are there"),
    "sizes beyond all files": (raw((info("a", [2**63 - 1] * 4),), size=32), "FILE: is not a complete GGUF file: its tensors take"),
    "bytes beyond the tensors": (raw((info("a", [8]),), size=64), "FILE: has 32 bytes beyond its last tensor"),
    "no tensors and many bytes": (raw(size=64), "FILE: has 64 bytes beyond its last tensor"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_header_is_told_in_one_line(tmp_path, data, said):
    (tmp_path / "x").write_bytes(data)
    line = refusal(tmp_path / "x")
    assert line.startswith(said)
    assert "\n" not in line


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path):
    path = gguf_file(tmp_path / "x", {"a": ((3, 64), "Q8_0"), "b": ((4,), "F32")}, general__name="n")
    whole = path.read_bytes()
    read_gguf(str(path))
    for size in range(len(whole) - 16):  # the last tensor may lack its padding
        path.write_bytes(whole[:size])
        assert "\n" not in refusal(path)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = gguf_file(tmp_path / "x", {"b": ((4,), "F32")})
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert refusal(path, Missing).startswith("FILE: needs the package gguf; ")
    assert "[gguf]'" in refusal(path, Missing)


def read(tmp_path, *parts, **more):
    (tmp_path / "x").write_bytes(raw(*parts, **more))
    return read_gguf(str(tmp_path / "x"))


@pytest.mark.parametrize(
    ("kind", "letter", "value"),
    [
        *((0, "B", 200), (1, "b", -3), (2, "H", 60_000), (3, "h", -300), (4, "I", 2**32 - 1), (5, "i", -(2**31))),
        *((6, "f", 0.5), (7, "?", True), (10, "Q", 2**64 - 1), (11, "q", -(2**63)), (12, "d", 1e300)),
    ],
)
def test_numbers_of_each_type_are_kept_and_of_arrays_how_many(tmp_path, kind, letter, value):
    packed = struct.pack(f"<{letter}", value)
    array = struct.pack("<IQ", kind, 3) + packed * 3
    found = read(tmp_path, key("one", kind, packed), key("three", 9, array), key("last", 4, b"\7\0\0\0")).metadata
    assert found == {"one": value, "three": 3, "last": 7}
    assert type(found["one"]) is type(value)


def test_short_texts_are_kept(tmp_path):
    keys = [
        key("a", 8, text("x" * 1000)),
        key("b", 8, text("x" * 1001)),
        key("c", 8, text(b"\xff!")),
        key("d", 8, text("")),
    ]
    texts = struct.pack("<IQ", 8, 2) + text("one") + text("")
    found = read(tmp_path, *keys, key("e", 9, texts)).metadata
    assert found == {"a": "x" * 1000, "b": None, "c": "\ufffd!", "d": "", "e": 2}


@pytest.mark.parametrize(
    ("alignment", "good"), [(32, True), (64, True), (2**20, True), (2**21, False), (3, False), (96, False)]
)
def test_the_alignment_is_a_power_of_two(tmp_path, alignment, good):
    data = raw(key("general.alignment", 4, struct.pack("<I", alignment)))
    (tmp_path / "x").write_bytes(data)
    if good:
        assert read_gguf(str(tmp_path / "x")).metadata == {"general.alignment": alignment}
    else:
        said = f"FILE: general.alignment: must be a power of two, at most 1,048,576; got {alignment}"
        assert refusal(tmp_path / "x") == said


def test_an_alignment_that_is_true_is_no_number(tmp_path):
    (tmp_path / "x").write_bytes(raw(key("general.alignment", 7, b"\1")))
    assert refusal(tmp_path / "x").endswith("must be a power of two, at most 1,048,576; got True")


def test_tensors_stand_in_any_order_without_sizes_or_numbers_too(tmp_path):
    infos = (
        (info("b", [8], offset=32),),
        (info("none", [0, 5], offset=32),),
        (info("one", [], offset=0),),
        (info("c", [2], offset=64),),
    )
    for version in (2, 3):
        found = read(tmp_path, *infos, version=version, size=72)
        assert [(one.name, one.shape, one.stored_bytes) for one in found.headers] == [
            ("b", (8,), 32),
            ("none", (5, 0), 0),
            ("one", (), 4),
            ("c", (2,), 8),
        ]


def test_a_name_may_have_its_most_bytes_and_no_more(tmp_path):
    assert len(read(tmp_path, (info("a" * LONGEST_NAME, [8]),), size=32).headers[0].name) == LONGEST_NAME
    (tmp_path / "x").write_bytes(raw((info("a" * (LONGEST_NAME + 1), [8]),), size=32))
    assert refusal(tmp_path / "x") == "FILE: has a tensor's name longer than 65,535 bytes; got 65,536 bytes"
    (tmp_path / "x").write_bytes(raw(key("a" * (LONGEST_NAME + 1), 4, b"1234")))
    assert refusal(tmp_path / "x") == "FILE: has a key longer than 65,535 bytes; got 65,536 bytes"
    (tmp_path / "x").write_bytes(raw(key(b"\xff", 4, b"1234")))
    assert refusal(tmp_path / "x") == "FILE: has a key that is not UTF-8"


def test_of_a_file_that_grows_no_more_is_asked_than_its_header_has_for_certain(tmp_path):
    whole = raw(*((info(f"blk.{i}", [8], offset=32 * i),) for i in range(2_000)), size=64_000)
    end = len(whole) - 64_000
    (tmp_path / "x").write_bytes(b"")
    asked = []
    with open(tmp_path / "x", "r+b") as file:

        def grow(least):
            asked.append(least)
            file.seek(0)
            file.write(whole[: least + 100])
            file.flush()
            return min(least + 100, len(whole))

        found = read_growing("x", file, len(whole), grow)
    assert found == read(
        tmp_path, *((info(f"blk.{i}", [8], offset=32 * i),) for i in range(2_000)), size=64_000
    )._replace(headers=[one._replace(file="x") for one in read_gguf(str(tmp_path / "x")).headers])
    assert asked[0] <= 24
    assert asked == sorted(asked)
    assert max(asked) <= end
    assert len(asked) < 100, "the infos that are to come are foreseen"


def hostile():
    """Files of many gigabytes or many parts, and what is said of them; None of those that are good."""
    gb = 10**10
    names = b"".join(text("") for _ in range(MOST_TEXTS))
    yield raw(key("a", 9, struct.pack("<IQ", 8, MOST_TEXTS) + names)), 0, None
    yield raw(key("a", 9, struct.pack("<IQ", 8, 3) + U64(10**9) * 3)), gb, "has a header larger than 100,000,000 bytes"
    yield raw(key("a", 9, struct.pack("<IQ", 0, 10**9))), gb, "has a header larger than 100,000,000 bytes"
    yield raw((info("a", [gb // 4 // 32 * 32]),)), gb // 128 * 128, None
    yield raw((info("a", [gb // 4 // 32 * 32]),)), gb - 10**6, "is not a complete GGUF file"
    yield raw(), gb, "beyond its last tensor"
    infos = [(info(f"a{i}", [8], offset=32 * i),) for i in range(MOST_TENSORS)]
    yield raw(*infos), 32 * MOST_TENSORS, None
    if PROFILE == "prove":
        yield raw(*(key(f"k{i}", 4, b"1234") for i in range(MOST_KEYS))), 0, None


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is asked of Linux")
def test_hostile_headers_are_told_within_two_seconds_and_300_megabytes(tmp_path):
    path = tmp_path / "x"

    def each():
        for data, size, said in hostile():
            path.write_bytes(data)
            os.truncate(path, len(data) + size)
            yield path, said

    are_told_in_time(each(), "gguf", "read_gguf", "import gguf")


def test_texts_that_are_kept_whole_are_those_that_were_written(tmp_path):
    texts = [f"é{i}" * (i % 40) for i in range(60_000)]  # several of the pieces that a header is read in
    path = gguf_file(tmp_path / "x", {"a": ((3,), "F32")}, tokenizer__ggml__tokens=texts)
    assert path.stat().st_size > 3 * 2**20
    assert read_gguf(str(path), ("tokenizer.ggml.tokens",)).metadata["tokenizer.ggml.tokens"] == texts


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xff", "FILE: has a text that is not UTF-8"),
        (b"x" * (LONGEST_NAME + 1), "FILE: has a text longer than 65,535"),
    ],
)
def test_a_text_that_is_kept_whole_may_be_wrong(tmp_path, bad, said):
    array = struct.pack("<IQ", 8, 2) + text("good") + text(bad)
    path = tmp_path / "x"
    path.write_bytes(raw(key("words", 9, array)))
    assert read_gguf(str(path)).metadata["words"] == 2
    with pytest.raises(Invalid) as error:
        read_gguf(str(path), ("words",))
    assert str(error.value).replace(str(path), "FILE").startswith(said)


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [
        (4, MOST_TEXTS + 1, f"FILE: words: has more than {MOST_TEXTS:,} values"),
        (9, 1, "FILE: words: is an array of an unknown type; got 9"),
    ],
)
def test_an_array_that_is_kept_whole_has_a_bound_and_a_type(tmp_path, kind, count, said):
    path = tmp_path / "x"
    path.write_bytes(raw(key("words", 9, struct.pack("<IQ", kind, count))))
    with pytest.raises(Invalid) as error:
        read_gguf(str(path), ("words",))
    assert str(error.value).replace(str(path), "FILE") == said


def test_as_many_tensors_and_keys_are_read_as_are_allowed(tmp_path, monkeypatch):
    path = gguf_file(tmp_path / "x", {"a": ((3,), "F32")})
    keys = len(read_gguf(str(path)).metadata)
    for name, most, noun in (("MOST_TENSORS", 1, "tensors"), ("MOST_KEYS", keys, "keys")):
        monkeypatch.setattr(gguf, name, most)
        os.utime(path, ns=(most, most))
        assert len(read_gguf(str(path), ("none",)).headers) == 1
        monkeypatch.setattr(gguf, name, most - 1)
        with pytest.raises(Invalid) as error:
            read_gguf(str(path), ("none",))
        assert str(error.value) == f"{path}: has more than {most - 1} {noun}; got {most}"
        monkeypatch.undo()


def test_places_are_where_the_package_finds_the_numbers(tmp_path):
    package = pytest.importorskip("gguf", reason="the extra `gguf`")
    path = gguf_file(tmp_path / "x", {"a": ((3, 64), "Q8_0"), "b": ((4,), "F32")}, general__name="n")
    places = {tensor.name: tensor.data_offset for tensor in package.GGUFReader(path).tensors}
    assert read_gguf(str(path)).places == places


def test_a_header_is_read_once_until_its_file_changes(tmp_path):
    path, ago = gguf_file(tmp_path / "x", {"a": ((3,), "F32")}, general__name="one"), 10**18
    os.utime(path, ns=(ago, ago))
    first = read_gguf(str(path))
    assert read_gguf(str(path)) is first
    gguf_file(path, {"b": ((3,), "F32")}, general__name="two")
    os.utime(path, ns=(ago, ago + 1))
    assert read_gguf(str(path)).metadata["general.name"] == "two"
