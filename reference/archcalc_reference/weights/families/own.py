"""Our own names: each parameter is a tensor under the name that it has in the reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from archcalc.spec.layers import Layer
from archcalc.spec.model import Model
from archcalc_reference.weights.entries import Entry, Shape, plain
from archcalc_reference.weights.families.family import Family

_OURS = re.compile(r"(embedding\.token|unembedding)\.weight|layers\.\d+\.attention\.(query|key|value|output)\..+")


class Own(Family):
    """Every name is known that looks like ours."""

    def entries(
        self,
        model: Model,  # noqa: ARG002
        parameters: Mapping[str, Shape],
        further: Iterable[Layer] = (),  # noqa: ARG002
    ) -> list[Entry]:
        return [plain(name, name, shape) for name, shape in parameters.items()]

    def full(self, name: str) -> str:
        return name

    def knows(self, name: str) -> bool:
        return _OURS.fullmatch(name) is not None


OWN = Own(
    types=("archcalc",),
    prefix="",
    layer="layers.{i}.",
    outside={"embedding.token": "embedding.token", "unembedding": "unembedding"},
    inside={},
)
