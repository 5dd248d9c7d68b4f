"""The roles of tensors, as one table: how wide a number of each is, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Role = Literal[
    "activation",
    "cache",
    "state",
    "recent",
    "fused",
    "statistic",
    "float",
    "mask",
    "index",
    "choice",
    "positions",
    "constant",
    "table",
    "buffer",
    "shared",
    "token",
]
Width = Literal["activation", "statistic", "float", "byte", "int", "long", "constant"]


class Meaning(NamedTuple):
    """What a role says of a tensor.

    Attributes:
        width: whose width its numbers have; None for what is never stored.
        learns: whether a gradient goes back through it.
        given: whether it is there before the pass; made for all layers at once, and no input of a recomputed span.
    """

    width: Width | None
    learns: bool = False
    given: bool = False


ROLES: Mapping[Role, Meaning] = {
    "activation": Meaning("activation", learns=True),
    "cache": Meaning("activation", learns=True),  # kept for later tokens: keys and values
    "state": Meaning("float", given=True),  # what a recurrent mixer keeps of all tokens so far
    "recent": Meaning("activation", given=True),  # the last positions, for a convolution
    "fused": Meaning(None),  # never leaves its kernel
    "statistic": Meaning("statistic"),  # what a norm keeps of its input
    "float": Meaning("float", learns=True),  # fp32 whatever the rest is
    "mask": Meaning("byte"),  # what dropout dropped
    "index": Meaning("long"),  # numbers of tokens or positions
    "choice": Meaning("long"),  # numbers that the model itself makes: the experts of a vector
    "positions": Meaning("int"),  # numbers of the positions that an indexer chose
    "constant": Meaning("constant", given=True),  # known before the run: the mask of attention
    "table": Meaning("float", given=True),  # made once for a pass and read in all layers: angles of rotary positions
    "buffer": Meaning("float", given=True),  # in a checkpoint, and no parameter
    "shared": Meaning("activation", learns=True, given=True),  # made before the layer, which keeps it where it is kept
    "token": Meaning("activation", learns=True, given=True),  # each token's own vector, as it entered the first layer
}

CHOICES: tuple[Role, ...] = ("choice", "positions")
"""What a model chooses by scores."""

TOKENS = "token_vectors"
"""The name of the one tensor of role `token`."""

Widths = Mapping[Role, int]


def widths(activation: int, statistic: int = 4, constant: int | None = None) -> Widths:
    """Bytes of a number by its role: activations as asked, statistics of norms and what is `float` in fp32.

    A `constant` is as wide as an activation if not given.
    """
    of: dict[Width, int] = {
        "activation": activation,
        "statistic": statistic,
        "float": 4,
        "byte": 1,
        "int": 4,
        "long": 8,
        "constant": activation if constant is None else constant,
    }
    return {role: of[meaning.width] for role, meaning in ROLES.items() if meaning.width is not None}
