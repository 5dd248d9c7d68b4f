"""Text from files passes through every command and format, and nothing that a terminal might obey comes out."""

import csv
import io
import itertools
import json
import re

import pytest
from command import ask
from hypothesis import example, given
from hypothesis import strategies as st

import archcalc
from archcalc.errors import Problem, printable
from archcalc.escaping import json_text, markdown, markdown_cell, markdown_words
from archcalc.report.output import tell
from archcalc.report.render import render
from archcalc.report.sheet import Fields, Sheet, Table, words

# An escape, a title, a bell, DEL, 8-bit CSI and NEL, marks of direction, zero width, line separators, a byte-order
# mark; delimiters and markup of the formats.
HOSTILE = '\x1b[2J\x1b]0;t\x07\x00\x7f\x9b31m\x85\u202e\u2066\u200b\u2028\u2029\ufeff\r\n\t|`<b>]( ",=1+1'
SEEN = "é模型 ñ"


def harmless(text):
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A spec with hostile text wherever text may be, in a file of a hostile name."""
    tiny = archcalc.load("tiny")
    text = SEEN + HOSTILE
    figure = {"text": text, "parameters": 7, "status": "counted", "source": text, "note": text}
    misprint = dict.fromkeys(("field", "printed", "used", "why", "source"), text)
    told = {"source": text, "assumptions": [text], "published": [figure], "misprints": [misprint]}
    model = archcalc.Model.model_validate({**tiny.model_dump(by_alias=True), **told})
    path = tmp_path_factory.mktemp("odd") / f"odd {HOSTILE.replace(chr(0), '').replace('/', '')}.yaml"
    path.write_text(archcalc.dump(model), encoding="utf-8")
    assert archcalc.load(path) == model
    return str(path)


COMMANDS = {
    "report": (), "params": ("--by", "tensor"), "flops": ("--tokens", "10B"), "memory": ("--device", "h100-sxm"),
    "explain": ("parameters.stored",), "diff": ("gpt2",), "sweep": ("--vary", "batch=1,2"), "check": (), "trace": (),
}  # fmt: skip


@pytest.mark.parametrize(("command", "form"), [*itertools.product(COMMANDS, ("table", "markdown", "json", "csv"))])
def test_hostile_text_of_a_spec_is_escaped(spec, command, form):
    asked = ask(command, spec, *COMMANDS[command], "-f", form)
    assert asked.code == (1 if command == "check" else 0), asked.err
    assert harmless(asked.out)
    assert harmless(asked.err)
    if form == "json":
        assert "\\u202e" in asked.out or HOSTILE not in json.dumps(asked.json, ensure_ascii=False)
    if form != "csv" and command in ("report", "params"):
        assert SEEN in " ".join(asked.out.split())  # text in any language stays readable


def test_the_json_of_hostile_text_says_the_same(spec):
    asked = ask("report", spec, "-f", "json").json
    assert asked["assumptions"] == [SEEN + HOSTILE]


BAD = {
    "a field": "a{}: 1\n",
    "a value": 'schema: "{}"\n',
    "an alias": "a: &x 1\nb: *x\nc{}: 1\n",
    "a tag": "a: !<tag{}> 1\n",
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
@pytest.mark.parametrize("hostile", ["\\e[2J\\x9B\\u202E\\u2028\\r\\n", "\u202e\u200b\u2028\ufeff"])
def test_messages_about_a_hostile_file_are_one_line_each(tmp_path, text, hostile):
    path = tmp_path / "s.yaml"
    path.write_text(text.replace("a{}", f'"a{hostile}"').replace("c{}", f'"c{hostile}"').format(hostile))
    for command in ("params", "check"):
        answer = ask(command, str(path))
        assert harmless(answer.err + answer.out)
        assert all(line.startswith((str(path), "and ")) for line in answer.err.splitlines())


@pytest.mark.parametrize("arguments", [
    ("params", HOSTILE), ("params", f"gpt2@{HOSTILE}"), ("params", f"gpt2@{HOSTILE}=1"), ("params", f"gpt2@d_model={HOSTILE}"),
    ("params", "gpt2", "-o", f"/nowhere/{HOSTILE}.json"), ("params", "gpt2", "-o", HOSTILE), ("params", "gpt2", "--by", HOSTILE),
    (HOSTILE,), ("params", f"--{HOSTILE}"), ("explain", "gpt2", HOSTILE), ("memory", "gpt2", "--device", HOSTILE),
    ("sweep", "gpt2", "--vary", HOSTILE), ("sweep", "gpt2", "--vary", f"{HOSTILE}=1"), ("flops", "gpt2", "--batch", HOSTILE),
    ("sweep", "gpt2", "--vary", "batch=1", "--columns", HOSTILE), ("softmax", HOSTILE), ("embed", HOSTILE, "a"),
    ("tokens", "a", "--weights", HOSTILE), ("params", "\udcff\udc80"), ("params", "gpt2", "-o", "/nowhere/\udcff.json"),
])  # fmt: skip
def test_messages_about_hostile_arguments_are_harmless(arguments):
    answer = ask(*arguments)
    assert (answer.code in (2, 3), answer.out) == (True, "")
    assert harmless(answer.err)
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv"])
def test_hostile_words_are_escaped(tmp_path, form):
    path = tmp_path / "words.txt"
    odd = [f"w{c}x" for c in "\x1b\x07\x7f\u202e\u200b\u2066\ufeff|`<="]
    path.write_text("".join(f"{word} {i + 1} 1\n" for i, word in enumerate([*odd, "模型"])), encoding="utf-8")
    asked = ask("embed", str(path), odd[0], "--rank", odd[3], "--rank", "模型", "-f", form)
    assert asked.code == 0, asked.err
    assert harmless(asked.out)
    assert "模型" in asked.out
    if form == "json":
        assert {row["word"] for row in asked.json["rows"]} >= set(odd[1:])


@pytest.mark.parametrize("form", ["table", "markdown", "json", "csv"])
def test_hostile_tokens_are_escaped(form):
    asked = ask("tokens", "\x1b[31m\x9b\u202e é", "-f", form)
    assert asked.code == 0
    assert harmless(asked.out)


def test_words_in_a_page_are_no_markup(tmp_path):
    pytest.importorskip("plotly")
    path = tmp_path / "words.txt"
    path.write_text("</script><script>alert(1)</script> 1 0\nb 0 1\n")
    page = tmp_path / "p.html"
    assert ask("embed", str(path), "b", "--plot", str(page)).code == 0
    assert "<script>alert" not in page.read_text()


@given(st.text())
def test_one_line_one_cell_one_string(text):
    """Whatever the text: a message is one harmless line, a cell one cell, and JSON reads back as it was."""
    assert harmless(str(Problem(text, text, text, value=text, suggestion=text)))
    assert "\n" not in str(Problem(text, text, text, value=text, suggestion=text))
    assert harmless(json_text({text: [text]}))
    assert json.loads(json_text({text: [text]}, indent=2)) == {text: [text]}
    sheet = Sheet(
        text,
        (Table(words(text, "b"), ((text, "end"),), title=text), Fields(((text, (text,)),))),
        {},
        ({"a": text, text + "b": "end"},),
    )
    assert all(harmless(render(sheet, form)) for form in ("table", "markdown", "csv"))
    head, row = csv.reader(io.StringIO(render(sheet, "csv")))
    assert (head, row) == (["a", printable(text + "b")], [printable(text), "end"])


@given(st.text("\\|a` ", max_size=9))
def test_no_cell_of_markdown_ends_early(text):
    """GitHub's rule, cmark-gfm's scanner: a backslash takes the sign after it along, a bare | ends the cell."""
    at, row = 0, markdown_cell(text) + " |"
    while row[at] != "|":
        at += 2 if row[at] == "\\" and row[at + 1] in "\\|`" else 1
    assert at == len(row) - 1


def seen(node):
    """What a reader sees of rendered Markdown; what is no text shows as an error."""
    text = ""
    for token in node.children or ():
        if token.type == "html_inline":
            assert token.content == "<!-- -->"
        else:
            assert token.type in ("text", "text_special"), token
            text += token.content
    return text


def rendered_lines(text):
    """The inline parts of Markdown as CommonMark renders them, with tables and strikethrough."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return parser.parse(text)


SIGNS = st.text("\\|a`~*_<>b/!?&;#1[](){}@-+=. \u00e9", max_size=12)


@given(SIGNS)
@example("&#60;b>")
@example("\\&lt;b>")
@example("a\\](http://b)[c](d)")
@example("\\\\`a`")
@example("*a* **b** _c_ ~~d~~")
def test_a_name_reads_in_markdown_as_it_was(text):
    """In a title, the head of a table and its cells. Spaces at the ends, and one after another, are not shown."""
    sheet = Sheet(f"t{text}t", (Table(words(f"h{text}h", "b"), ((f"c{text}c", "end"),)),), {})
    tokens = [token for token in rendered_lines(render(sheet, "markdown")) if token.type == "inline"]
    found = [" ".join(seen(token).split()) for token in tokens]
    assert found == [" ".join(one.split()) for one in (f"t{text}t", f"h{text}h", "b", f"c{text}c", "end")]


@given(SIGNS.filter(lambda text: "`" not in text and "|" not in text and text.strip()))
def test_a_line_of_a_file_is_a_line_in_markdown(text):
    """No list, heading, quotation or rule begins, whatever it begins with; one paragraph stays one."""
    blocks = rendered_lines(render(Sheet("t", (Fields((("Assumed", (text, "x", text)),)),), {}), "markdown"))
    assert [token.type for token in blocks[3:]] == ["paragraph_open", "inline", "paragraph_close"]


@pytest.mark.parametrize("begin", ["```", "~~~", "# ", "- ", "1. ", "> ", "===", "---", "+ ", "* ", "<div>", "    "])
def test_no_block_begins_in_a_line(begin):
    blocks = rendered_lines(
        render(Sheet("t", (Fields((("Assumed", ("a", begin, f"{begin}b", " ")),)),), {}), "markdown")
    )
    assert [token.type for token in blocks[3:]] == ["paragraph_open", "inline", "paragraph_close"]


def test_two_revisions_strike_nothing_through():
    """GitHub takes one tilde for a mark too, which CommonMark's parser here does not."""
    assert markdown_words("HEAD~1:a -> HEAD~2:a") == "HEAD\\~1:a -> HEAD\\~2:a"
    assert markdown_words("n_kv_heads __init__ _x_") == "n_kv_heads \\_\\_init\\_\\_ \\_x\\_"


@pytest.mark.parametrize("text", ["@octocat", "a @org/team", "(@octocat)", "see #12", "org/repo#12", "\u00e9@octocat"])
def test_nobody_is_notified_and_no_issue_is_linked(text):
    """GitHub looks for an @ or a # with the name right behind it, in what is rendered."""
    for escape in (markdown, markdown_cell, markdown_words):
        assert not re.search(r"[@#]\w", escape(text))
    assert markdown_cell("gpt2@n_layers=3") == "gpt2@n_layers=3"  # a name before it: no mention


def test_what_is_told_is_harmless(capsys):
    tell("a\x1b[2J\n\u202eb\udcff" + "c" * 5_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a\\x1b[2J"
    assert lines[1].startswith("\\u202eb\\udcff")
    assert len(lines[1]) == 1_000
