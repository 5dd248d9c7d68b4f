"""Recurrent mixers: what came before is a state of one size, however long the text is.

Each head has a matrix of d_state x d_head numbers. At each position the matrix decays, the outer product of a key and
a value is added, and a query reads it: linear attention with a decay. A text is worked out in chunks, inside which
positions meet pair by pair as in attention, and between which the state is handed on (Dao and Gu 2024,
arXiv:2405.21060, section 6); one new position reads and writes the state alone.

In most of them queries, keys and values pass a short convolution over the positions before. The letters are those of
that paper.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from archcalc.blocks import activation
from archcalc.blocks.attention import Attention
from archcalc.blocks.base import Count
from archcalc.blocks.constraints import Divides, Needs
from archcalc.blocks.norm import Norm
from archcalc.blocks.shrinking import Shrinking
from archcalc.tape.legend import Env
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape
from archcalc.tape.roles import Role
from archcalc.tape.run import Run

_OUT = "B S g h p"


class Recurrent(Attention):
    """A mixer of positions that keeps a state, and no keys or values."""

    saying: ClassVar[str] = "vectors are written into a memory, and read it"


class _Heads(Recurrent):
    """The sizes of states."""

    n_heads: Count = Field(description="heads, each with a state of its own")
    n_groups: Annotated[Count, Divides("n_heads")] = Field(description="groups of heads that share queries and keys")
    d_head: Count = Field(description="features of a head's values")
    d_state: Count = Field(description="features of queries and keys; a state has d_state x d_head numbers")


class _Convolved(_Heads):
    """The size of a convolution, which a spec has behind those of states."""

    d_conv: Count = Field(description="positions that the convolution sees, the present one included")


class StateMixer(_Heads):
    """One whose state is a matrix for each head."""

    chunk_size: Count = Field(description="positions of a chunk, which meet pair by pair")
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = Field(
        description="after the convolutions, and of the gate"
    )
    norm: Norm | None = Field(description="of what the heads read; null: none")
    norm_over: Annotated[Literal["head", "group", "width"], Needs("norm", "group")] = Field(
        default="group",
        description="head: each head's vector, by gains that all heads share; group: the heads of a group together; "
        "width: all heads together",
    )
    norm_place: Annotated[Literal["before", "after"], Needs("norm", "after")] = Field(
        default="after", description="of that norm: before what was read is multiplied by the gate, or after it"
    )

    labels: ClassVar[Mapping[str, str]] = {
        "g": "groups of heads that share queries and keys (n_groups)",
        "h": "heads of a group (n_heads / n_groups)",
        "p": "features of a head's values (d_head)",
        "n": "features of queries and keys (d_state)",
        "c": "chunks of positions",
        "l": "positions of a chunk that read (chunk_size)",
        "s": "positions of a chunk that are read (chunk_size)",
    }
    copies: ClassVar[tuple[str, ...]] = ("g", "h")
    derives: ClassVar[tuple[str, ...]] = ("c",)

    def small(self, shrinking: Shrinking) -> Self:
        """Few heads, in the same sort of groups, with small states and short chunks."""
        shared = min(self.n_heads // self.n_groups, 3)
        groups = min(self.n_groups, 4 if shared == 1 else 2)
        update = {
            "n_heads": groups * shared,
            "n_groups": groups,
            "d_head": shrinking.size("d_head", self.d_head, 8),
            "d_state": shrinking.size("d_state", self.d_state, 12),
            "chunk_size": shrinking.size("chunk_size", self.chunk_size, 9),
        }
        return super().small(shrinking).model_copy(update=update)

    def sizes(self) -> Env:
        return {
            "g": self.n_groups,
            "h": self.n_heads // self.n_groups,
            "p": self.d_head,
            "n": self.d_state,
            "l": self.chunk_size,
            "s": self.chunk_size,
        }

    def derived(self, env: Env, run: Run) -> Env:  # noqa: ARG002  (the same in every run)
        return {"c": -(-env["S"] // env["l"])}

    def _active(self, tape: Tape, name: str, x: Tensor) -> Tensor:
        with tape.span(f"{name}_activation"):
            return activation.record(tape, self.activation, x)

    def _gated(self, tape: Tape, y: Tensor, gate: Tensor) -> Tensor:
        """What was read times the activation of the gate, before or after the norm."""
        if self.norm is not None and self.norm_place == "before":
            y = self._normed(tape, y)
        with tape.span("gated"):
            active = self._opened(tape, gate)
            y = tape.pointwise("product", y, active, saves=(y, active))
        return self._normed(tape, y) if self.norm is not None and self.norm_place == "after" else y

    def _opened(self, tape: Tape, gate: Tensor) -> Tensor:
        return activation.record(tape, self.activation, gate)

    def _normed(self, tape: Tape, y: Tensor) -> Tensor:
        assert self.norm is not None  # noqa: S101  (the caller asked)
        over, gains = {"head": ("p", "p"), "group": ("h p", "(g h p)"), "width": ("g h p", "(g h p)")}[self.norm_over]
        with tape.scope("norm"):
            return self.norm.record(tape, y, over, gains)


class ConvolvedMixer(StateMixer, _Convolved):
    """One whose queries, keys and values pass a short convolution over the positions before."""

    labels: ClassVar[Mapping[str, str]] = {
        "taps": "positions that a convolution sees (d_conv)",
        "before": "positions before the present one that a convolution sees (d_conv - 1)",
    }
    derives: ClassVar[tuple[str, ...]] = (*StateMixer.derives, "before")

    def small(self, shrinking: Shrinking) -> Self:
        """Few positions to see."""
        return super().small(shrinking).model_copy(update={"d_conv": min(self.d_conv, 4)})

    def sizes(self) -> Env:
        return {**super().sizes(), "taps": self.d_conv}

    def derived(self, env: Env, run: Run) -> Env:
        return {**super().derived(env, run), "before": env["taps"] - 1}

    def _convolved(self, tape: Tape, name: str, x: Tensor, channels: str, *, bias: bool) -> Tensor:
        return self._active(tape, name, convolved(tape, f"{name}_conv", x, channels, bias=bias))


def convolved(tape: Tape, name: str, x: Tensor, channels: str, *, bias: bool) -> Tensor:
    """A convolution over positions, each channel by itself; of one position it sees those that are kept."""
    with tape.scope(name):
        weight = tape.weight("weight", f"({channels}) unit taps", "convolutions")
        inputs: tuple[Tensor, ...] = (x,)
        if tape.run.phase == "decode":
            inputs = (x, tape.given(f"{x.name}.{name}.recent", f"B {channels} before", "recent"))
        role: Role = "fused" if bias else "activation"
        y = tape.contract("product", " ".join(x.labels), *inputs, weight, role=role, casts=False)
        return tape.sum("biased", y, tape.weight("bias", f"({channels})", "biases")) if bias else y


def one_position(
    tape: Tape, keys: Tensor | None = None, values: Tensor | None = None, decay: Tensor | None = None
) -> Iterator[Tensor]:
    """What one new position adds to a state, under the state's labels."""
    for x in (keys, values, decay):
        if x is not None:
            yield tape.regroup(x, " ".join(label for label in x.labels if label != "S"))


class Scan:
    """The steps that all scans in chunks have. What is between them never leaves the kernel."""

    def __init__(self, tape: Tape, q: Tensor, k: Tensor, decay: Tensor | None = None) -> None:
        self.tape, self.q, self.k = tape, tape.regroup(q, "B c l g n"), tape.regroup(k, "B c s g n")
        if decay is not None:  # of each head, or each of its features
            decay = tape.regroup(decay, " ".join(("B c s", *decay.labels[2:])))
        self.decays = () if decay is None else (decay,)

    def product(self, name: str, out: str, *inputs: Tensor) -> Tensor:
        """A product of the kernel, which its backward pass works out again."""
        return self.tape.contract(name, out, *inputs, role="fused", repeats=1, casts=False)

    def scores(self) -> Tensor:
        """How well each query fits each key of its chunk, less what has decayed meanwhile.

        Where nothing says how heads decay, those that share keys share the products.
        """
        return self.product("scores", "B c g h l s" if self.decays else "B c g l s", self.q, self.k, *self.decays)

    def carried(self, values: Tensor) -> Tensor:
        """The state at the start of each chunk, of those that the chunks before have added."""
        added = self.product("added", "B c g h p n", self.k, values)
        return self.tape.pointwise("carried", added, role="fused", per_point=2)

    def read(self, scores: Tensor, values: Tensor, carried: Tensor) -> Tensor:
        """What each query finds in its chunk, and in the state before it."""
        inner = self.product("inner", "B c l g h p", scores, values)
        outer = self.product("outer", "B c l g h p", self.q, carried)
        return self.tape.regroup(self.tape.pointwise("read", inner, outer, role="fused", per_point=2), _OUT)
