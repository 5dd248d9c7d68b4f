"""Help and the schema's descriptions are docstrings, which `python -OO` drops: then they are read from the source."""

from __future__ import annotations

import ast
import sys
from types import ModuleType


def restore(*modules: str) -> None:
    """Give the functions and classes of these modules back their docstrings, where the interpreter dropped them.

    Modules whose source is not there keep none.
    """
    if sys.flags.optimize < 2:
        return
    for name in modules:
        _restore(sys.modules[name])


def _restore(module: ModuleType) -> None:
    try:
        with open(module.__file__ or "", encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except OSError:
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found = getattr(module, node.name, None)
            if found is not None and getattr(found, "__module__", "") == module.__name__:
                found.__doc__ = ast.get_docstring(node)
