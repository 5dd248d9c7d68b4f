"""Where on a tape something is recorded: modules, spans, and the block whose labels are marked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

LAYER = "layers.{i}"
"""The scope of a layer."""


class Scopes:
    """The scopes of a recording; what is in them has their names in its path, its spans and its labels."""

    def __init__(self) -> None:
        self._scopes: list[tuple[str, bool]] = []
        self._own: dict[str, str] = {}
        self._learns = True
        self._root: tuple[int, str] | None = None

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """A module: its name becomes part of the weights' paths, and a span of its ops."""
        self._scopes.append((name, True))
        yield
        self._scopes.pop()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """A stretch of ops with a name, such as what is recomputed together; no part of any path."""
        self._scopes.append((name, False))
        yield
        self._scopes.pop()

    @contextmanager
    def shared(self, root: str) -> Iterator[None]:
        """Weights that other layers read too: their paths are `root` and the modules inside, without the layer."""
        before, self._root = self._root, (len(self._scopes), root)
        yield
        self._root = before

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Weights of the layer's own among those that it shares."""
        before, self._root = self._root, None
        yield
        self._root = before

    @contextmanager
    def without_gradient(self) -> Iterator[None]:
        """Ops that have no backward pass, and weights that learn nothing from the loss."""
        self._learns = False
        yield
        self._learns = True

    @contextmanager
    def block(self, own: dict[str, str]) -> Iterator[None]:
        """A block some of whose labels another block of the layer has too: they are marked, `{"F": "F'"}`."""
        before, self._own = self._own, own
        yield
        self._own = before

    def _own_labels(self, new: dict[str, str]) -> dict[str, str]:
        """A change of labels with the marks of the block in scope."""
        return {self._own.get(old, old): self._own.get(label, label) for old, label in new.items()}

    def _marked(self, text: str) -> str:
        """Labels as text, with the marks of the block in scope."""
        if not self._own:
            return text
        words = text.replace("(", " ( ").replace(")", " ) ").split()
        return " ".join(self._own.get(word, word) for word in words)

    def _path(self, name: str) -> str:
        """The path of what belongs to the module in scope."""
        depth, root = self._root or (0, "")
        modules = (scope for scope, named in self._scopes[depth:] if named)
        return ".".join([*filter(None, [root]), *modules, name])

    @property
    def _spans(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._scopes)
