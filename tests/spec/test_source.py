"""The reader: YAML 1.2's core schema, positions, bounds."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archcalc
from archcalc.spec.scalars import is_long_number, is_plain, plain_float, resolve, vanishes
from archcalc.spec.source import Document, Mark, parse, read_file
from archcalc.spec.validation import validate


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None),
        ("true", True), ("True", True), ("FALSE", False),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y"), ("tRue", "tRue"),
        ("0", 0), ("-0", 0), ("+7", 7), ("012", 12), ("50_257", 50_257), ("174_600_000_000", 174_600_000_000),
        ("0x1F", 31), ("0o17", 15), ("0x", "0x"), ("0o8", "0o8"), ("_1", "_1"),
        ("1e9", 10**9), ("174.6e9", 174_600_000_000), ("1E+3", 1000), ("-2.5e1", -25), ("1e22", 10**22),
        ("1.0", 1.0), ("1.", 1.0), (".5", 0.5), ("1e-3", 0.001), ("1.25e1", 12.5), ("1_0.5", 10.5), ("0.02", 0.02),
        (".inf", math.inf), ("-.INF", -math.inf), ("1e999", math.inf),
        ("1.2_5e3", 1250), ("1__0e2", 1000), ("1e40", 10**40), ("1e41", 1e41), ("1.5e0", 1.5), ("0xF_F", 255), ("0o1_7", 15),
        ("+.Inf", math.inf), ("-.nan", "-.nan"), ("._", "._"), ("._e5", "._e5"), ("1._", "1._"), (".", "."), ("-", "-"), ("e5", "e5"), (".e5", ".e5"), ("1e", "1e"), ("1:30", "1:30"), ("2020-05-28", "2020-05-28"),
        ("gpt3-175b", "gpt3-175b"), ("1.2.3", "1.2.3"), ("12 layers", "12 layers"),
    ],
)  # fmt: skip
def test_plain_scalars_are_yaml_1_2(text, value):
    found = resolve(text)
    assert (type(found), found) == (type(value), value)


def test_not_a_number_is_a_float():
    assert math.isnan(resolve(".nan"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.5", 1.5), (b"-2e3", -2000.0), ("inf", math.inf), (" 7 ", 7.0), ("1_0", None), (b"1_0", None), ("x", None), ("", None),
     ("\u0661", None)],
)  # fmt: skip
def test_files_of_numbers_have_them_in_ascii_without_underscores(text, number):
    assert plain_float(text) == number


@pytest.mark.parametrize(
    ("text", "gone"),
    [("1e-400", True), ("0.5E-400", True), ("0", False), ("0e9", False), ("-0.000", False), ("0.001", False)],
)
def test_a_number_that_was_not_0_does_not_become_0_unseen(text, gone):
    assert vanishes(text, float(text)) == gone


def test_a_number_may_have_forty_characters():
    for longest in ("1" * 40, "0x" + "f" * 38, "-" + "1_" * 19 + "1"):
        assert not is_long_number(longest)
        assert isinstance(resolve(longest), int)
        assert is_long_number(longest + "1")
        assert resolve(longest + "1") == longest + "1"
    assert not is_long_number("x" * 41)
    assert not is_long_number("1" * 41 + "k")
    assert not is_long_number("0x" + "f" * 41 + "g")


def test_what_stands_without_quotes_is_read_as_itself():
    assert all(map(is_plain, ("gpt2", "no", "1.2.3", "12 layers")))
    assert not any(map(is_plain, ("12", "null", "1e9", "1" * 41, "a\x85b", "a\u2028b", "a\u200bb")))


def test_quotes_make_text():
    assert parse(b"a: \"1\"\nb: 'true'\nc: |\n  1\n", "f").data == {"a": "1", "b": "true", "c": "1\n"}


def test_every_value_has_its_place():
    document = parse(b"a:\n  - 1\n  - b: [x, {c: 2}]\n", "f")
    assert document.data == {"a": [1, {"b": ["x", {"c": 2}]}]}
    assert document.values["a", 1, "b", 1, "c"] == Mark(3, 16)
    assert document.keys["a", 1, "b"] == Mark(3, 5)
    assert document.values[()] == Mark(1, 1)
    assert str(document.problem("p", ("a", 1, "b", 9))) == "f:3:8: a.1.b.9: p"
    assert str(document.problem("p", ("a", 1, "b"), at_key=True)) == "f:3:5: a.1.b: p"


def test_what_a_question_changed_has_its_place_there():
    document = Document("f.yaml", values={(): Mark(1, 1), ("a",): Mark(2, 4)}, question="f.yaml@a=1", asked={("a",)})
    assert str(document.problem("p", ("a",))) == "f.yaml@a=1: a: p"
    assert str(document.problem("p", ("b",))) == "f.yaml:1:1: b: p"


def test_of_a_long_key_a_message_shows_the_beginning():
    key = "k" * 500
    said = str(parse(f"{key}: 1\n".encode(), "f").problem("p", (key,)))
    assert said == f"f:1:503: {key[:197]}...: p"


@pytest.mark.parametrize("name", ["-", "<stdin>"])
def test_a_standard_input_that_is_closed_is_missing(monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(archcalc.Missing) as error:
        read_file(name)
    assert str(error.value) == "<stdin>: is closed"


def test_a_byte_order_mark_and_windows_line_ends_are_read():
    assert parse(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "f").data == {"a": 1, "b": 2}


def test_columns_count_characters():
    assert parse("ä: [ö, x]\n".encode(), "f").values["ä", 1] == Mark(1, 8)


def test_without_libyaml_the_reader_reads_the_same(monkeypatch):
    import yaml

    slow = [parse(archcalc.dump(archcalc.load("gpt2")).encode(), "f")]
    monkeypatch.setattr("archcalc.spec.source.LOADER", yaml.SafeLoader)
    slow.append(parse(archcalc.dump(archcalc.load("gpt2")).encode(), "f"))
    assert slow[0] == slow[1]


def test_a_dump_quotes_what_would_read_as_something_else():
    model = archcalc.load("tiny").model_copy(update={"name": "1e9", "source": "a: [b] # \x1b c\n"})
    again = archcalc.dump(model)
    assert 'name: "1e9"' in again
    assert parse(again.encode(), "f").data["source"] == model.source


@pytest.mark.parametrize(
    "digits", ["1" * 5000, "0x" + "f" * 5000, "1e" + "9" * 5000, "." + "1" * 5000, "1" * 5000 + "k"]
)
def test_numbers_of_any_length_are_bounded(digits):
    assert resolve(digits) == digits
    if not digits.endswith("k"):
        with pytest.raises(archcalc.Invalid, match=r"^f:1:4: a: a number longer than 40 characters$"):
            parse(f"a: {digits}".encode(), "f")
    for spec in (f"gpt2@d_model={digits}", f"gpt2@context_length={digits}"):
        with pytest.raises(archcalc.Invalid, match="must be an integer"):
            archcalc.load(spec)


def test_lines_of_problems_are_bounded():
    for text in ("a" * 60_000 + ": 1", "a: &" + "x" * 60_000 + " 1\nb: *" + "x" * 60_000):
        with pytest.raises(archcalc.Invalid) as error:
            validate(parse(text.encode(), "f"), archcalc.Model)
        assert max(len(line) for line in str(error.value).splitlines()) < 500


@given(st.from_regex(r"[-+]?[0-9._]{0,4}[eE]?[-+]?[0-9._]{0,4}|0[xo][0-9a-f_]{0,4}", fullmatch=True))
def test_every_number_and_what_nearly_is_one_resolves(text):
    assert isinstance(resolve(text), (int, float, str, type(None)))
