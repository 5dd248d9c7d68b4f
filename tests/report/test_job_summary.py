"""The Markdown of a job summary, as a parser of Markdown with tables reads it."""

import re
from html.parser import HTMLParser

import found
import pytest

from archcalc.checks.outcome import Bound, Excused, Outcome
from archcalc.report import summary as module
from archcalc.report.summary import LARGEST_SUMMARY, summary

markdown_it = pytest.importorskip("markdown_it")


class Page(HTMLParser):
    """The cells of each table, and every tag that the page has."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.words, self.cell = [], set(), [], False
        parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
        self.feed(parser.render(text))

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell:
            self.tables[-1][-1][-1] += data
        self.words.append(data)


OURS = {"h3", "table", "thead", "tbody", "tr", "th", "td", "strong", "details", "summary", "p"}


def test_the_tables_say_what_was_found():
    page = Page(summary(found.EVERY))
    problems, budgets, excused = page.tables
    assert page.tags <= OURS
    assert page.words[0] == (
        "6 files: 3 not valid; 1 problem, 2 warnings; 1 of 5 budgets EXCEEDED; 2 of 5 comparisons DO NOT HOLD; 2 excused"
    )
    assert problems[:2] == [
        ["where", "rule", "what", "fix"],
        ["specs/broken.yaml:3:1", "AC001 invalid-file", "d_modl: unknown field", "did you mean 'd_model'?"],
    ]
    assert [row[0] for row in problems[2:]] == [
        *("specs/empty.yaml", "specs/big.yaml", "archcalc.yaml:4:11", "specs/big.yaml:40:5", "<stdin>:2:1"),
        *("specs/big.yaml:9:5", "specs/big.yaml:10:5"),
    ]
    assert [row[1] for row in problems[-2:]] == ["AC102 unused-allowance (warning)"] * 2
    assert problems[2][3] == ""  # nothing to advise
    # 1.7B - 1.6B = 100M of 1.6B is 6.25%; 332,800 - 307,200 = 25,600 B = 25 KiB of 300 KiB is 8.33%.
    assert budgets[1:] == [
        ["big", "parameters.stored", "at most 1.6B", "1,700,000,000", "OVER by 100,000,000 (+6.25%)"],
        [
            *("excused", "cache.per_token", "at most 300 KiB", "325.0 KiB (332,800 B)"),
            "OVER by 25.00 KiB (+8.33%), excused",
        ],
        ["big", "flops.training", "at most 1.2x main:specs/big.yaml", "1,100", "100 left (8.33%)"],
        ["big", "memory.total", "fits a100-40gb", "40.00 GiB (42,949,672,960 B)", "none left"],
        ["big", "parameters.active", "at least 1B", "1,250,000,000", "250,000,000 left (25.00%)"],
    ]
    assert [row[3] for row in excused[1:]] == [
        "the paper rounds (in the spec)",
        "archcalc-baseline.json (in the baseline)",
    ]
    assert "2 problems excused" in page.words


def test_a_figure_below_a_lower_bound_is_short():
    outcome = Outcome("a", "model", "a", bounds=(Bound("flops.forward", "10", "FLOPs", 8, 10, at_least=True),))
    assert Page(summary([outcome])).tables == [
        [
            ["spec", "budget", "bound", "counted", ""],
            ["a", "flops.forward", "at least 10", "8", "SHORT by 2 (-20.00%)"],
        ]
    ]


def test_hostile_text_is_text():
    text = summary(found.HOSTILE_ONES)
    page = Page(text)
    assert page.tags <= OURS
    assert [len(row) for table in page.tables for row in table] == [4] * 4 + [5] * 3 + [4] * 2
    assert all(c.isprintable() or c == "\n" for c in text)
    # Nobody is mentioned, no issue is linked, no address becomes a link, and no formula begins.
    assert not re.search(r"@(?!&#8203;)|(?<!&)#(?!&#8203;|##|[0-9]+;)|://|www\.|\$", text.removeprefix("###"))
    said = page.tables[0][1][2].replace("\u200b", "")
    assert "<img src=x>|`*_a_~$x$\\|%0A::stop,a=b:c\"'[t](javascript:x)" in said
    assert "\\x1b[2J\\x07" in said


@pytest.mark.parametrize(
    "text", ["a|b", "a\\|b", "a\\\\|b", "`a|b`", "a`", "d_model", "_d_ __m__", "<b>&lt;", "~~x~~", "1. *x*"]
)
def test_a_cell_says_what_the_file_says(text):
    outcome = Outcome("a", "model", "a", (found.problem("a", "AC001", text),))
    (table,) = Page(summary([outcome])).tables
    assert table[1] == ["a", "AC001 invalid-file", text, ""]


def test_a_summary_is_cut_at_what_github_takes(monkeypatch):
    assert LARGEST_SUMMARY == 1024 * 1024
    monkeypatch.setattr(module, "LARGEST_SUMMARY", 60_000)
    text = summary([*found.many(1_000), *found.EVERY])
    assert 60_000 - 4_000 < len(text.encode()) <= 60_000
    problems, budgets, excused = Page(text).tables
    errors = [row for row in problems[1:] if "(warning)" not in row[1]]
    assert problems[1 : len(errors) + 1] == errors  # first
    assert len(errors) == 100 + 6
    assert budgets[1][4].startswith("OVER")
    left = re.search(r"([0-9,]+) budgets more are left out", text)
    assert len(budgets) - 1 + int(left[1].replace(",", "")) == 1_000 + 5
    assert "2 problems more are left out" in text
    assert excused == [["where", "rule", "what", "why"]]
    assert text.rstrip().endswith("</details>")


def test_one_row_that_is_left_out_is_one(monkeypatch):
    outcome = Outcome("a", "model", "a", (found.problem("a", "AC001", "x" * 200),) * 9)
    size = len(summary([outcome]).encode())
    monkeypatch.setattr(module, "LARGEST_SUMMARY", size - 1 + 2_000)
    assert summary([outcome]).endswith("|\n\n1 problem more is left out.\n")


def test_a_good_summary_is_a_headline():
    assert summary(found.GOOD) == "### tiny: valid, with no published figures to compare with\n"
    excuse = (Excused(found.FIXABLE, "later", "in the spec"),)
    assert summary([Outcome("a", "model", "a", excused=excuse)]).startswith("### a: 1 excused\n\n<details>")
