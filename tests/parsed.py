"""The syntax of our modules, for tests that look at how they are written; each is parsed once."""

import ast
from functools import cache
from pathlib import Path


def tree(path: Path) -> ast.Module:
    """The tree of a file as it is now; nobody changes it."""
    return _tree(path.read_text())


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)
