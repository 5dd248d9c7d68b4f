"""Changes of single values in a YAML file, of which every other byte stays: comments, order, quotes, ends of lines.

The places come from libyaml's events, as those of the reader do. What is written is read again, and compared with what
it should say; a change that would come out otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, NamedTuple

import yaml

from archcalc.errors import Edit, Invalid, Problem, Where
from archcalc.spec.dumping import scalar
from archcalc.spec.source import LOADER, Document, parse

_BOM = b"\xef\xbb\xbf"
_BY_HAND = "change it by hand"


class _Node(NamedTuple):
    """A value in a text, from `start` to before `end`; `opens` is where its key begins, and `key` where that ends.

    `style` is a scalar's quote, "" for a plain one; None for a mapping or list, which is `flow` where it has brackets.
    """

    start: int
    end: int
    style: str | None
    flow: bool
    opens: int | None
    key: int | None


def edited(text: bytes, document: Document, edits: Iterable[Edit]) -> bytes:
    """A file's bytes after changes of its values.

    `document` is what was read from these bytes. A value that is not there is put into its mapping; None takes an item
    out of a list, and a list that has no other goes with its field. Items are taken out last, so that paths mean what
    they meant in the document.

    Raises Invalid where the bytes are not those of the document, where a path leads nowhere, and for a change that
    cannot be made in the text.
    """
    if parse(text, document.file).data != document.data:
        raise Invalid(Problem(document.file, "has changed since it was read", suggestion="read it again"))
    mark, body = (_BOM, text[len(_BOM) :]) if text.startswith(_BOM) else (b"", text)
    data, now = deepcopy(document.data), body.decode("utf-8")
    for edit in _in_order(edits):
        _apply(data, edit, document)
        changed = _changed(now, edit)
        try:
            same = changed is not None and parse(changed.encode(), document.file).data == data
        except Invalid:
            same = False
        if changed is None or not same:
            raise Invalid(document.problem("cannot be changed in place", edit.path, suggestion=_BY_HAND))
        now = changed
    return mark + now.encode("utf-8")


def _in_order(edits: Iterable[Edit]) -> list[Edit]:
    """The first edit of each path: values, then items to take out, deep ones first and each list from its end."""
    first: dict[Where, Edit] = {}
    for edit in edits:
        first.setdefault(edit.path, edit)
    out = [edit for edit in first.values() if _takes_out(edit)]
    out.sort(key=lambda edit: (len(edit.path), edit.path[-1]), reverse=True)
    return [*(edit for edit in first.values() if not _takes_out(edit)), *out]


def _takes_out(edit: Edit) -> bool:
    return edit.value is None and bool(edit.path) and isinstance(edit.path[-1], int)


def _apply(data: Any, edit: Edit, document: Document) -> None:
    """The same change of plain data. Raises Invalid for a path that leads nowhere, or to more than one value."""
    wrong = Invalid(document.problem("has no single value there to change", edit.path, suggestion=_BY_HAND))
    if not edit.path:
        raise wrong
    *way, last = edit.path
    above: Any = None
    for step in way:
        try:
            above, data = data, data[step]
        except (KeyError, IndexError, TypeError):
            raise wrong from None
    there = isinstance(data, list) and isinstance(last, int) and 0 <= last < len(data)
    if _takes_out(edit) and there:
        del data[last]
        if not data and isinstance(above, dict) and len(above) > 1:
            del above[way[-1]]
    elif (there or isinstance(data, dict)) and not isinstance(data[last] if there else data.get(last), dict | list):
        data[last] = edit.value
    else:
        raise wrong


def _changed(text: str, edit: Edit) -> str | None:
    """The text after one change; None where it cannot be made."""
    nodes = _nodes(text)
    node = nodes.get(edit.path)
    if _takes_out(edit):
        return _without(text, edit.path, nodes)
    if node is None:
        return _with(text, edit, nodes)
    if node.style is None:
        return None
    new = _written(edit.value, node.style)
    if node.start == node.end:  # nothing stood there, which is null
        gap = " " if text[node.start - 1 : node.start] in (":", "-") else ": " if node.flow else " "
        return text[: node.start] + gap + new + text[node.end :]
    old = text[node.start : node.end].rstrip()  # a text of several lines ends where the next one begins
    return text[: node.start] + new + text[node.start + len(old) :]


def _written(value: Any, style: str) -> str:
    """A value in YAML, a text in the quotes that stood there if it can be."""
    if isinstance(value, str) and style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    new = scalar(value)
    return f'"{new}"' if isinstance(value, str) and style == '"' and not new.startswith('"') else new


def _with(text: str, edit: Edit, nodes: dict[Where, _Node]) -> str | None:
    """The text with a field more in a mapping: behind its first field if that is short, else before it."""
    whole = nodes[edit.path[:-1]]
    new = f"{scalar(edit.path[-1])}: {scalar(edit.value)}"
    depth = len(edit.path)
    inside = [path for path in nodes if len(path) == depth and path[:-1] == edit.path[:-1]]
    if not inside:
        return text[: whole.start + 1] + new + text[whole.start + 1 :] if whole.flow else None
    first = nodes[inside[0]]
    simple = first.style in ("", "'", '"') and first.start < first.end and "\n" not in text[first.start : first.end]
    if whole.flow:
        if simple:
            return f"{text[: first.end]}, {new}{text[first.end :]}"
        return f"{text[: whole.start + 1]}{new}, {text[whole.start + 1 :]}"
    column = whole.start - _line(text, whole.start)
    end = "\r\n" if "\r\n" in text else "\n"
    if not simple:
        return text[: whole.start] + new + end + " " * column + text[whole.start :]
    after = text.find("\n", first.end)
    if after < 0:
        return text + end + " " * column + new
    return text[: after + 1] + " " * column + new + end + text[after + 1 :]


def _without(text: str, path: Where, nodes: dict[Where, _Node]) -> str | None:
    """The text without an item of a list. A list that had no other goes with its field; `[]` where that is alone."""
    whole, (*_, index) = nodes[path[:-1]], path
    assert isinstance(index, int)  # noqa: S101  (see _takes_out)
    item, before, after = (nodes.get((*path[:-1], i)) for i in (index, index - 1, index + 1))
    if item is None:
        return None
    if before is None and after is None and len(beside := _beside(path[:-1], nodes)) > 1:
        return _without_field(text, whole, item, beside, in_braces=nodes[path[:-2]].flow)
    if whole.flow:
        return _cut(text, item.start, item.end, _gap(item.start, item.end, before, after, whole))
    dash = _after_comments(text, whole.start if before is None else before.end)
    line = _line(text, dash)
    if text[dash : dash + 1] != "-" or text[line:dash].strip():
        return None
    text = text[:line] + text[_next_line(text, item.end) :]
    if before is not None or after is not None:
        return text
    if whole.key is None:
        return None
    colon = text.find(":", whole.key) + 1
    return f"{text[:colon]} []{text[colon:]}"


def _beside(path: Where, nodes: dict[Where, _Node]) -> list[_Node]:
    """The values of the mapping that a path leads into, by their place; none where it leads into a list."""
    inside = (node for other, node in nodes.items() if len(other) == len(path) and other[:-1] == path[:-1])
    return sorted(node for node in inside if node.opens is not None)


def _without_field(text: str, whole: _Node, item: _Node, beside: list[_Node], *, in_braces: bool) -> str | None:
    """The text without a list of one item and its key. Comments on lines of their own stay."""
    start, key = whole.opens or 0, whole.key or 0
    at = beside.index(whole)
    if whole.flow and "#" in text[key : item.start] + text[item.end : whole.end]:
        return None
    if in_braces:
        before, after = beside[at - 1] if at else None, beside[at + 1] if at + 1 < len(beside) else None
        return _cut(text, start, whole.end, _gap(start, whole.end, before, after, whole))
    line, dash = _line(text, start), start if whole.flow else _after_comments(text, text.find(":", key) + 1)
    end = whole.end if whole.flow else item.end
    if text[line:start].strip() or not (whole.flow or text[dash : dash + 1] == "-"):
        return None
    own = _next_line(text, key)
    if not whole.flow and own <= dash:
        if "#" in text[key:own]:
            return None
        return text[:line] + text[own : _line(text, dash)] + text[_next_line(text, end) :]
    return text[:line] + text[_next_line(text, end) :]


def _gap(start: int, end: int, before: _Node | None, after: _Node | None, whole: _Node) -> tuple[int, int]:
    """What goes with a value in brackets: the comma behind it, or the one before the last."""
    if after is not None:
        return start, after.start if after.opens is None else after.opens
    return (before.end, end) if before is not None else (whole.start + 1, whole.end - 1)


def _cut(text: str, start: int, end: int, gap: tuple[int, int]) -> str | None:
    """The text without a gap around a value; None where a comment is in it, which is nobody's to remove."""
    left, right = gap
    return None if "#" in text[left:start] + text[end:right] else text[:left] + text[right:]


def _next_line(text: str, end: int) -> int:
    """Where the line after the one begins on which something ended."""
    return end if text[end - 1] == "\n" else text.find("\n", end) + 1 or len(text)


def _after_comments(text: str, index: int) -> int:
    """Where the next sign stands that is neither a space nor in a comment."""
    while index < len(text) and (text[index].isspace() or text[index] == "#"):
        index = text.find("\n", index) if text[index] == "#" else index + 1
        index = len(text) if index < 0 else index
    return index


def _line(text: str, index: int) -> int:
    """Where the line of an index begins."""
    return text.rfind("\n", 0, index) + 1


class _Open:
    """A mapping or list that has begun; `last` is where what is in it ends so far."""

    def __init__(self, path: Where, node: _Node, *, mapping: bool) -> None:
        self.path, self.node, self.start, self.mapping, self.flow = path, node, node.start, mapping, node.flow
        self.items = 0
        self.key: tuple[str, int, int] | None = None
        self.last = node.start


def _nodes(text: str) -> dict[Where, _Node]:
    """Every value of a text that the reader took, by its path, in order."""
    found: dict[Where, _Node] = {}
    stack: list[_Open] = []
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            mark: Any = event.end_mark
            end = mark.index if done.flow else done.last
            found[done.path] = done.node._replace(end=end)
            if stack:
                stack[-1].last = end
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            _take(event, stack, found)
    return found


def _take(event: Any, stack: list[_Open], found: dict[Where, _Node]) -> None:
    start, end = event.start_mark.index, event.end_mark.index
    path: Where = ()
    opens, key = None, None
    if stack:
        inside = stack[-1]
        if inside.mapping and inside.key is None:
            inside.key = (event.value, start, end)
            return
        name, opens, key = inside.key or (inside.items, None, None)
        path = (*inside.path, name)
        inside.key = None
        inside.items += 1
        inside.last = end
    if isinstance(event, yaml.ScalarEvent):
        flow = bool(stack) and stack[-1].flow
        found[path] = _Node(start, end, event.style or "", flow, opens, key)
        return
    node = _Node(start, end, None, bool(event.flow_style), opens, key)
    found[path] = node  # its end follows, and its place in the order is this
    stack.append(_Open(path, node, mapping=isinstance(event, yaml.MappingStartEvent)))
