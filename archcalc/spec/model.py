"""The spec: one architecture as YAML describes it, and the tapes that it records."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from archcalc.arguments import element, first, same_shape, size
from archcalc.blocks.attention import Attention
from archcalc.blocks.base import Count, Strict
from archcalc.blocks.embedding import Embedding
from archcalc.blocks.mlp import MLP
from archcalc.blocks.norm import Norm
from archcalc.blocks.unembedding import Unembedding, record_loss
from archcalc.errors import Invalid, Problem
from archcalc.tape.legend import Env, Size, add, anywhere, environment
from archcalc.tape.recording import Tape, Tensor
from archcalc.tape.run import Run
from archcalc.units import to_digits

SCHEMA = 0  # 1 when the first release freezes it; stands in every JSON that archcalc writes
MOST_REPEATS = 10_000
MOST_STRETCHES = 160
"""Of layers that are alike, one after the other. Published models have 126 layers at most, and each may be another."""
MOST_NOTES = 100
"""Printed figures, and misprints, and assumptions, of one spec."""

Text = Annotated[str, Field(min_length=1)]


class Segment(NamedTuple):
    """A stretch of the model that repeats, its recording and the sizes of its labels.

    `first` is the index of its first layer; None outside the layers, where `repeat` is 1.
    """

    name: str
    repeat: Size
    first: Size | None
    tape: Tape
    env: Env


RESIDUAL = Tensor("residual", ("B", "N", "D"))
"""What goes into a segment, whatever made it: a tape knows its own names only."""


class LayerGroup(Strict):
    """Layers that are alike, one after the other: x + attention(norm(x)), then x + mlp(norm(x))."""

    repeat: Annotated[int, Field(ge=1, le=MOST_REPEATS)] = Field(description="how many such layers follow each other")
    norm: Norm = Field(description="before the attention, and again before the MLP")
    attention: Attention
    mlp: MLP

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Record one layer as residual branches. N becomes S where a mixer computes, and N again after it."""
        for name, mixer in (("attention", self.attention), ("mlp", self.mlp)):
            with tape.scope(f"{name}_norm"):
                normed = self.norm.record(tape, x)
            with tape.scope(name):
                y = mixer.record(tape, normed.relabel(N="S")).relabel(S="N")
            y = tape.dropout(f"{name}_dropout", y)
            with tape.span(f"{name}_residual"):
                x = tape.sum("sum", x, y)
        return x


def stretches(layers: tuple[LayerGroup, ...]) -> list[range]:
    """The groups that are counted as one, by index: those that are alike and follow each other, where there are many.

    Up to MOST_STRETCHES each is counted as it is written. Groups whose sizes are arrays are not compared.
    """
    if len(layers) <= MOST_STRETCHES:
        return [range(i, i + 1) for i in range(len(layers))]
    found: list[range] = []
    last = None
    for i, group in enumerate(layers):
        kind = (group.norm, group.attention, group.mlp)
        try:
            alike = last is not None and hash(kind) == hash(last) and kind == last
        except TypeError:
            alike = False
        found[-1:] = [range(found[-1].start, i + 1)] if alike else [*found[-1:], range(i, i + 1)]
        last = kind
    return found


def _without_sizes(part: object) -> object:
    """What is left of a block where its sizes are not looked at: its kinds, words and booleans."""
    if isinstance(part, BaseModel):
        return (type(part), *(_without_sizes(inner) for _, inner in part))
    return part if isinstance(part, bool | str) else None


class Initialization(Strict):
    """Radford et al. 2019, section 2.3, and OpenAI's code for GPT-2: weights normal around 0, biases 0, gains 1."""

    std: Annotated[float, Field(gt=0, le=10)] = Field(default=0.02, description="of every matrix and table")
    residual: Literal["scaled", "plain"] = Field(
        default="scaled", description="scaled: std / sqrt(2 x layers) for the projections that end a residual branch"
    )


class Published(Strict):
    """A figure that somebody printed, with its source."""

    text: Text = Field(description="as printed")
    parameters: Count | None = Field(default=None, le=2**80, description="the figure, where it counts parameters")
    tally: Count | None = Field(
        default=None, le=2**80, description="the figure, where it tallies the eight categories"
    )
    matrices: Count | None = Field(default=None, le=2**80, description="the figure, where it counts their matrices")
    digits: Annotated[int, Field(ge=1, le=30)] | None = Field(
        default=None, description="significant digits that a counted figure must hold at; all of them where absent"
    )
    status: Literal["counted", "nominal"] = Field(
        description="counted: must hold; nominal: a name, shown with its difference and never a failure"
    )
    source: Text
    note: Text | None = None

    @property
    def quantity(self) -> str:
        """Which of the three it counts."""
        return next(name for name in _QUANTITIES if getattr(self, name) is not None)

    @property
    def figure(self) -> int:
        """The number printed."""
        number: int = getattr(self, self.quantity)
        return number

    @model_validator(mode="after")
    def _counts_one_thing(self) -> Self:
        if sum(getattr(self, name) is not None for name in _QUANTITIES) != 1:
            raise PydanticCustomError("one_of", "must have exactly one of parameters, tally and matrices")
        if self.digits is not None and to_digits(self.figure, self.digits) != self.figure:
            raise PydanticCustomError("one_of", "must have a figure rounded to its digits")
        return self


_QUANTITIES = ("parameters", "tally", "matrices")


class Misprint(Strict):
    """A value of the source that must be a misprint, and the value used here instead."""

    field: Text
    printed: Text
    used: Text
    why: Text
    source: Text

    def __str__(self) -> str:
        return f"{self.source} prints {self.field} {self.printed}; {self.used} is used: {self.why}"


class Model(Strict):
    """An architecture. Nothing that changes a count has a default.

    `name`, `source`, `published`, `misprints` and `assumptions` describe it; the rest is its shape, in the order of
    the forward pass.
    """

    model_config = ConfigDict(title="archcalc model", serialize_by_alias=True)

    schema_version: Literal[0] = Field(
        alias="schema", description="of this format; 1 when the first release freezes it"
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    source: Text = Field(description="where the shape was published")
    vocab_size: Count = Field(description="rows of the token table, padding included")
    context_length: Count = Field(description="the most positions that it can take")
    d_model: Count = Field(description="features of the residual stream")
    embedding: Embedding
    layers: Annotated[tuple[LayerGroup, ...], Field(min_length=1, strict=False)]
    final_norm: Norm
    unembedding: Unembedding
    initialization: Initialization = Field(
        default=Initialization(), description="how training starts; changes no count"
    )
    published: Annotated[tuple[Published, ...], Field(strict=False, max_length=MOST_NOTES)] = ()
    misprints: Annotated[tuple[Misprint, ...], Field(strict=False, max_length=MOST_NOTES)] = ()
    assumptions: Annotated[tuple[Text, ...], Field(strict=False, max_length=MOST_NOTES)] = Field(
        default=(), description="what these counts take for granted; printed with every result"
    )

    @field_validator("layers")
    @classmethod
    def _few_stretches(cls, layers: tuple[LayerGroup, ...]) -> tuple[LayerGroup, ...]:
        if (found := len(stretches(layers))) > MOST_STRETCHES:
            what = "has {found} different groups of layers; at most {most} are supported"
            raise PydanticCustomError("one_of", what, {"found": f"{found:,}", "most": MOST_STRETCHES})
        return layers

    @property
    def n_layers(self) -> Size:
        """The number of layers, over all groups."""
        return sum(group.repeat for group in self.layers)

    def segments(self, run: Run | None = None) -> list[Segment]:
        """The forward pass in segments: the embedding, each group of layers, and the head, with the loss in training.

        `run` defaults to Run(). Raises Invalid if the run is longer than the context.
        """
        run = run or Run()
        self._refuse(run)
        sizes = {"D": self.d_model, "V": self.vocab_size, "P": self.context_length, **run.sizes()}

        tape = Tape(run)
        tape.dropout("embedding_dropout", self.embedding.record(tape))
        found = [Segment("embedding", 1, None, tape, environment(sizes))]

        first: Size = 0
        tapes: dict[object, Tape] = {}  # a tape knows no sizes: layers that differ in nothing else share one
        for stretch in stretches(self.layers):
            group, repeat = (
                self.layers[stretch[0]],
                add(size("Model", "repeat", self.layers[i].repeat) for i in stretch),
            )
            kind = _without_sizes(group)
            if kind not in tapes:
                tapes[kind] = Tape(run)
                with tapes[kind].scope("layers.{i}"):
                    group.record(tapes[kind], RESIDUAL)
            tape = tapes[kind]
            env = environment(sizes, group.norm.sizes(), group.attention.sizes(), group.mlp.sizes())
            found.append(Segment("layers", repeat, first, tape, env))
            first = first + repeat

        tape = Tape(run)
        with tape.scope("final_norm"):
            x = self.final_norm.record(tape, RESIDUAL)
        logits = self.unembedding.record(tape, x.relabel(N="S"))
        if run.phase == "training":
            record_loss(tape, logits)
        found.append(
            Segment("head", 1, None, tape, environment({**sizes, **run.head_sizes()}, self.final_norm.sizes()))
        )
        return found

    def _refuse(self, run: Run) -> None:
        """A run checks itself; what it reads must fit the model, which has layers even where it was not validated."""
        if not self.layers:
            raise Invalid(Problem("Model", "must have at least 1 item", "layers", value="()"))
        read, most = run.read, self.context_length
        if hasattr(type(read), "letters"):
            return
        name = "context" if run.phase == "decode" else "sequence"
        same_shape("Run", [(name, read), ("context_length", most)])
        if anywhere(wrong := read > most):
            limit = int(first(most, wrong))
            raise Invalid(Problem("Run", f"must be from 1 to {limit:,}", name, value=element(read, wrong)))
