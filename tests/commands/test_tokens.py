"""`archcalc tokens`: a text cut into tokens, safely to be seen whatever is in it."""

import csv
import io
import os

import pytest
from command import ask, calling, loaded, spawn
from outside import byte_level

from archcalc.report.tokens import MOST_ROWS

TABLE = """\
6 tokens of 6 bytes

  position    id  bytes    text
----------  ----  -------  -------
         0    72  48       'H'
         1    10  0a       '\\n'
         2   228  e4       b'\\xe4'
         3   189  bd       b'\\xbd'
         4   160  a0       b'\\xa0'
         5    27  1b       '\\x1b'

Tokenizer  one token per byte; vocabulary of 256 tokens
"""


@pytest.fixture
def folder(tmp_path):
    """Weights with a tokenizer that has whole characters of several bytes."""
    fast = byte_level(["你🦙 the|"] * 9, 30_000, min_frequency=2)
    fast.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_without_weights_a_text_is_its_bytes():
    assert ask("tokens", "H\n你\x1b") == (0, TABLE, "")


def test_characters_are_shown_as_they_are_and_spaces_can_be_seen(folder):
    answer = ask("tokens", "你🦙 the|", "--weights", str(folder))
    assert answer.code == 0
    rows = [line.split(maxsplit=3) for line in answer.out.splitlines()[4:8]]
    assert [row[2:] for row in rows] == [
        ["e4bda0", "'你'"],
        ["f09fa699", "'🦙'"],
        ["20746865", "' the'"],
        ["7c", "'|'"],
    ]


def test_json_has_the_bytes_and_the_text_of_whole_characters(folder):
    answer = ask("tokens", "你é", "--weights", str(folder), "--format", "json").json
    assert list(answer) == ["schema", "tokens", "tokenizer"]
    assert answer["schema"] == 0
    assert answer["tokenizer"]["name"] == str(folder / "tokenizer.json")
    rows = answer["tokens"]
    assert [row["position"] for row in rows] == list(range(len(rows)))
    assert [(row["bytes"], row["text"]) for row in rows] == [("e4bda0", "你"), ("c3", None), ("a9", None)]


def test_csv_is_a_row_a_token_on_one_line_each():
    lines = ask("tokens", "a,\n", "-f", "csv").out.splitlines()
    assert list(csv.DictReader(io.StringIO("\n".join(lines))))[2] == {
        "position": "2",
        "id": "10",
        "bytes": "0a",
        "text": "'\\n'",
    }
    assert len(lines) == 4


def test_a_bar_does_not_end_a_cell_of_markdown():
    assert "| '\\|'   |" in ask("tokens", "|", "-f", "markdown").out


def test_an_empty_text_is_an_answer_without_rows():
    assert ask("tokens", "").out.startswith("0 tokens: the text is empty\n\nTokenizer")
    assert ask("tokens", "", "-f", "json").json["tokens"] == []
    assert ask("tokens", "", "-f", "csv").out == "position,id,bytes,text\n"
    assert spawn("tokens", "-").out == ask("tokens", "").out


def test_standard_input_is_taken_as_it_is():
    answer = ask("tokens", "-", "-f", "json", stdin="é\r\n".encode())
    assert [row["id"] for row in answer.json["tokens"]] == [0xC3, 0xA9, 13, 10]


def test_a_text_may_begin_with_a_dash():
    assert ask("tokens", "--", "-@x").out.startswith("3 tokens of 3 bytes\n")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "line"),
    [
        (("-",), b"ab\n\xff", 2, "<stdin>:2:1: is not UTF-8; got b'\\xff'\n"),
        (("-",), b"\xe4", 2, "<stdin>:1:1: is not UTF-8; got b'\\xe4'\n"),
        (("-",), "é".encode() * 2**20, 2, "<stdin>: is longer than 1,048,576 bytes\n"),
        ((b"a\xff",), b"", 2, "TEXT:1:2: is not UTF-8; got b'\\xff'\n"),
        (("a", "--weights", "/no\x1bpe"), b"", 3, "/no\\x1bpe: no such directory\n"),
        (("a", "--weights", __file__), b"", 2, f"{__file__}: is not a directory; give the directory that it is in\n"),
        ((), b"", 2, "archcalc tokens: missing argument 'TEXT'\n"),
    ],
)
def test_what_cannot_be_cut_is_one_line(arguments, stdin, code, line):
    assert ask("tokens", *map(os.fsdecode, arguments), stdin=stdin) == (code, "", line)


def test_a_damaged_tokenizer_is_one_line_that_names_it(folder):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text()[:200])
    answer = ask("tokens", "a", "--weights", str(folder))
    assert answer.code == 2
    assert answer.err.startswith(f"{path}:")
    assert answer.err.count("\n") == 1


def test_a_long_text_is_counted_whole_and_its_table_cut():
    text = "x" * (MOST_ROWS + 5)
    out = ask("tokens", text).out
    assert out.startswith("10,005 tokens of 10,005 bytes\n")
    assert "Left out   5 more tokens; --format csv has all of them\n" in out
    assert [line.split()[0] for line in out.splitlines() if line.endswith("'x'")][-1] == "9,999"
    assert len(ask("tokens", text, "-f", "csv").out.splitlines()) == 1 + len(text)


def test_it_takes_no_torch(folder):
    for arguments in (("tokens", "a"), ("tokens", "a", "--weights", str(folder))):
        assert set(loaded(calling(*arguments))) <= {"archcalc_reference"}


def test_the_reference_is_there_for_who_asks():
    pytest.importorskip("torch")
    assert "torch" not in loaded("import archcalc_reference")
    from archcalc_reference import Output, Transformer

    assert Transformer.__module__.startswith("archcalc_reference")
    assert Output.__module__.startswith("archcalc_reference")
    import archcalc_reference

    assert dir(archcalc_reference) == ["Output", "Transformer"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = archcalc_reference.nothing
