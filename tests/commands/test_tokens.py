"""`archcalc tokens`: a text cut into tokens, safely to be seen whatever is in it."""

import contextlib
import csv
import io
import os

import pytest
from command import ask, calling, loaded, spawn
from hypothesis import given
from hypothesis import strategies as st
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


IN_LINE = """\
6 tokens of 6 bytes

  from  text
------  ------------
     0  |H|\\n|
     2  |你⁽³⁾|\\x1b|

Marks      x⁽³⁾ is a character cut into 3 tokens
Tokenizer  one token per byte; vocabulary of 256 tokens
"""


def test_without_weights_a_text_is_its_bytes():
    assert ask("tokens", "H\n你\x1b", "--ids") == (0, TABLE, "")
    assert ask("tokens", "H\n你\x1b") == (0, IN_LINE, "")


def cuts(out):
    """What stands between the first bar and the last in each line."""
    return [line.split("|", 1)[1].rsplit("|", 1)[0] for line in out.partition("Marks")[0].splitlines() if "|" in line]


def test_a_line_ends_where_the_text_has_a_new_one_or_where_80_columns_end(folder):
    text = "你🦙 the| the cat\n猫" + "ab" * 60
    out = ask("tokens", text, "--weights", str(folder)).out
    assert cuts(out)[0] == "你|🦙| the|\\|| the| |c|a|t|\\n"
    assert cuts(out)[1].startswith("猫⁽³⁾|a|b|")
    assert all(len(line) + sum(c in "你🦙猫" for c in line) <= 80 for line in out.splitlines()[:-3])
    assert "".join(cuts(out)[1:]).replace("|", "") == "猫⁽³⁾" + "ab" * 60
    starts = [int(line.split()[0]) for line in out.splitlines()[4 : 4 + len(cuts(out))]]
    assert starts[:2] == [0, 10]
    ids = ask("tokens", text, "--weights", str(folder), "-f", "json").json["tokens"]
    assert ids[starts[2]]["text"] == cuts(out)[2][0]


@given(data=st.binary(max_size=12))
def test_a_character_stays_whole_and_no_byte_is_left_out(data):
    from archcalc.report.tokens import Token, _whole

    tokens = [Token(byte, bytes([byte])) for byte in data]
    shown = list(_whole(tokens))
    assert sum(count for _, count in shown) == len(data)
    text = data.decode(errors="ignore")
    with contextlib.suppress(UnicodeDecodeError):
        assert [count for _, count in shown] == [len(c.encode()) for c in data.decode()]
    assert all(c in "".join(piece for piece, _ in shown) for c in text if c.isprintable())


def test_tokenizers_are_compared_on_a_text(folder):
    text = "the 你🦙 the|"
    places = ["--tokenizer", str(folder), "--tokenizer", "bytes"]
    out = ask("tokens", text, *places).out
    assert out.startswith("A text of 16 bytes by 2 tokenizers\n")
    rows = [line.split() for line in out.splitlines()[4:6]]
    ours = ask("tokens", text, "--tokenizer", str(folder / "tokenizer.json"), "-f", "json").json["tokens"]
    assert rows[0][:3] == ["1", str(len(ours)), f"{16 / len(ours):.2f}"]
    assert rows[1] == ["2", "16", "1.00", "256"]
    assert "|你|🦙| the|" in out
    assert "|你⁽³⁾|🦙⁽⁴⁾| |t|" in out
    found = ask("tokens", text, *places, "-f", "json").json
    assert found["bytes"] == 16
    assert [len(one["tokens"]) for one in found["tokenizers"]] == [len(ours), 16]
    assert found["tokenizers"][1]["bytes_per_token"] == 1
    lines = ask("tokens", text, *places, "-f", "csv").out.splitlines()
    assert lines[0] == "tokenizer,vocab_size,tokens,bytes_per_token"
    assert lines[2] == "bytes,256,16,1.0"
    assert "| 2 |" in ask("tokens", text, *places, "-f", "markdown").out.replace("  ", "")
    assert ask("tokens", "", *places).code == 0


REFUSED = {
    ("--tokenizer", "bytes", "--tokenizer", "bytes", "--ids"): "--ids: lists the tokens of one tokenizer; got 2 tokenizers",
    tuple(["--tokenizer", "bytes"] * 11): "--tokenizer: can be given at most 10 times; got 11",
    ("--tokenizer", ""): "--tokenizer: is empty\n",
    ("--tokenizer", "/no"): "/no: no such directory",
}  # fmt: skip


@pytest.mark.parametrize("flags", REFUSED)
def test_what_cannot_be_compared_is_one_line(flags):
    answer = ask("tokens", "a", *flags)
    assert answer.code in (2, 3)
    assert answer.err.count("\n") == 1
    assert answer.err.startswith(REFUSED[flags])


def test_a_folder_without_a_tokenizer_is_told_and_its_bytes_are_not_taken(tmp_path):
    """But those of a training on bytes are: its own files say so."""
    for flag in ("--weights", "--tokenizer"):
        answer = ask("tokens", "a", flag, str(tmp_path))
        assert answer.code == 3
        assert answer.err.startswith(f"{tmp_path}: has no tokenizer; supported: tokenizer.json, ")


def test_characters_are_shown_as_they_are_and_spaces_can_be_seen(folder):
    answer = ask("tokens", "你🦙 the|", "--weights", str(folder), "--ids")
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
        "text": "\\n",
    }
    assert len(lines) == 4


def test_a_bar_does_not_end_a_cell_of_markdown():
    assert "| '\\|'   |" in ask("tokens", "|", "--ids", "-f", "markdown").out
    assert "| \\|\\\\\\|\\| |" in ask("tokens", "|", "-f", "markdown").out


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
        (
            ("a", "--weights", __file__),
            b"",
            2,
            f"{__file__}: is not a tokenizer's file; supported: tokenizer.json, vocab.json and merges.txt, encoder.json and vocab.bpe, tokenizer.model, FILE.tiktoken, FILE.gguf, a folder of them, and the word bytes\n",
        ),
        ((), b"", 2, "archcalc tokens: missing argument 'TEXT'; - reads standard input\n"),
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
    out = ask("tokens", text, "--ids").out
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
