"""Words as vectors: sums of them, what is near, how far along a direction, and the files of text they come from."""

import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from command import ask, spawn
from hypothesis import given
from hypothesis import strategies as st
from space import WORDS, rows, write

from archcalc.errors import Invalid
from archcalc.words import wordfile
from archcalc.words.vectors import BLOCK, evaluate, neighbours, read_sum
from archcalc.words.wordfile import read_words


@pytest.fixture
def words(tmp_path):
    return write(tmp_path)


def test_king_minus_man_plus_woman_is_queen(words):
    told = ask("embed", words, "king - man + woman", "-f", "json").json
    assert told["inputs"] == ["king", "man", "woman"]
    assert (told["schema"], told["vectors"], told["dimensions"]) == (0, 6, 3)
    assert told["length"] == pytest.approx(math.sqrt(5))  # (0, 2, 0) - (0, 1, 0) + (1, 1, 0) = (1, 2, 0)
    first = told["rows"][0]
    assert (first["word"], first["rank"], first["rank_with_inputs"]) == ("queen", 1, 1)
    assert (first["cosine"], first["dot"]) == (pytest.approx(1), 5)


def test_what_was_put_in_has_a_rank_among_all_alone(words):
    found = rows(words, "king - man + woman")
    assert list(found)[:2] == ["queen", "woman"]  # cosines with (1, 2, 0): 5 / sqrt(5 5) and 3 / sqrt(5 2)
    assert found["woman"]["cosine"] == pytest.approx(3 / math.sqrt(10))
    assert [found[word]["rank"] for word in ("king", "man", "woman")] == [None] * 3
    assert [found[word]["rank"] for word in ("queen", "cat", "cats")] == [1, 2, 3]
    assert found["cat"]["rank_with_inputs"] == 5


def test_a_word_alone_has_neighbours_and_is_none_of_them(words):
    found = rows(words, "cat", "--top", "2")
    assert (found["cat"]["rank"], found["cat"]["rank_with_inputs"]) == (None, 1)
    assert [(word, row["rank"]) for word, row in found.items() if word != "cat"] == [("cats", 1), ("king", 2)]


def test_a_word_far_off_can_be_shown_too(words):
    assert list(rows(words, "cat", "--top", "1")) == ["cat", "cats"]
    assert rows(words, "cat", "--top", "1", "--rank", "woman")["woman"]["rank"] == 5


def test_the_table_says_the_same(words):
    assert ask("embed", words, "king - man + woman", "--top", "2").out.partition("\n\n")[2] == (
        "  rank    with inputs  word      cosine    dot product\n"
        "------  -------------  ------  --------  -------------\n"
        "     1              1  queen      1.000          5.000\n"
        "                    2  woman     0.9487          3.000\n"
        "                    3  king      0.8944          4.000\n"
        "                    4  man       0.8944          2.000\n"
        "     2              5  cat        0.000          0.000\n"
        "\n"
        "Inputs     king, man, woman: excluded from the rank, included in the rank with inputs\n"
        "Length     2.236 (of the resulting vector)\n"
        "Vectors    as stored, not made unit length first (as --unit does)\n"
    )


def test_how_plural_a_word_is(tmp_path):
    numerals = write(tmp_path, WORDS + "one 1 0 1\ntwo 0 1 2\nthree 1 1 3\nfour 0 0 4\n")
    found = rows(numerals, "--along", "cats - cat", "three", "one", "four", "two")  # along (0, 0, 1)
    assert [(word, row["dot"]) for word, row in found.items()] == [("three", 3), ("one", 1), ("four", 4), ("two", 2)]
    assert found["one"]["cosine"] == pytest.approx(1 / math.sqrt(2))
    assert found["four"]["cosine"] == 1
    shown = ask("embed", numerals, "--along", "cats - cat", "three", "one", "four", "two").out
    assert "Order      one < two < three < four\n" in shown


def test_along_a_direction_words_may_be_sums(words):
    found = rows(words, "--along", "woman - man", "queen - king", "2 woman + cat", "cat - cat")
    assert [row["dot"] for row in found.values()] == [1, 2, 0]
    assert found["cat - cat"]["cosine"] is None


def test_a_sum_may_begin_with_a_minus(words):
    assert rows(words, "- man + king") == rows(words, "king - man")


def test_csv_has_the_rows(words):
    head, first = ask("embed", words, "cat", "--top", "1", "-f", "csv").out.splitlines()[:2]
    assert (head, first) == ("word,rank,rank_with_inputs,cosine,dot", "cat,,1,1.0,1.0")


# Sums


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("king", [(1, "king")]),
        ("king - man + woman", [(1, "king"), (-1, "man"), (1, "woman")]),
        ("  - king+queen ", [(-1, "king+queen")]),
        ("+ a - well-known", [(1, "a"), (-1, "well-known")]),
        ("2 king - 0.5 'New York'", [(2, "king"), (-0.5, "New York")]),
        ("2 - 1", [(1, "2"), (-1, "1")]),
        ("2 2 - '2'", [(2, "2"), (-1, "2")]),
        ('"+" - "-"', [(1, "+"), (-1, "-")]),
        ("'s - don't", [(1, "'s"), (-1, "don't")]),
        ("' king'", [(1, " king")]),
        ("a - a", [(1, "a"), (-1, "a")]),
    ],
)
def test_a_sum_is_read(text, terms):
    assert [(term.factor, term.word) for term in read_sum(text, "EXPRESSION")] == terms


@given(
    st.lists(st.tuples(st.sampled_from([1, -1]), st.text("ab-+' ", min_size=1, max_size=5)), min_size=1, max_size=6)
)
def test_any_words_in_quotes_make_a_sum(terms):
    text = " ".join(f'{"+" if sign > 0 else "-"} "{word}"' for sign, word in terms)
    assert [(term.factor, term.word) for term in read_sum(text, "EXPRESSION")] == terms


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "EXPRESSION: is empty; got ''"),
        ("king queen", "EXPRESSION: has no sign before 'queen'; got 'king queen'; write + or - between words"),
        ("king -", "EXPRESSION: ends where a word should be; got 'king -'"),
        ("king - - man", "EXPRESSION: has '-' where a word should be; got 'king - - man'"),
        ("9999999999 king", "EXPRESSION: has no sign before 'king'; got '9999999999 king'"),
        ("king + ''", "EXPRESSION: has '' where a word should be; got \"king + ''\""),
        ("kingg", "EXPRESSION: is not a word of {words}; got 'kingg'; nearest: king"),
        ("KING", "EXPRESSION: is not a word of {words}; got 'KING'; nearest: king"),
        ("%", "EXPRESSION: is not a word of {words}; got '%'"),
        ("king - king", "EXPRESSION: is the zero vector, which has no direction; got 'king - king'"),
    ],
)
def test_what_is_no_sum_is_one_line(words, text, line):
    done = ask("embed", words, text)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line.format(words=words))
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["king", "man"], "archcalc embed: takes one EXPRESSION; got 'man'; put quotes around a sum, or use --along"),
        ([], "archcalc embed: missing argument 'EXPRESSION'"),
        (["king", "--top", "0"], "--top: must be from 1 to 1,000; got 0"),
        (["king", "--axes", "king"], "--axes: needs a --plot"),
        (["king", "--rank", "kong"], "--rank: is not a word of {words}; got 'kong'; nearest: king"),
        (
            ["king", "--rank", "man", "--along", "cat"],
            "--rank: cannot be combined with --along, which lists no neighbours",
        ),
        (["king", "--along", "cat - cat"], "--along: is the zero vector, which has no direction; got 'cat - cat'"),
        (["king", "--plot", "page.png"], "--plot: must end in .html; got 'page.png'"),
        (["king", "--plot", "a.html", *["--axes", "cat"] * 4], "--axes: can be given at most 3 times; got 4"),
    ],
)
def test_what_cannot_be_asked_is_one_line(words, arguments, line):
    done = ask("embed", words, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line.format(words=words))
    assert done.err.count("\n") == 1


# Files of text


@pytest.mark.parametrize(
    "text",
    [
        WORDS,
        "6 3\n" + WORDS,
        WORDS.replace("\n", " \r\n"),
        "\ufeff" + WORDS.strip(),
        WORDS.replace(" ", "\t") + "\n\n",
    ],
)
def test_forms_of_the_same_file_read_alike(tmp_path, text):
    vectors = read_words(write(tmp_path, text))
    assert [vectors.label(row) for row in range(6)] == ["king", "queen", "man", "woman", "cat", "cats"]
    assert np.concatenate(list(vectors.blocks())).tolist()[-2:] == [[0, 0, 1], [0, 0, 2]]
    assert vectors.warnings == ()


def test_standard_input_is_read_too():
    done = spawn("embed", "-", "king - man + woman", "-f", "json", stdin=WORDS.encode())
    assert json.loads(done.out)["rows"][0]["word"] == "queen"


def test_the_last_numbers_of_a_line_are_the_vector_and_the_rest_is_the_word(tmp_path):
    path = write(tmp_path, b"5 1 0\nNew York 0 1\n. . . 1 1\nat me@x.org 2 2\n" + b"caf\xe9 3 3\n\xc2\xa0 4 4\n")
    vectors = read_words(path)
    assert [vectors.label(row) for row in range(6)] == ["5", "New York", ". . .", "at me@x.org", "caf\\xe9", "\xa0"]
    assert rows(path, "'New York'", "--top", "1")["New York"]["dot"] == 1


def test_under_a_header_a_word_may_have_blanks_and_end_in_a_number(tmp_path):
    text = "7 2\nroute 66 1 0\nNew York 0 1\n10 000 1 1\n. . . 2 0\nat me@x.org 0 2\n1 3 3\na_b c_d 0 3\n"
    path = write(tmp_path, text)
    vectors = read_words(path)
    words = ["route 66", "New York", "10 000", ". . .", "at me@x.org", "1", "a_b c_d"]
    assert [vectors.label(row) for row in range(7)] == words
    assert evaluate(vectors, "'route 66' + 'New York'", "").vector.tolist() == [1, 1]
    assert vectors.warnings == ("2 words end in a number, as 'route 66' does: its vector is the last 2 numbers",)


def test_of_a_word_that_stands_twice_the_first_counts(tmp_path):
    path = write(tmp_path, "4 1\na 1\nb 2\na 3\n")
    vectors = read_words(path)
    assert (len(vectors), evaluate(vectors, "a", "").vector.tolist()) == (2, [1])
    assert vectors.warnings == (
        "the header promises 4 words; 3 are there",
        "1 line repeat an earlier word: the first vector of each is used",
    )
    assert "Warning    the header promises 4 words" in ask("embed", path, "a").out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "{}: is empty"),
        ("3 2\n", "{}: has no vectors"),
        ("\n \n", "{}: has no vectors"),
        ("0 3\na 1 2 3\n", "{}:1:1: a header of no words or no dimensions"),
        ("once upon a time\n", "{}:1:1: must be a word and numbers; got 'once upon a time'"),
        ("a 1 2\nb 1\n", "{}:2:1: must be a word and 2 numbers; got 'b 1'"),
        ("a 1 2\n1 2\n", "{}:2:1: must be a word and 2 numbers; got '1 2'"),
        ("a 1 2\nb 1 2 3\n", "{}:2:1: more than 2 numbers; got 'b 1 2 3'"),
        ("2 3\na 1 2\n", "{}:2:1: must be a word and 3 numbers; got 'a 1 2'"),
        ("a 1 2\nb 1 x\n", "{}:2:5: must be a finite number of float32, as 2 numbers after each word are; got 'x'"),
        ("a 1 2\nb nan 1\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got 'nan'"),
        ("a 1 2\na inf 1\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got 'inf'"),
        ("a 1_0 2\n", "{}:1:3: must be a finite number of float32, as 2 numbers after each word are; got '1_0'"),
        ("a 1 2\nb 3 1_0\n", "{}:2:5: must be a finite number of float32, as 2 numbers after each word are; got '1_0'"),
        ("2 2\na 1 2\na 1_0 2\n", "{}:3:3: must be a finite number of float32, as 2 numbers after each word are; got '1_0'"),
        ("a 1 2\nb 0x1 2\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got '0x1'"),
        ("a 0x1 2\n", "{}:1:3: must be a finite number of float32, as 2 numbers after each word are; got '0x1'"),
        ("a \u0661 2\n", "{}:1:3: must be a finite number of float32, as 2 numbers after each word are; got '\u0661'"),
        ("a 1 2\nb 1 \uff11\n", "{}:2:5: must be a finite number of float32, as 2 numbers after each word are; got '\uff11'"),
        ("a 1 2\nb 1e999 1\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got '1e999'"),
        ("a 1 2\nb -Infinity 1\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got '-Infinity'"),
        ("a 1 2\nb 1,5 1\n", "{}:2:3: must be a finite number of float32, as 2 numbers after each word are; got '1,5'"),
        ("2 2\na 1 2 3\nb 1 2 3\n", "{}:2:1: more than 2 numbers, which the header promises, on every line; got 'a 1'"),
        ("a 1 2\n\nhé 1 1e39\n", "{}:3:6: must be a finite number of float32, as 2 numbers after each word are; got '1e39'"),
        ("2 2\na \0\0\0\0\n", "{}: is cut: its header says 2 words of 2 numbers; got 11 bytes"),
        ("a \0\0\0\0\n", "{}: is a binary file; vectors must be in a format of word2vec or GloVe, or .npy"),
        ("a " + "1 " * 2**20, "{}:1:1: a line longer than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_with_its_place(tmp_path, text, line):
    path = write(tmp_path, text)
    done = ask("embed", path, "a")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line.format(path))
    assert done.err.count("\n") == 1


def test_a_file_that_is_not_there_is_missing(tmp_path):
    done = ask("embed", str(tmp_path / "none.txt"), "a")
    assert (done.code, done.err.split(": ", 1)[1]) == (
        3, "no such file; give a file of vectors, or a directory of weights\n",
    )  # fmt: skip
    assert ask("embed", str(tmp_path), "a").err == (
        f"{tmp_path}: has no weights: neither model.safetensors nor model.safetensors.index.json\n"
    )


def test_a_file_too_large_is_told_at_its_line(tmp_path, monkeypatch):
    path = write(tmp_path, "".join(f"w{n} 1 2 3 4\n" for n in range(100)))
    monkeypatch.setattr(wordfile, "LARGEST_MATRIX", 50 * 4 * 4)
    with pytest.raises(Invalid) as caught:
        read_words(path)
    what = "more than 800 B of vectors in float32; the lines before it can be read: `head -n 50`"
    assert str(caught.value) == f"{path}:51:1: {what}"
    monkeypatch.setattr(wordfile, "MOST_WORDS", 7)
    with pytest.raises(Invalid, match=":8:1: more than 7 words; "):
        read_words(path)


def test_a_large_file_is_held_once_in_float32(tmp_path):
    count, dimensions, block = 5_000, 128, BLOCK // 4  # as seams of a file four times as large
    line = " ".join(f"0.{n:06d}" for n in range(dimensions))
    path = write(tmp_path, "".join(f"word{n} {line}\n" for n in range(count)))
    probe = (
        "import sys, tracemalloc\nfrom archcalc.cli import _main\n"
        "import numpy, archcalc.commands.embed, archcalc.report.vectors, archcalc.report.plot, archcalc.words.vectors\n"
        f"archcalc.words.vectors.BLOCK = {block}\ntracemalloc.start()\n"
        "code = _main(sys.argv[1:])\nprint(code, tracemalloc.get_traced_memory()[1], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "embed", path, "word7"], capture_output=True, text=True, check=True
    )
    code, peak = map(int, done.stderr.split())
    matrix = 4 * count * dimensions
    assert code == 0
    assert matrix < peak < matrix + 3 * block + 300 * count  # a block in float32 and in float64; the words
    assert peak < count * dimensions * sys.getsizeof(0.5) // 2  # Python's floats alone


def test_blocks_are_seams_that_nobody_sees(tmp_path, monkeypatch):
    path = write(tmp_path, WORDS)
    whole = neighbours(vectors := read_words(path), evaluate(vectors, "king - man + woman", ""), 6)
    monkeypatch.setattr("archcalc.words.vectors.BLOCK", 4 * 3 * 4)  # rows in fours
    pieces = read_words(path)
    assert [len(block) for block in pieces.blocks()] == [4, 2]
    assert neighbours(pieces, evaluate(pieces, "king - man + woman", ""), 6) == whole


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=12), st.data())
def test_neighbours_are_what_a_plain_sort_finds(tmp_path_factory, table, data):
    path = write(tmp_path_factory.mktemp("table"), "".join(f"w{n} {a} {b} {c}\n" for n, (a, b, c) in enumerate(table)))
    row = data.draw(st.sampled_from([n for n, numbers in enumerate(table) if any(numbers)] or [None]))
    if row is None:
        return
    vectors = read_words(path)
    found = neighbours(vectors, evaluate(vectors, f"w{row}", ""), len(table))

    def cosine(numbers):
        lengths = math.hypot(*numbers) * math.hypot(*table[row])
        return sum(x * y for x, y in zip(numbers, table[row], strict=True)) / lengths if lengths else None

    assert {n.row for n in found} == set(range(len(table)))
    assert [n.rank_with_inputs for n in found] == list(range(1, len(table) + 1))
    assert [n.rank for n in found if n.row != row] == list(range(1, len(table)))
    for neighbour in found:
        assert neighbour.cosine == (
            None if (c := cosine(table[neighbour.row])) is None else pytest.approx(c, abs=1e-12)
        )
    order = [-2 if n.cosine is None else n.cosine for n in found]
    assert order == sorted(order, reverse=True)
    assert neighbours(vectors, evaluate(vectors, f"w{row}", ""), 1)[-1].rank_with_inputs <= 2


def test_a_pipe_may_be_long_but_not_silent(monkeypatch):
    """`embed -` waited for ever."""
    monkeypatch.setattr(wordfile, "MOST_SILENCE", 0.2)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as end:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(end))
        os.write(writing, b"a 1 2\n")
        with pytest.raises(Invalid, match=r"was silent for 0\.2 seconds before its end$"):
            read_words("-")
        os.write(writing, b"a 1 2\nb 3 4\n")
        os.close(writing)
        assert len(read_words("-")) == 2
