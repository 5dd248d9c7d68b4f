"""Values of a YAML file are changed in place: what is read differs in them alone, and every other byte stays."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archcalc.errors import Edit, Invalid
from archcalc.spec.editing import edited
from archcalc.spec.source import parse

WORDS = st.text("abcdefg é:#-'\"\\,{}[]😀", min_size=0, max_size=8)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.integers(-(10**6), 10**6).map(lambda n: n / 8), WORDS
)
KEYS = st.text("abcdefg_", min_size=1, max_size=5)
DATA = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


class Styles:
    """A writer that chooses styles, comments and blank lines by chance; in brackets on one line or several."""

    def __init__(self, draw):
        self.draw = draw
        self.end = draw(st.sampled_from(["\n", "\r\n"]))

    def one_of(self, *choices):
        return self.draw(st.sampled_from(choices))

    def scalar(self, value):
        if value is None:
            return self.one_of("null", "~")
        if isinstance(value, bool):
            return json.dumps(value)
        if isinstance(value, int):
            return self.one_of(str(value), f"{value:_}")
        if isinstance(value, float):
            return self.one_of(f"{value}", f"{value:.6f}")
        plain = value.isalnum() and value.isascii() and not value[0].isdigit()
        quotes = ['"', "'", *(["", ""] if plain and value not in ("e",) else [])]
        match self.one_of(*quotes):
            case '"':
                return json.dumps(value, ensure_ascii=False)
            case "'":
                return "'" + value.replace("'", "''") + "'"
        return value

    def flow(self, data):
        gap = self.one_of("", " ", " ", f" # note{self.end}      ", f"{self.end}      ")
        match data:
            case dict():
                inner = f",{gap or ' '}".join(f"{key}: {self.flow(one)}" for key, one in data.items())
                return "{" + gap + inner + self.one_of("", " ") + "}"
            case list():
                return "[" + gap + f",{gap or ' '}".join(map(self.flow, data)) + "]"
        return self.scalar(data)

    def note(self):
        return self.one_of("", "", "  # what, {of}: [it] - é😀") + self.end + self.one_of("", "", self.end)

    def block(self, data, indent):
        """What follows a key or a dash: on the same line, or on lines of its own."""
        if not isinstance(data, dict | list) or not data or self.one_of(True, False, False):
            return f" {self.flow(data)}{self.note()}"
        step = " " * (indent + self.one_of(2, 3))
        above = self.one_of("", f"{step}# above{self.end}")
        if isinstance(data, dict):
            lines = [f"{step}{key}:{self.block(one, len(step))}" for key, one in data.items()]
        else:
            lines = [f"{step}-{self.block(one, len(step) + 1)}" for one in data]
        return self.note() + above + "".join(lines)

    def document(self, data):
        return "".join(f"{key}:{self.block(one, 0)}" for key, one in data.items())


@st.composite
def texts(draw):
    """A YAML file in a style of its own, as bytes, and the document that the reader makes of it."""
    data = draw(st.dictionaries(KEYS, DATA, min_size=1, max_size=4))
    text = Styles(draw).document(data)
    mark = draw(st.sampled_from(["", "", "\ufeff"]))
    bytes_ = (mark + text).encode()
    document = parse(bytes_, "own.yaml")
    assert document.data == data
    return bytes_, document


def leaves(data, path=()):
    if isinstance(data, dict | list) and data:
        for key, one in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(one, (*path, key))
    elif not isinstance(data, dict | list):
        yield path


def lists(data, path=()):
    if isinstance(data, list) and data:
        yield path
    for key, one in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from lists(one, (*path, key))


def put(data, path, value):
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


def kept(before, after):
    """Bytes that two texts have in common at their beginning and their end."""
    head = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    rest = zip(reversed(before[head:]), reversed(after[head:]), strict=False)
    return head, next((i for i, (a, b) in enumerate(rest) if a != b), min(len(before), len(after)) - head)


@given(texts(), st.data(), VALUES)
def test_one_value_changes_and_every_other_byte_stays(given_, data, value):
    text, document = given_
    paths = list(leaves(document.data))
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    assume(value is not None or not isinstance(path[-1], int))
    after = edited(text, document, [Edit(path, value)])
    put(document.data, path, value)
    assert parse(after, "own.yaml").data == document.data
    head, tail = kept(text, after)
    gone, come = text[head : len(text) - tail], after[head : len(after) - tail]
    assert b"\n" not in gone + come
    assert b"#" not in gone.replace(b"\\", b"") or any(quote in text for quote in (b'"', b"'"))
    assert text.count(b"\r\n") == after.count(b"\r\n")


@given(texts(), st.data())
def test_many_values_change_at_once(given_, data):
    text, document = given_
    paths = list(leaves(document.data))
    assume(paths)
    edits = [Edit(path, i) for i, path in enumerate(data.draw(st.lists(st.sampled_from(paths), unique=True)))]
    after = edited(text, document, edits)
    for edit in edits:
        put(document.data, edit.path, edit.value)
    assert parse(after, "own.yaml").data == document.data


@given(texts(), st.data())
def test_an_item_is_taken_out_of_a_list(given_, data):
    text, document = given_
    paths = list(lists(document.data))
    assume(paths)
    path = data.draw(st.sampled_from(paths))
    above, inside = None, document.data
    for step in path:
        above, inside = inside, inside[step]
    index = data.draw(st.integers(0, len(inside) - 1))
    try:
        after = edited(text, document, [Edit((*path, index), None)])
    except Invalid as refused:  # a list in a list has no line of its own, and a comment would go with the item
        assert "cannot be changed in place" in str(refused)
        assert isinstance(path[-1], int) or b"#" in text
        return
    del inside[index]
    if not inside and isinstance(above, dict) and len(above) > 1:
        del above[path[-1]]
    assert parse(after, "own.yaml").data == document.data


SPEC = b"""# a model
name: own-1b   # its name
source: 'somebody''s page'
published:
  - {text: "6.7B", parameters: 6_700_000_000, status: counted, source: "Table 1"}  # printed
  - text: "7B"
    # what it is called
    parameters: 7_000_000_000
    status: nominal
allow:
  # the tokenizer's
  - {rule: AC110, why: "published so"}
  - rule: AC111
    why: "80"  # features
layers: [{repeat: 2}, {repeat: 3}]
"""


def change(*edits, text=SPEC):
    return edited(text, parse(text, "own.yaml"), [Edit(*edit) for edit in edits])


def test_quotes_and_comments_stay():
    assert change((("source",), "the author's")) == SPEC.replace(b"'somebody''s page'", b"'the author''s'")
    assert change((("name",), "own-2b")) == SPEC.replace(b"own-1b   #", b"own-2b   #")
    assert change((("allow", 1, "why"), "AC")) == SPEC.replace(b'"80"', b'"AC"')
    assert change((("layers", 1, "repeat"), 4)) == SPEC.replace(b"{repeat: 3}", b"{repeat: 4}")


def test_a_field_that_is_not_there_is_put_behind_the_first():
    assert change((("published", 0, "digits"), 2)) == SPEC.replace(b'"6.7B", ', b'"6.7B", digits: 2, ')
    assert change((("published", 1, "digits"), 1)) == SPEC.replace(b'"7B"\n', b'"7B"\n    digits: 1\n')


def test_items_go_with_their_line_and_the_last_with_its_field():
    one = change((("allow", 0), None))
    assert one == SPEC.replace(b'  - {rule: AC110, why: "published so"}\n', b"")
    two = change((("allow", 0), None), (("allow", 1), None))
    assert two == SPEC.replace(b'  - {rule: AC110, why: "published so"}\n', b"").replace(
        b'allow:\n  # the tokenizer\'s\n  - rule: AC111\n    why: "80"  # features\n',
        b"  # the tokenizer's\n",
    )
    assert change((("layers", 0), None)) == SPEC.replace(b"[{repeat: 2}, {repeat: 3}]", b"[{repeat: 3}]")
    assert change((("layers", 1), None)) == SPEC.replace(b"[{repeat: 2}, {repeat: 3}]", b"[{repeat: 2}]")


@pytest.mark.parametrize(
    ("text", "path", "after"),
    [
        (b"a: 1\nb: [2]\nc: 3\n", ("b", 0), b"a: 1\nc: 3\n"),
        (b"a: 1\nb: [2]  # two\n", ("b", 0), b"a: 1\n"),
        (b"a: 1\nb: [\n  2,\n]\nc: 3", ("b", 0), b"a: 1\nc: 3"),
        (b"b:\n- 2", ("b", 0), b"b: []\n"),
        (b"b:\n- 2\na: 1", ("b", 0), b"a: 1"),
        (b"{b: [2], a: 1}\n", ("b", 0), b"{a: 1}\n"),
        (b"{a: 1, b: [2]}\n", ("b", 0), b"{a: 1}\n"),
        (b'{"a": 1,\n "b": [2],\n "c": 3}', ("b", 0), b'{"a": 1,\n "c": 3}'),
        (b"a: {b: [2]}\nc: 1\n", ("a", "b", 0), b"a: {b: []}\nc: 1\n"),
        (b"a:\n  b:\n    # note\n    - 2\n  c: 1\n", ("a", "b", 0), b"a:\n    # note\n  c: 1\n"),
        (b"a: 1\nb:  # note\n  - 2\n", ("b", 0), None),
        (b"a: 1\nb: [2,  # two\n]\n", ("b", 0), None),
        (b"- b: [2]\n  a: 1\n", (0, "b", 0), None),
    ],
)
def test_the_last_item_goes_with_its_field_and_no_comment_beside_them(text, path, after):
    if after is None:
        with pytest.raises(Invalid, match="cannot be changed in place"):
            change((path, None), text=text)
    else:
        assert change((path, None), text=text) == after


def test_what_is_inside_goes_before_what_it_is_in():
    text = b"a:\n  - {b: [1, 2]}\n  - {b: [3, 4]}\n"
    for edits in ((("a", 0), None), (("a", 1, "b", 0), None)), ((("a", 1, "b", 0), None), (("a", 0), None)):
        assert change(*edits, text=text) == b"a:\n  - {b: [4]}\n"


def test_the_first_change_of_a_value_counts():
    assert change((("name",), "a"), (("name",), "b")) == SPEC.replace(b"own-1b ", b"a ")


@pytest.mark.parametrize("text", [SPEC.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + SPEC], ids=["CRLF", "BOM"])
def test_ends_of_lines_and_a_mark_of_utf_8_stay(text):
    expected = text.replace(b"own-1b ", b"b ").replace(b'"6.7B", ', b'"6.7B", digits: 2, ')
    assert change((("name",), "b"), (("published", 0, "digits"), 2), text=text) == expected
    after = change((("published", 1, "digits"), 1), text=text)
    assert after.count(b"\r\n") == text.count(b"\r\n") + (b"\r\n" in text)


@pytest.mark.parametrize(
    ("text", "path", "value", "after"),
    [
        (b"a:\nb: 1\n", ("a",), 2, b"a: 2\nb: 1\n"),
        (b"a: {b}\n", ("a", "b"), 2, b"a: {b: 2}\n"),
        (b"a: {}\n", ("a", "b"), 2, b"a: {b: 2}\n"),
        (b"a:\n  -\n  - 1\n", ("a", 0), 2, b"a:\n  - 2\n  - 1\n"),
        (b"a: |\n  text\nb: 1\n", ("a",), "word", b"a: word\nb: 1\n"),
        (b"a: x", ("b",), True, b"a: x\nb: true"),
        (b"a:", ("a",), 2, b"a: 2"),
        (b"a:  # nothing yet\n", ("a",), 2, b"a: 2  # nothing yet\n"),
        (b"m:\n  x:\n    y: 1\n  z: 2\n", ("m", "a"), 3, b"m:\n  a: 3\n  x:\n    y: 1\n  z: 2\n"),
        (b"l:\r\n  - x: {y: 1}\r\n    z: 2\r\n", ("l", 0, "a"), 3, b"l:\r\n  - a: 3\r\n    x: {y: 1}\r\n    z: 2\r\n"),
        (b"m: {x: {y: 1}, z: 2}\n", ("m", "a"), 3, b"m: {a: 3, x: {y: 1}, z: 2}\n"),
    ],
)
def test_nothing_and_texts_of_several_lines_become_values(text, path, value, after):
    assert change((path, value), text=text) == after


@pytest.mark.parametrize(
    ("text", "index", "after"),
    [
        (b"l:\n  # a - note\n  - 1\n  # more - notes\n  - 2\n", 0, b"l:\n  # a - note\n  # more - notes\n  - 2\n"),
        (b"l:\n  # a - note\n  - 1\n  # more - notes\n  - 2\n", 1, b"l:\n  # a - note\n  - 1\n  # more - notes\n"),
        (b"l: #\n# -\n  - 1\n  - 2", 0, b"l: #\n# -\n  - 2"),
        (b"l:\n  - 1\n  - 2", 1, b"l:\n  - 1\n"),
        (b"l:\n  - r: A\n    w: b\n  - r: C\n    w: d\nz: 1\n", 0, b"l:\n  - r: C\n    w: d\nz: 1\n"),
        (b"l:\n  - r: A\n    w: b\n  - r: C\n    w: d\nz: 1\n", 1, b"l:\n  - r: A\n    w: b\nz: 1\n"),
        (b"l:\n  - |\n    x\n  - 2\nz: 1\n", 0, b"l:\n  - 2\nz: 1\n"),
    ],
)
def test_an_item_of_several_lines_goes_whole_and_comments_beside_it_stay(text, index, after):
    assert change((("l", index), None), text=text) == after


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ((("nothing", "here"), 1), "own.yaml:2:1: nothing.here: has no single value there to change"),
        ((("layers",), 1), "own.yaml:15:9: layers: has no single value there to change"),
        ((("layers", 7), None), "own.yaml:15:9: layers.7: has no single value there to change"),
        (((), 1), "own.yaml:2:1: has no single value there to change"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(edit, words):
    with pytest.raises(Invalid, match=f"^{words}; change it by hand$"):
        change(edit)


def test_a_file_that_changed_is_refused():
    document = parse(SPEC, "own.yaml")
    with pytest.raises(Invalid, match=r"own\.yaml: has changed since it was read; read it again"):
        edited(SPEC.replace(b"1b", b"2b"), document, [Edit(("name",), "x")])


@pytest.mark.parametrize("index", [0, 1])
def test_a_comment_inside_a_list_in_brackets_is_never_taken_out(index):
    text = b"allow: [\n  {rule: AC110, why: x},  # about it\n  # about the next\n  {rule: AC111, why: y}\n]\n"
    with pytest.raises(Invalid, match="change it by hand"):
        edited(text, parse(text, "x.yaml"), [Edit(("allow", index), None)])
    plain = b"allow: [{rule: AC110, why: x}, {rule: AC111, why: y}]  # kept\n"
    assert edited(plain, parse(plain, "x.yaml"), [Edit(("allow", index), None)]).endswith(b"]  # kept\n")
