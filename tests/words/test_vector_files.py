"""Vectors in .npy files with their words beside them, in word2vec's binary format, and in files of weights."""

import resource
import struct
import sys

import numpy as np
import pytest
from command import ask, calling, loaded
from hypothesis import example, given
from hypothesis import strategies as st
from space import WORDS, rows, write

from archcalc.words.word2vec import is_binary
from archcalc.words.wordlist import lines_list, word_list

TABLE = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in WORDS.splitlines()}
ASKED = ("king - man + woman", "--rank", "cat")


@pytest.fixture
def text(tmp_path):
    """What the same words answer from a file of text."""
    (tmp_path / "text").mkdir()
    return rows(write(tmp_path / "text"), *ASKED)


LINES = "".join(f"{word}\n" for word in TABLE)


def npy(folder, table=None, words=LINES, name="words.txt"):
    path = folder / "table.npy"
    np.save(path, np.array(list(TABLE.values()), np.float32) if table is None else table)
    if words is not None:
        (folder / name).write_bytes(words if isinstance(words, bytes) else words.encode())
    return str(path)


def binary(table, between=b"\n"):
    """word2vec's binary format by its description."""
    width = len(next(iter(table.values())))
    records = (word.encode() + b" " + struct.pack(f"<{width}f", *vector) + between for word, vector in table.items())
    return b"%d %d\n" % (len(table), width) + b"".join(records)


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_answers_as_text_does(tmp_path, text, kind, order):
    table = np.array(list(TABLE.values()), kind, order=order)
    assert rows(npy(tmp_path, table), *ASKED) == text


@pytest.mark.parametrize("words", ["\r\n".join(TABLE), "\ufeff" + "\n".join(TABLE)])
def test_words_may_end_in_crlf_lack_the_last_end_and_have_a_mark(tmp_path, text, words):
    assert rows(npy(tmp_path, words=words), *ASKED) == text


def test_the_words_are_the_only_file_beside_with_as_many_or_the_one_named(tmp_path, text):
    path = npy(tmp_path)
    (tmp_path / "README.txt").write_text("What is in this folder, and more of it than the table has rows.\n" * 9)
    (tmp_path / "damaged.txt").write_bytes(b"\xff" * 99)
    (tmp_path / "vectors.txt").write_text(WORDS)
    assert rows(path, *ASKED) == text
    (tmp_path / "copy.vocab").write_text("\n".join(TABLE))
    done = ask("embed", path, "king")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{path}: 2 files beside it have 6 words; got 'copy.vocab', 'words.txt'; ")
    assert rows(path, *ASKED, "--words", str(tmp_path / "words.txt")) == text


def test_words_in_parquet(tmp_path, text):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet")
    import pyarrow

    path, words = npy(tmp_path, words=None), list(TABLE)
    beside = tmp_path / "index.parquet"
    for columns in (
        {"index": words},
        {"count": list(range(6)), "token": words, "sort": ["noun"] * 6},
        {"word": pyarrow.array(words).dictionary_encode()},
    ):
        parquet.write_table(pyarrow.table(columns), beside)
        assert rows(path, *ASKED) == text
    for columns, line in (
        ({"a": words, "b": words}, "must have one column of texts, or one named word; got 'a', 'b'"),
        ({"a": [1] * 6}, "must have one column of texts, or one named word; got none"),
        ({"a": [*words[:-1], None]}, "a: row 5 has no word"),
    ):
        parquet.write_table(pyarrow.table(columns), beside)
        done = ask("embed", path, "king")
        assert (done.code, done.err) == (2, f"{beside}: {line}\n")
    beside.write_bytes(beside.read_bytes()[:-9])
    done = ask("embed", path, "king", "--words", str(beside))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith(f"{beside}: is not a complete parquet file: ")


def test_parquet_without_its_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = npy(tmp_path, words=b"PAR1" + bytes(99), name="words.parquet")
    done = ask("embed", path, "king")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith(f"{tmp_path}/words.parquet: needs the package pyarrow; ")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (np.array([{"king": 1}]), "holds pickled objects, which are not read"),
        (np.ones((6, 3), int), "must be a table of float16, float32 or float64, words x numbers; got int64 of [6, 3]"),
        (
            np.ones(18, np.float32),
            "must be a table of float16, float32 or float64, words x numbers; got float32 of [18]",
        ),
        (np.ones((6, 0), np.float32), "must be a table of float16, float32 or float64, words x numbers"),
        (np.full((6, 3), np.nan, np.float32), "row 0 has a number that is not finite in float32"),
        (np.full((6, 3), 1e300), "row 0 has a number that is not finite in float32"),
    ],
)
def test_another_table_is_one_line(tmp_path, table, line):
    path = npy(tmp_path, table)
    done = ask("embed", path, "king")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"{path}: {line}")


def test_a_number_that_is_not_finite_is_told_in_any_row(tmp_path):
    table = np.array(list(TABLE.values()), np.float32)
    table[4, 1] = np.inf
    path = npy(tmp_path, table)
    assert ask("embed", path, "king").err == f"{path}: row 4 has a number that is not finite in float32\n"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: data[:-1], "is cut: 200 bytes are announced; got 199"),  # 128 of the header and 6 x 3 x 4
        (lambda data: data + b"\0", "is longer than its header says: 200 bytes are announced; got 201"),
        (lambda data: data[:50], "is not a complete .npy file: "),
        (lambda data: data.replace(b"(6, 3)", b"(9**9,"), "is not a complete .npy file: "),
        (lambda data: data[:6] + b"\x09" + data[7:], "has a version of .npy that is not supported; got 9.0"),
        (lambda data: data.replace(b"(6, 3), }  ", b"(-6, -3), }"), "must be a table of "),
        (lambda data: data.replace(b"(6, 3), }   ", b"(True, 3), }"), "must be a table of "),
        (lambda data: data.replace(b"(6, 3), }  ", b"(6L, 3L), }"), "is not a complete .npy file: "),
        (lambda data: data.replace(b"(6, 3), }", b"(99999999, 3),}"), "has more than 10,000,000 rows"),
    ],
)
def test_a_damaged_npy_is_one_line(tmp_path, change, line):
    path = npy(tmp_path)
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(change(data))
    done = ask("embed", path, "king")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"{path}: {line}")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("king\nqueen\n", "must have 6 words and nothing else, one for each row of {npy}; got 2"),
        ("\n".join([*TABLE, "more"]), "must have 6 words and nothing else, one for each row of {npy}; got 7"),
        (b"king\nqu\xff\na\na\na\na\n", "2:1: is not UTF-8; got 0xff"),
        (b"king\0" * 9, "is a binary file; words stand one a line, or in a parquet file"),
        (WORDS, "must have 6 words and nothing else, one for each row of {npy}"),
    ],
)
def test_other_words_are_one_line(tmp_path, words, line):
    path = npy(tmp_path, words=words)
    done = ask("embed", path, "king", "--words", str(tmp_path / "words.txt"))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.replace("words.txt: ", "words.txt:") == f"{tmp_path}/words.txt:{line.format(npy=path)}\n"


def test_no_words_are_told_with_a_way_out(tmp_path):
    path = npy(tmp_path, words=None)
    line = "has no words: no file beside it has 6 (.txt, .words, .vocab, .parquet); name the file of words with --words: one word a line, or a parquet file"
    assert ask("embed", path, "king") == (3, "", f"{path}: {line}\n")


# word2vec's binary format


@pytest.mark.parametrize("between", [b"\n", b""])
def test_a_binary_file_answers_as_text_does(tmp_path, text, between):
    path = tmp_path / "words.bin"
    path.write_bytes(binary(TABLE, between))
    assert rows(str(path), *ASKED) == text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: data[:-2], "is cut in row 5 of 6"),
        (lambda data: data[:20], "is cut: its header says 6 words of 3 numbers; got 20 bytes"),
        (lambda data: data + b"more", "has 4 bytes more than its header says"),
        (lambda data: data.replace(b"queen ", b"queen_"), "row 1 has no blank after a word of at most 4,096 bytes"),
        (lambda data: data.replace(struct.pack("<f", 2), struct.pack("<f", np.nan), 1), "row 0 has a number that is not finite"),
        (lambda data: data.replace(b"6 3", b"99999999 3"), "must have 1 to 10,000,000 words"),
    ],
)  # fmt: skip
def test_a_damaged_binary_file_is_one_line(tmp_path, change, line):
    path = tmp_path / "words.bin"
    path.write_bytes(change(binary(TABLE)))
    done = ask("embed", str(path), "king")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    if "no blank" not in line:  # the bytes after it may hold a blank
        assert done.err.startswith(f"{path}: {line}")


def test_words_that_stand_twice_or_are_no_text_are_told(tmp_path):
    data = binary({"king": [1, 2], "kinG": [3, 4], "man~": [5, 6]}).replace(b"kinG", b"king").replace(b"~", b"\xff")
    (tmp_path / "w.bin").write_bytes(data)
    told = ask("embed", str(tmp_path / "w.bin"), "king", "-f", "json").json
    assert [row["word"] for row in told["rows"]] == ["king", "man\\xff"]
    assert told["warnings"] == [
        "1 word not in UTF-8: what is not is escaped",
        "1 row repeat an earlier word: the first vector of each is used",
    ]


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=5))
def test_binary_is_told_from_text_by_what_is_in_it(vectors):
    table = {f"w{n}": vector for n, vector in enumerate(vectors)}
    head = f"{len(table)} 3\n"
    lines = head + "".join(f"{word} {' '.join(map(repr, vector))}\n" for word, vector in table.items())
    assert not is_binary(lines.encode())
    data = binary(table)
    numbers = data.partition(b"\n")[2].partition(b" ")[2][:12]
    if any(byte < 9 or 14 <= byte < 32 for byte in numbers):  # three floats are hardly ever all letters
        assert is_binary(data)


@pytest.mark.parametrize(
    ("start", "line"),
    [
        (b"PK\x03\x04", "is an archive (zip), as .npz is; save one array in it as .npy"),
        (b"\x1f\x8b", "is compressed (gzip); unpack it first"),
        (struct.pack("<i", 793712314), "is a model of fastText, which is not read; give its .vec file"),
        (b"\x80\x04", "is a pickle, which is not read; save its vectors in word2vec's format, or as .npy"),
        (b"PAR1", "is a parquet file, of which words alone are read; give an .npy of vectors, and it with --words"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, start, line):
    path = tmp_path / "vectors"
    path.write_bytes(start + bytes(99))
    assert ask("embed", str(path), "king") == (2, "", f"{path}: {line}\n")


# Words of rows


@given(st.lists(st.text(st.sampled_from("ab \n\té"), max_size=4), max_size=8), st.text("ab \n\té", max_size=4))
@example(["a\nb", "c"], "b\nc")
@example(["a\nb", "b"], "b")
def test_a_word_is_found_where_a_list_has_it_first(words, word):
    found = word_list(words)
    assert [found.word(row) for row in range(found.size)] == words
    assert found.find(word) == (words.index(word) if word in words else None)


@given(st.lists(st.text("ab é", max_size=4), min_size=1, max_size=8))
def test_lines_are_words(words):
    found = lines_list("".join(f"{word}\n" for word in words).encode())
    assert [found.word(row) for row in range(found.size)] == words


# Unit length


def test_unit_length_is_made_of_each_word_before_the_sum(tmp_path):
    path = write(tmp_path, "a 3 4\nb 0 2\nc 5 0\n")
    told = ask("embed", path, "a + b", "--unit", "--rank", "c", "-f", "json").json  # (.6, .8) + (0, 1) = (.6, 1.8)
    assert told["unit"] is True
    assert told["length"] == pytest.approx(np.hypot(0.6, 1.8))
    found = {row["word"]: row for row in told["rows"]}
    assert found["c"]["dot"] == pytest.approx(0.6)
    assert found["c"]["cosine"] == pytest.approx(0.6 / np.hypot(0.6, 1.8))
    along = rows(path, "--along", "a", "b", "a - b", "--unit")
    assert along["b"]["dot"] == pytest.approx(0.8)
    assert along["a - b"]["dot"] == pytest.approx(1 - 0.8)
    assert "Vectors    made unit length first, as in gensim\n" in ask("embed", path, "a", "--unit").out


def test_flags_for_other_sources_are_refused(tmp_path):
    path = write(tmp_path)
    line = f"--words: names the words of an .npy file; SOURCE has its own; got {path}\n"
    assert ask("embed", path, "king", "--words", path) == (2, "", line)
    line = f"--average: is for the tokens of a model; SOURCE has words; got {path}\n"
    assert ask("embed", path, "king", "--average") == (2, "", line)


def test_npy_and_binary_files_load_numpy_alone(tmp_path):
    (tmp_path / "words.bin").write_bytes(binary(TABLE))
    for path in (npy(tmp_path), str(tmp_path / "words.bin")):
        assert loaded(calling("embed", path, "king")) == ["numpy"]


def test_a_word_of_many_rows_is_not_written_out_for_each(tmp_path, monkeypatch):
    """300 rows of one word of a million letters: the file is small, and what it says is not."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("archcalc.words.listfile.LARGEST_WORDS", 2 * 10**8)
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array(["x" * 10**6]))
    path = npy(tmp_path, np.ones((300, 1), np.float32))
    beside = str(tmp_path / "rows.parquet")
    parquet.write_table(pa.table({"word": words}), beside, store_schema=False, dictionary_pagesize_limit=5 * 10**7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = ask("embed", path, "a", "--words", beside)
    assert done.err == f"{beside}: has more than 200,000,000 bytes of words\n"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
