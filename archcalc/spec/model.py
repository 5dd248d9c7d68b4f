"""The spec: one architecture as YAML describes it, and the passes that it records."""

from functools import partial
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from archcalc.arguments import element, first, same_shape, size
from archcalc.blocks.base import Block, Count, Strict, Version
from archcalc.blocks.constraints import OneTable
from archcalc.blocks.embedding import Embedding
from archcalc.blocks.heads import SomeRows
from archcalc.blocks.norm import Norm
from archcalc.blocks.unembedding import Unembedding, record_loss
from archcalc.errors import Invalid, Problem
from archcalc.spec import namerules
from archcalc.spec.crossing import refuse_no_source, refuse_no_vectors, refuse_unlike_uses, shared_blocks
from archcalc.spec.groups import LayerGroup
from archcalc.spec.layers import Layer, Scope
from archcalc.spec.mtp import MTP, Recording, refuse_no_layer
from archcalc.spec.published import Allowance, Initialization, Misprint, Published, Text
from archcalc.spec.shared import SharedBlock
from archcalc.spec.tapes import tape_of, without_sizes
from archcalc.tape.legend import Env, Size, add, anywhere, environment
from archcalc.tape.passes import RESIDUAL, Layers, Pass, Segment
from archcalc.tape.recording import Tape
from archcalc.tape.run import ONE, Run
from archcalc.tape.scopes import LAYER

SCHEMA = 0  # 1 when the first release freezes it; stands in every JSON that archcalc writes
MOST_KINDS_IN_ALL, MOST_BRANCHES_IN_ALL = 160, 320
"""Of layers, over all groups, and of their residual branches: what is counted, and takes the time. Like groups that
follow each other are one. Published models have 126 layers at most, and each may be another.
"""
MOST_NOTES = 100
"""Printed figures, and misprints, and assumptions, of one spec."""


def stretches(layers: tuple[LayerGroup, ...]) -> list[range]:
    """The groups that are counted as one, by index: those that are alike and follow each other, where there are many.

    While their kinds are not too many each is counted as it is written. Groups whose sizes are arrays are not
    compared.
    """
    if sum(len(group.kinds_in()) for group in layers) <= MOST_KINDS_IN_ALL:
        return [range(i, i + 1) for i in range(len(layers))]
    found: list[range] = []
    last = None
    for i, group in enumerate(layers):
        kind = group.model_copy(update={"repeat": 1}) if group.period == 1 else None
        try:
            alike = kind is not None and last is not None and hash(kind) == hash(last) and kind == last
        except TypeError:
            alike = False
        found[-1:] = [range(found[-1].start, i + 1)] if alike else [*found[-1:], range(i, i + 1)]
        last = kind
    return found


class Model(Strict):
    """An architecture. Nothing that changes a count has a default.

    `name`, `source`, `published`, `misprints`, `assumptions` and `allow` describe it; the rest is its shape, in the
    order of the forward pass.
    """

    model_config = ConfigDict(title="archcalc model", serialize_by_alias=True)

    schema_version: Version = Field(alias="schema", description="of this format; 1 when the first release freezes it")
    name: Annotated[str, Field(pattern=namerules.MODEL, max_length=100)] = Field(
        description="of the model: letters, digits, dots, dashes and underscores", examples=["gpt2"]
    )
    source: Text = Field(
        description="where the shape was published", examples=["Brown et al. 2020, arXiv:2005.14165, Table 2.1"]
    )
    vocab_size: Count = Field(description="rows of the token table, padding included", examples=[50_257])
    context_length: Count = Field(description="the most positions that it can take, in tokens", examples=[1_024])
    d_model: Count = Field(description="features of the residual stream", examples=[768])
    embedding: Embedding = Field(description="how tokens become vectors")
    layers: Annotated[tuple[LayerGroup, ...], Field(min_length=1, strict=False)] = Field(
        description="groups of layers, in order; each in one of three forms"
    )
    final_norm: Norm | None = Field(description="of the last layer's output; null: none")
    unembedding: Annotated[Unembedding, OneTable("embedding", "d_embedding"), SomeRows("vocab_size")] = Field(
        description="how the last vectors become logits"
    )
    mtp: MTP | None = Field(
        default=None, description="modules that predict further tokens, counted apart from all else; null: none"
    )
    initialization: Initialization = Field(
        default=Initialization(), description="how training starts; changes no count"
    )
    published: Annotated[tuple[Published, ...], Field(strict=False, max_length=MOST_NOTES)] = Field(
        default=(), description="figures that somebody printed; check compares the counts with them"
    )
    misprints: Annotated[tuple[Misprint, ...], Field(strict=False, max_length=MOST_NOTES)] = Field(
        default=(), description="values of the source that must be misprints; check shows them"
    )
    assumptions: Annotated[tuple[Text, ...], Field(strict=False, max_length=MOST_NOTES)] = Field(
        default=(),
        description="what these counts take for granted; printed with every result",
        examples=[["the paper does not say whether projections have biases; those of the code are counted"]],
    )
    allow: Annotated[tuple[Allowance, ...], Field(strict=False, max_length=MOST_NOTES)] = Field(
        default=(),
        description="rules of lint that the spec may break, each with the reason",
        examples=[[{"rule": "AC110", "why": "the tokenizer of the checkpoint has 50,257 tokens"}]],
    )

    @field_validator("layers")
    @classmethod
    def _few_stretches(cls, layers: tuple[LayerGroup, ...]) -> tuple[LayerGroup, ...]:
        kinds = [kind.layer for stretch in stretches(layers) for kind in layers[stretch[0]].kinds_in()]
        branches = sum(len(layer.residual_branches) for layer in kinds)
        for what, found, most in (
            ("different kinds of layers", len(kinds), MOST_KINDS_IN_ALL),
            ("residual branches in its kinds of layers", branches, MOST_BRANCHES_IN_ALL),
        ):
            if found > most:
                context = {"found": f"{found:,}", "what": what, "most": most}
                raise PydanticCustomError("one_of", "has {found} {what}; at most {most} are supported", context)
        refuse_no_source(layers)
        refuse_unlike_uses(layers)
        return layers

    @model_validator(mode="after")
    def _vectors_for_each(self) -> Self:
        per_layer = getattr(self.embedding, "per_layer", None)
        refuse_no_vectors(self.layers, None if per_layer is None else per_layer.d_per_layer)
        refuse_no_layer(self.mtp, self.layers)
        return self

    @property
    def n_logits(self) -> int:
        """How many tokens have a logit: all of the vocabulary, or the first of it."""
        return int(getattr(self.unembedding, "rows", None) or self.vocab_size)

    @property
    def n_layers(self) -> Size:
        """The number of layers, over all groups."""
        return sum(group.repeat for group in self.layers)

    @property
    def shared_blocks(self) -> dict[str, SharedBlock]:
        """The blocks that layers share, by name, each as its first use has it."""
        return shared_blocks(self.layers)

    def shortens(self, other: Self) -> bool:
        """Whether its context is a shorter one, which the weights of the other serve too: they have no positions."""
        return self.context_length < other.context_length and getattr(other.embedding, "positions", None) != "learned"

    def record(self, run: Run | None = None) -> Pass:
        """A pass in segments: the embedding, each kind of layers, and the head, with the loss in training.

        `run` defaults to Run(). Raises Invalid if the run is longer than the context.
        """
        run = run or ONE
        self._refuse(run)
        sizes = self.frame(run)
        found = [self._first(run, sizes), *self._layers(run, sizes), self.head(run, sizes, self.final_norm)]
        return Pass(run, found, self)

    def record_mtp(self, run: Run | None = None) -> Pass:
        """A pass of the modules of multi-token prediction alone, without segments where there are none."""
        run = run or ONE
        self._refuse(run)
        found: list[Segment] = []
        if self.mtp is not None:
            sizes = self.frame(run)
            head = self.head(run, sizes, None).replace(name="mtp_head", layers=self.mtp.layers)
            found = [self.mtp.record(self.layers, self.final_norm, run, sizes), head]
        return Pass(run, found, Recording(self.record_mtp))

    def scopes(self) -> list[list[Scope]]:
        """The blocks that state the sizes of each segment of a pass, in order.

        Of a pattern that is longer than its group also those of kinds that no layer is of, which have no segment.
        """
        inside = [
            kind.layer.scopes for stretch in stretches(self.layers) for kind in self.layers[stretch[0]].kinds_in()
        ]
        return [[_embedding_scope(self.embedding)], *inside, [Scope.of(self.final_norm, self.unembedding)]]

    def frame(self, run: Run) -> Env:
        """The sizes of the labels that the model and the run decide."""
        return {"D": self.d_model, "V": self.vocab_size, "P": self.context_length, "unit": 1, **run.sizes()}

    def _first(self, run: Run, sizes: Env) -> Segment:
        embedding = self.embedding

        def record(tape: Tape) -> None:
            x = tape.dropout("embedding_dropout", embedding.record(tape))
            if tape.handed_on:
                tape.result = x.name

        tape = tape_of(without_sizes(embedding), run, record)
        if tape.handed_on:
            sizes = {**sizes, "layers": self.n_layers}
        stated = environment(sizes, *_embedding_scope(embedding).sizes)
        places = (("embedding",),)
        return Segment("embedding", tape, stated, None, _deriving(embedding, run), places, lambda: embedding.cuts)

    def _layers(self, run: Run, sizes: Env) -> list[Segment]:
        """A segment for each kind of layers in each group."""
        found: list[Segment] = []
        start: Size = 0
        for stretch in stretches(self.layers):
            group = self.layers[stretch[0]]
            repeat = add(size("Model", "repeat", self.layers[i].repeat) for i in stretch)
            for kind in group.kinds_in():
                layers = Layers(start, repeat, group.period, kind.offsets)
                if isinstance(repeat, int) and not layers.count:
                    continue  # the pattern is longer than the group
                tape = tape_of(kind.layer.alike, run, partial(_record_layer, kind.layer))
                places = tuple(("layers", i, *kind.place) for i in stretch)
                stated = environment(sizes, *kind.layer.stated())
                derive, cuts = _deriving(kind.layer, run), kind.layer.cuts
                found.append(Segment("layers", tape, stated, layers, derive, places, cuts))
            start = start + repeat
        return found

    def head(self, run: Run, sizes: Env, norm: Norm | None) -> Segment:
        """What becomes of the last vectors: a norm, the logits, and in training the loss."""
        unembedding = self.unembedding

        def record(tape: Tape) -> None:
            x = RESIDUAL
            if norm is not None:
                with tape.scope("final_norm"):
                    x = norm.record(tape, x)
            logits = unembedding.record(tape, tape.view(x, N="S"))
            if run.phase == "training":
                record_loss(tape, logits)

        tape = tape_of((without_sizes(unembedding), without_sizes(norm)), run, record)
        stated = environment({**sizes, **run.head_sizes()}, *Scope.of(norm, unembedding).sizes)
        places = (("unembedding",),)
        return Segment("head", tape, stated, None, _deriving(unembedding, run), places, lambda: unembedding.cuts)

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


def _embedding_scope(embedding: Embedding) -> Scope:
    return Scope.of(embedding, getattr(embedding, "norm", None))


def _record_layer(layer: Layer, tape: Tape) -> None:
    with tape.scope(LAYER):
        layer.record(tape, RESIDUAL)


def _deriving(part: Layer | Block, run: Run) -> Any:
    """The sizes that a layer or a block derives in a run, of what is stated."""
    return lambda env: part.derived(env, run)
