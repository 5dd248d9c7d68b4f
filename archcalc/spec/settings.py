"""What a training was asked for, its defaults, and the data that it learned from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import LARGEST_SIZE, Strict
from archcalc.tape.run import AttentionKernel

MOST_STEPS = 10**9
_HASH = r"^[0-9a-f]{64}$"

DEFAULTS = {
    "steps": 1100,
    "batch": 8,
    "rate": 3e-3,
    "accumulate": 1,
    "seed": 0,
    "precision": "fp32",
    "attention": "flash",
}
"""With these `tiny` learns in about a minute on two cores of a CPU. A sequence is as long as the context."""

Said = Literal["text", "bytes", "uint16", "uint32"]
"""What may be said of the files of the data: UTF-8, any bytes, or raw tokens."""
TokensAre = Literal["bytes", "tokens"]
"""What the tokens of the data are: the bytes of texts, or ids."""
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Hash = Annotated[str, Field(pattern=_HASH)]


def _paths(value: Any) -> list[str]:
    """Names of files, which may be no Unicode, as pydantic's own text has to be; the first wrong one is told alone."""
    if not isinstance(value, list):
        raise PydanticCustomError("tuple_type", "must be a list")
    if not all(isinstance(name, str) and name for name in value):
        raise PydanticCustomError("string_type", "must be text")
    return value


class Settings(Strict):
    """What a training was asked for. With the same settings, on the same machine, it gives the same weights.

    `batch` sequences of `sequence` tokens make one step; they go through the model in `accumulate` parts, one after
    the other.
    """

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    batch: Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
    sequence: Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
    rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    warmup: Annotated[int, Field(ge=0, le=LARGEST_SIZE)]
    accumulate: Annotated[int, Field(ge=1, le=LARGEST_SIZE)] = 1
    seed: Annotated[int, Field(ge=0, le=LARGEST_SIZE)] = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    attention: AttentionKernel = "flash"

    @property
    def part(self) -> int:
        """Sequences that go through the model together."""
        return self.batch // self.accumulate


class Learned(Strict):
    """The data of a training: its files, none for archcalc's own sources, and a hash of the tokens.

    `data_as` is what --data-as said that the files hold.
    """

    files: Annotated[list[str], PlainValidator(_paths)]
    data_as: Said | None
    kind: TokensAre
    fingerprint: Hash
