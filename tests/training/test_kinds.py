"""What a file to learn from is: by its header, by a suffix that means one thing, or as was said; never a guess."""

import gzip
import io
import os
import struct
import zipfile

import pytest
from command import ask

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

from archcalc import Invalid, Missing  # noqa: E402
from archcalc_reference.training.data import read_stream  # noqa: E402
from archcalc_reference.training.kinds import MAGICS, of_tokens  # noqa: E402

IDS = np.arange(300) % 97
FEW = ["--steps", "1", "--batch", "2", "--seq", "16", "-f", "json"]


def npy(array, **settings):
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


def headed(magic, version, count, dtype):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, count
    return header.tobytes() + IDS.astype(dtype).tobytes()


TOKENS = {
    "raw of 16 bits": ("a.u16", IDS.astype("<u2").tobytes(), None),
    "raw of 32 bits": ("a.u32", IDS.astype("<u4").tobytes(), None),
    "raw of 16 bits, in capitals": ("A.U16", IDS.astype("<u2").tobytes(), None),
    "nanoGPT's": ("train.bin", IDS.astype("<u2").tobytes(), "uint16"),
    "raw under any name": ("tokens", IDS.astype("<u4").tobytes(), "uint32"),
    "another suffix than is said": ("a.u16", IDS.astype("<u4").tobytes(), "uint32"),
    "llm.c's for GPT-2": ("train.bin", headed(20240520, 1, 300, "<u2"), None),
    "llm.c's for Llama 3": ("train.bin", headed(20240801, 7, 300, "<u4"), None),
    "llm.c's, under another name": ("train.dat", headed(20240520, 1, 300, "<u2"), None),
    "llm.c's, said": ("train.bin", headed(20240520, 1, 300, "<u2"), "uint16"),
    **{
        f"numpy's of {dtype}": ("a.npy", npy(IDS.astype(dtype)), None)
        for dtype in ("u1", "<u2", ">u2", "<u4", "<i4", "<i8", ">i8", "<u8")
    },
    "numpy's under another name": ("train.bin", npy(IDS.astype("<u2")), None),
    "numpy's, said": ("a.npy", npy(IDS.astype("<u2")), "uint16"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_read_as_tokens(tmp_path, name):
    file, content, said = TOKENS[name]
    (tmp_path / file).write_bytes(content)
    stream, kind = read_stream([str(tmp_path / file)], 100, None, said)
    assert kind == "tokens"
    assert stream.take(0, len(stream)).tolist() == IDS.tolist()
    assert isinstance(stream.arrays[0], np.memmap), "it is not read whole"


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("a.txt", "text")
    return file.getvalue()


def tar():
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


SAY = "set its format with --data-as: text, bytes, uint16 or uint32"
REFUSED = {
    "nanoGPT's, not said": ("train.bin", IDS.astype("<u2").tobytes(), f"is a .bin file without a header, whose format is unknown; {SAY}"),
    "a text called .bin": ("train.bin", b"The cat sat.\n" * 99, f"is a .bin file without a header, whose format is unknown; {SAY}"),
    "tokens under any name": ("tokens.dat", IDS.astype("<u2").tobytes(), f"is not text: it has NUL bytes; {SAY}"),
    "tokens without NUL": ("tokens", (IDS + 40_000).astype("<u2").tobytes(), f"is not UTF-8; got byte 0x9c; {SAY}"),
    "half a character at the end": ("a.txt", b"caf\xc3", f"is not UTF-8; got byte 0xc3; {SAY}"),
    "Latin-1": ("a.txt", b"caf\xe9 " * 99, f"is not UTF-8; got byte 0xe9; {SAY}"),
    "NUL far behind": ("a.txt", b"x" * 3_000_000 + b"\0", f"is not text: it has NUL bytes; {SAY}"),
    "UTF-16": ("a.txt", "The cat".encode("utf-16"), "is text in UTF-16 or UTF-32, not UTF-8, not text or tokens"),
    "UTF-16 without a mark": ("a.txt", "The cat".encode("utf-16-le"), "is not text: it has NUL bytes"),
    "gzip": ("a.txt", gzip.compress(b"The cat"), f"is a gzip archive, not text or tokens; {SAY}"),
    "zip": ("a.txt", archive(), "is a zip archive"),
    "tar": ("a.txt", tar(), "is a tar archive"),
    "llm.c's of another version": ("a.bin", headed(20240520, 2, 300, "<u2"), "version 2 of llm.c's header is not supported yet"),
    "llm.c's, cut": ("a.bin", headed(20240520, 1, 300, "<u2")[:-2], "its size does not match the 300 tokens of its header; got 1,622 bytes"),
    "llm.c's of a negative count": ("a.bin", headed(20240520, 1, -300, "<u2"), "its size does not match the -300 tokens of its header"),
    "llm.c's without tokens": ("a.bin", headed(20240520, 1, 0, "<u2")[:1024], "its size does not match the 0 tokens of its header"),
    "numpy's of floats": ("a.npy", npy(IDS.astype("f4")), "must be a one-dimensional array of integers; got float32 of [300]"),
    "numpy's of rows": ("a.npy", npy(IDS.reshape(3, 100)), "must be a one-dimensional array of integers; got int64 of [3, 100]"),
    "numpy's of one number": ("a.npy", npy(np.int64(3)), "must be a one-dimensional array of integers; got int64 of []"),
    "numpy's of booleans": ("a.npy", npy(IDS > 3), "must be a one-dimensional array of integers"),
    "numpy's of objects": ("a.npy", npy(np.array([{}], object), allow_pickle=True), "is not a complete numpy file: "),
    "numpy's, cut": ("a.npy", npy(IDS)[:-8], "is not a complete numpy file: "),
    "numpy's, cut in its header": ("a.npy", npy(IDS)[:20], "is not a complete numpy file: "),
    "numpy's, and more": ("a.npy", npy(IDS) + npy(IDS), "has more data after its array"),
    "numpy's without numbers": ("a.npy", npy(IDS[:0]), "is "),
    "numpy's of a huge shape": ("a.npy", npy(IDS).replace(b"(300,)", b"(9**9)"), "is not a complete numpy file: "),
    "numpy's in name": ("a.npy", b"The cat", "is not a numpy file: its first bytes differ"),
    "numpy's below 0": ("a.npy", npy(-IDS), "token 96: is negative; got -96"),
    "numpy's above the vocabulary": ("a.npy", npy(IDS + 2**40), "is outside the vocabulary of 256; got 10995116"),
    "odd bytes": ("a.u32", b"12345", "is not a whole number of 4-byte tokens; got 5 bytes"),
    "empty": ("a.txt", b"", "is empty"),
    "empty .bin": ("a.bin", b"", "is empty"),
    **{f"what begins as {kind}": ("a.txt", magic + b"x" * 999, f"is {kind}") for magic, kind in MAGICS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_neither_text_nor_tokens_is_refused_by_its_name(tmp_path, name):
    file, content, line = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(Invalid) as caught:
        read_stream([str(tmp_path / file)], 256)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / file}: ")
    assert line in message
    assert "\n" not in message


def test_what_is_said_is_taken(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes("caf\u00e9 ".encode("latin-1") * 99)
    stream, kind = read_stream([str(path)], 256, None, "bytes")
    assert (kind, bytes(stream.take(0, 5).tolist())) == ("bytes", b"caf\xe9 ")
    path.write_bytes(b"The cat " * 99)
    assert read_stream([str(path)], 256, None, "text")[1] == "bytes"
    path.write_bytes(b"\0")
    with pytest.raises(Invalid, match="is not text: it has NUL bytes"):
        read_stream([str(path)], 256, None, "text")
    path.write_bytes(npy(IDS.astype("<u4")))
    with pytest.raises(Invalid, match=r"its header says uint32; omit --data-as$"):
        read_stream([str(path)], 256, None, "uint16")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and devices of Unix")
def test_what_has_no_end_is_refused_and_nothing_waits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("pipe.u16")
    lines = {
        "/dev/zero": "/dev/zero: is a device, not a file; save its content to a file first\n",
        "pipe": "pipe: is a pipe, not a file; save its content to a file first\n",
        "pipe.u16": "pipe.u16: is a pipe, not a file; save its content to a file first\n",
        "/dev/null": "/dev/null: is a device, not a file; save its content to a file first\n",
        "/proc/self/maps": "/proc/self/maps: is empty\n",  # says its size
        "/dev": "/dev: is a directory\n",
    }
    for name, line in lines.items():
        if os.path.exists(name):
            assert ask("train", "tiny", "--data", name, *FEW) == (2, "", line)
    for said in ("text", "bytes", "uint16"):
        assert ask("train", "tiny", "--data", "/dev/zero", "--data-as", said, *FEW) == (2, "", lines["/dev/zero"])


def test_a_file_that_is_not_there_is_missing():
    with pytest.raises(Missing, match=r"^nowhere\.npy: no such file$"):
        of_tokens("nowhere.npy")


def test_training_says_what_a_file_holds_and_goes_on_without_being_told_again(tmp_path):
    path, out = tmp_path / "train.bin", str(tmp_path / "out")
    path.write_bytes(struct.pack("<300H", *IDS.tolist()))
    first = ask("train", "tiny", "--data", str(path), *FEW)
    assert (first.code, first.err) == (2, f"{path}: is a .bin file without a header, whose format is unknown; {SAY}\n")
    asked = ("--data", str(path), "--data-as", "uint16", "--out", out)
    assert ask("train", "tiny", *asked, *FEW).json["conventions"]["loss"] == "nats per token"
    more = ask("train", "--from", out, "--steps", "2", "-f", "json")
    assert more.code == 0, more.err
    other = ask("train", "--from", out, "--data-as", "bytes", "--steps", "3")
    assert other.err.startswith("--data: differs from the data of the checkpoint; ")
    alone = ask("train", "tiny", "--data-as", "uint16", *FEW)
    assert alone == (2, "", "--data-as: needs a --data; got 'uint16'\n")
