"""Every message is one short line of plain English: no phrase here is what an engineer would not say."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from parsed import tree

import archcalc
import archcalc_reference

FILES = [
    path for package in (archcalc, archcalc_reference) for path in sorted(Path(package.__file__).parent.rglob("*.py"))
]
CALLS = {"Problem", "problem", "PydanticCustomError", "TooSlow", "Ended", "_refusal", "_problem", "_wait"}
NAMES = {"what", "message", "fix", "why", "suggestion", "must", "told"}
LONGEST = 300

NEVER = {
    r"\b(is|are|was) no\b": "is not a ...",
    r"\bnames no\b": "is empty",
    r"\b(is|are) of (training|inference)\b": "applies only to training",
    r"\banew\b": "again",
    r"\bwhat followed\b": "the adjusted fields",
    r"\bin passing\b|\balive\b": "temporaries, in use",
    r"\bwhere it stands\b|\bstands? there\b": "location",
    r"\bsay (one|another|--)": "choose one, use --flag",
    r"\bso many\b|\bas many by\b": "a number",
    r"\bis not there\b|\bnot all of one\b": "is missing, is not complete",
    r"\bof (its|their) own is\b": "custom",
    r"\b(is|are) read$": "supported: ...",
    r"\bis that model\b|\bis another\b": "describes that model",
}


# Messages that these rules would have otherwise. Only ever take lines out.
LEFT = {
    "is larger than _ bytes, the most that is read",
    "--from continues it, another --out starts anew",
    "say another --out",
}


@cache
def said(path):
    """The literal parts of messages in a file: arguments of the calls that tell, and what is named for them."""
    return list(telling(path))


def telling(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            parts = [*node.args, *(k.value for k in node.keywords)] if name in CALLS else []
        elif isinstance(node, ast.Assign):
            parts = [node.value] if any(getattr(target, "id", "") in NAMES for target in node.targets) else []
        else:
            continue
        for part in parts:
            for inner in [part, *ast.walk(part)] if isinstance(part, ast.IfExp | ast.BinOp | ast.BoolOp) else [part]:
                text = literal(inner)
                if text and " " in text:
                    yield node.lineno, text


def literal(node):
    """A string, with `_` for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "_" for part in node.values)
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_messages_are_plain_and_short(path):
    for line, text in said(path):
        for phrase, better in NEVER.items():
            assert text in LEFT or not re.search(phrase, text), f"{path.name}:{line}: {text!r}; better: {better}"
        assert len(text) <= LONGEST, f"{path.name}:{line}"
        assert "\n" not in text, f"{path.name}:{line}"


def test_the_messages_are_found():
    found = [text for path in FILES for _, text in said(path)]
    assert set(found) >= LEFT
    assert len(found) > 200
    for text in ("must be an integer", "no such file", "is not a directory", "is missing"):
        assert text in found


@pytest.mark.parametrize("text", ["is no folder", "is of training", "say --format", "train anew", "'pt' is read"])
def test_what_was_said_once_is_noticed(text):
    assert any(re.search(phrase, text) for phrase in NEVER)
