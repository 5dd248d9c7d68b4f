"""The command of softmax: arguments and standard input, its table, its JSON, what cannot be asked."""

import csv
import io
import json

import pytest
from command import ask, spawn

from archcalc.words.probability import softmax


def test_the_table_has_a_bar_for_each_number():
    assert ask("softmax", "2.0", "1.0", "0.1", "--temperature", "5").out == (
        "softmax of 3 numbers at temperature 5\n"
        "\n"
        "  logit    probability\n"
        "-------  -------------  ----------------------------------------\n"
        "      2         0.3996  ████████████████████████████████████████\n"
        "      1         0.3272  ████████████████████████████████▊\n"
        "    0.1         0.2733  ███████████████████████████▍\n"
        "\n"
        "Counted    exp(logit / 5), divided by the sum of all\n"
    )


def test_the_json_has_a_row_for_each_number():
    told = ask("softmax", "2.0", "1.0", "0.1", "--temperature", "5", "-f", "json").json
    expected = softmax([2.0, 1.0, 0.1], 5)
    rows = [{"logit": x, "probability": p} for x, p in zip([2.0, 1.0, 0.1], expected, strict=True)]
    assert told == {"schema": 0, "temperature": 5.0, "from": "logits", "rows": rows}


@pytest.mark.parametrize("heats", [["0", "1", "5"], ["0,1,5"], ["0", "1, 5"]], ids=" ".join)
def test_several_temperatures_stand_side_by_side(heats):
    asked = ["softmax", "2", "1", "0.1", *(part for heat in heats for part in ("--temperature", heat))]
    logits = [2.0, 1.0, 0.1]
    columns = [softmax(logits, heat) for heat in (0, 1, 5)]
    told = ask(*asked, "-f", "json").json
    assert (told["temperatures"], told["from"]) == ([0, 1, 5], "logits")
    assert told["rows"] == [
        {"logit": x, "probabilities": list(row)} for x, row in zip(logits, zip(*columns, strict=True), strict=True)
    ]
    assert ask(*asked).out == (
        "softmax of 3 numbers at temperatures 0, 1, 5\n"
        "\n"
        "Probabilities at each temperature T\n"
        "  logit    T = 0    T = 1    T = 5\n"
        "-------  -------  -------  -------\n"
        "      2    1.000   0.6590   0.3996\n"
        "      1    0.000   0.2424   0.3272\n"
        "    0.1    0.000  0.09857   0.2733\n"
        "\n"
        "Counted    exp(logit / T), divided by the sum of all\n"
        "           at temperature 0 the largest takes it all (the first one, if tied)\n"
    )
    lines = list(csv.DictReader(io.StringIO(ask(*asked, "-f", "csv").out)))
    assert [float(line["probability_at_5"]) for line in lines] == columns[2]
    assert list(lines[0]) == ["logit", "probability_at_0", "probability_at_1", "probability_at_5"]


def test_several_temperatures_fit_a_terminal_of_80_and_a_table_of_fifty_rows():
    heats = "0,0.25,0.5,2,1000"
    out = ask("softmax", *map(str, range(1_000)), "--temperature", heats, "-f", "table").out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[5].split()[:3] == ["1,000", "999", "1.000"]
    assert "950 left out" in out


def test_probabilities_are_retempered_to_several():
    asked = ["softmax", "0.64", "0.04", "--temperature", "1,2", "--from-probabilities"]
    rows = ask(*asked, "-f", "json").json["rows"]
    assert rows[0]["probabilities"] == pytest.approx([0.64 / 0.68, 0.8])
    assert "p^(1/T)" in ask(*asked).out


def test_the_csv_has_the_same_rows():
    out = ask("softmax", "0", "0", "-f", "csv").out
    assert list(csv.DictReader(io.StringIO(out))) == [{"logit": "0.0", "probability": "0.5"}] * 2


def test_negative_numbers_are_no_options():
    for numbers in (["-1", "2"], ["-1.5", "-.5", "-1e3"], ["2", "-inf"], ["-Infinity", "0"], ["--", "-1", "-2"]):
        asked = ask("softmax", "-f", "json", *numbers)
        assert asked.code == 0, asked.err
        given = [float(text) for text in numbers if text != "--"]
        assert [row["probability"] for row in asked.json["rows"]] == softmax(given)


def test_minus_infinity_is_null_in_json():
    assert ask("softmax", "-inf", "0", "-f", "json").json["rows"][0] == {"logit": None, "probability": 0.0}
    assert "-inf" in ask("softmax", "-inf", "0").out


def test_probabilities_are_retempered_as_the_film_does():
    told = ask("softmax", "0.64", "0.04", "--temperature", "2", "--from-probabilities", "-f", "json").json
    assert told["from"] == "probabilities"
    assert [row["given"] for row in told["rows"]] == [0.64, 0.04]
    assert [row["probability"] for row in told["rows"]] == pytest.approx([0.8, 0.2])  # the roots, 0.8 : 0.2
    shown = ask("softmax", "0.64", "0.04", "--temperature", "2", "--from-probabilities").out
    assert "p^(1/2), divided by the sum" in shown
    assert "probabilities that sum to 0.68" in shown


def test_at_zero_the_first_of_equals_has_it_all():
    asked = ask("softmax", "1", "3", "3", "--temperature", "0")
    assert "the first one, if tied" in asked.out
    told = ask("softmax", "1", "3", "3", "--temperature", "0", "-f", "json").json
    assert [row["probability"] for row in told["rows"]] == [0, 1, 0]


def test_numbers_come_from_standard_input():
    for text in (b"2.0 1.0\n0.1\n", b"2.0\r\n1.0\r\n0.1", b"\xef\xbb\xbf 2.0\t1.0 0.1"):
        done = ask("softmax", "-", "-f", "json", stdin=text)
        assert done.code == 0, done.err
        assert json.loads(done.out)["rows"] == ask("softmax", "2.0", "1.0", "0.1", "-f", "json").json["rows"]


def test_of_many_numbers_the_table_has_the_most_probable():
    done = spawn("softmax", "-", stdin="\n".join(map(str, range(1_000))).encode())
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[4][:3] == ["1,000", "999", "0.6321"]  # 1 - 1/e: a geometric series
    assert len([line for line in lines if line[:1] and line[0].replace(",", "").isdigit()]) == 50
    assert "950 left out" in done.out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "softmax: needs at least one number\n"),
        (b"1\n2 x\n", "<stdin>:2:3: must be a number; got 'x'\n"),
        (b"1,2", "<stdin>:1:1: must be a number; got '1,2'\n"),
        (b"1 \xff", "<stdin>:1:3: must be a number; got '\\\\xff'\n"),
        (b"1 2 nan", "softmax: logit 3: must be a number below inf; got nan\n"),
        (b"0 " * 1_001, "<stdin>:1:2001: has more than 1,000 numbers\n"),
        (b" " * (64 * 2**20 + 1), "<stdin>: is larger than 67,108,864 bytes, the most that is read\n"),
    ],
)
def test_bad_standard_input_is_one_line_with_its_place(text, line, monkeypatch):
    monkeypatch.setattr("archcalc.words.probability.MOST_NUMBERS", 1_000)
    done = ask("softmax", "-", stdin=text)
    assert (done.code, done.out, done.err) == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "archcalc softmax: missing argument 'NUMBER'"),
        (["x"], "archcalc softmax: NUMBER 1: must be a number; got 'x'"),
        (["1", "1,5"], "archcalc softmax: NUMBER 2: must be a number; got '1,5'"),
        (["nan"], "softmax: logit 1: must be a number below inf; got nan"),
        (["-nan"], "softmax: logit 1: must be a number below inf; got nan"),
        (["inf"], "softmax: logit 1: must be a number below inf; got inf"),
        (["1e999"], "archcalc softmax: NUMBER 1: is too large for a float; got '1e999'"),
        (["-1e999"], "archcalc softmax: NUMBER 1: is too large for a float; got '-1e999'"),
        (["-inf"], "softmax: needs a logit above -inf"),
        (["1", "-"], "archcalc softmax: reads standard input or its arguments, not both"),
        (["1", "--temperature", "-1"], "--temperature: must be a number of at least 0; got '-1'"),
        (["1", "--temperature", "nan"], "--temperature: must be a number of at least 0; got 'nan'"),
        (["1", "--temperature", "1,,2"], "--temperature: must be a number of at least 0; got ''"),
        (["1", "--temperature", "1,-2"], "--temperature: must be a number of at least 0; got '-2'"),
        (["1", "--temperature", "1", "--temperature", "1.0"], "--temperature: has a number twice; got 1"),
        (["1", "--temperature", "1,2,3,4,5,6"], "--temperature: takes at most 5 numbers; got 6"),
        (["1", "--temperature", "warm"], "--temperature: must be a number of at least 0; got 'warm'"),
        (["--from-probabilities", "-0.5"], "softmax: probability 1: must be a number from 0 to 1; got -0.5"),
        (["--from-probabilities", "0", "0"], "softmax: needs a probability above 0"),
        (["1", "--temprature", "2"], "archcalc softmax: no such option: --temprature"),
    ],
)
def test_what_cannot_be_asked_is_one_line(arguments, line):
    done = ask("softmax", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


FORMS = ["1_0", "٣", "\uff11", "0x1", "1,5", "1e1_0", "१"]


@pytest.mark.parametrize("form", FORMS)
def test_only_numbers_that_files_of_vectors_have_are_read(form):
    assert ask("softmax", form, "1").code == 2
    assert f"must be a number; got {form!r}" in ask("softmax", form, "1").err


@pytest.mark.parametrize("form", ["1e-400", "0.0001e-400", "-1_0", "٣"])
def test_a_temperature_is_never_another_than_was_typed(form):
    refused = ask("softmax", "1", "2", "--temperature", form)
    assert refused.code == 2
    assert refused.err.startswith("--temperature: ")


@pytest.mark.parametrize("form", ["0", "0.0", "0e5", ".0"])
def test_a_temperature_of_0_may_be_written_as_any_0(form):
    assert ask("softmax", "1", "2", f"--temperature={form}").code == 0
