"""Layers: residual branches, and the short form of the two that most layers have.

A layer is a list of branches, each `x + post_norm(mixer(norm(x)))`, one after the other or side by side; what one
makes may be added behind the last. The short form names the two of a decoder, and has what both share once:

    {norm: ..., attention: ..., mlp: ...}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from archcalc.blocks.attention import Attention
from archcalc.blocks.base import Block, Strict
from archcalc.blocks.mlp import MLP
from archcalc.blocks.norm import Norm
from archcalc.spec.branch import Branch
from archcalc.spec.tapes import without_sizes
from archcalc.tape.legend import MARK, Cuts, Env
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import Where
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

_SCALAR = "whether what the layer makes is multiplied by a number of its own, a buffer and no parameter (Gemma 4)"
_SPOKEN = {"mlp": "MLP", "mamba": "Mamba", "mamba2": "Mamba-2"}  # a branch's name in words, where that is another
MOST_BRANCHES = 16


class Scope(NamedTuple):
    """Blocks whose labels are one scope, and the sizes that each states.

    `own` are the labels of its blocks that a scope before it has too, each with what stands for it.
    """

    blocks: tuple[Block, ...]
    own: dict[str, str]
    sizes: tuple[Env, ...]

    @classmethod
    def of(cls, *blocks: Block | None) -> Scope:
        """The scope of blocks that stand outside the layers."""
        there = tuple(block for block in blocks if block is not None)
        return cls(there, {}, tuple(block.sizes() for block in there))

    def marked(self) -> Iterable[Env]:
        """The sizes that its blocks state, by the labels as the layer has them."""
        own = self.own
        return [{own.get(label, label): n for label, n in one.items()} for one in self.sizes] if own else self.sizes


class Layer(Strict):
    """Residual branches, however they are written."""

    @property
    def residual_branches(self) -> tuple[Branch, ...]:
        """The branches, in order."""
        raise NotImplementedError

    def placed_mixers(self) -> Iterator[tuple[Where, Branch]]:
        """The branches, each with the place of its mixer in the layer as it is written."""
        raise NotImplementedError

    @property
    def side_by_side(self) -> bool:
        """Whether all branches read the layer's input, and not what the one before made of it."""
        raise NotImplementedError

    @property
    def has_scalar(self) -> bool:
        """Whether what it makes is multiplied by a number of its own."""
        return bool(getattr(self, "scalar", False))

    def summary(self, above: Layer | None = None) -> str:
        """The layer in a few words, for a report; what the one told `above` has too is not told again."""
        branches = self.residual_branches
        told = {branch.name: branch.mixer.summary() for branch in (above.residual_branches if above else ())}
        norms = [branch.norm if isinstance(branch.norm, Norm) else branch.post_norm for branch in branches]
        kinds = dict.fromkeys(norm.summary() for norm in norms if norm)
        more = [
            "side by side" * self.side_by_side,
            "post norms" * any(branch.norm and branch.post_norm for branch in branches),
            *(f"{branch.name} added at the end" for branch in branches if branch.joins == "end"),
            "a scalar" * self.has_scalar,
        ]
        words: list[str] = []
        for branch in branches:
            mixer = branch.mixer.summary()
            same = f"the same {_SPOKEN.get(branch.name, branch.name.replace('_', ' '))}"
            words += [branch.added.summary()] if branch.added is not None else []
            words.append(min(same, mixer, key=len) if told.get(branch.name) == mixer else mixer)
        return "; ".join([*words, *kinds, *filter(None, more)])

    @property
    def alike(self) -> object:
        """What it shares with layers that differ from it in sizes alone."""
        return self._alike

    @cached_property  # by a name that pydantic, which goes through all others, leaves alone
    def _alike(self) -> object:
        return without_sizes(self)

    def stated(self) -> Iterable[Env]:
        """The sizes that each of its blocks states; labels that two branches have are marked, as `scopes` says."""
        return [sizes for scope in self.scopes for sizes in scope.marked()]

    def derived(self, env: Env, run: Run) -> Env:
        """The sizes that follow from all that is stated."""
        found: dict[str, Any] = {}
        shared: dict[str, Any] | None = None
        for blocks, own, sizes in self.scopes:
            for block, stated in zip(blocks, sizes, strict=True):
                if type(block).derived is Block.derived and not block.derives:
                    continue  # most: it derives nothing
                if shared is None:
                    of_blocks = {label for each in self.stated() for label in each}
                    shared = {label: n for label, n in env.items() if label not in of_blocks}
                inside = {**shared, **{label: env[own.get(label, label)] for label in stated}}
                found |= {own[label]: env[label] for label in block.derives if label in own and label in env}
                found |= {own.get(label, label): n for label, n in block.derived(inside, run).items()}
        return found

    @property
    def scopes(self) -> list[Scope]:
        """The blocks whose labels are one scope: those of each branch, behind what is added before its norm."""
        return self._scopes

    @cached_property
    def _scopes(self) -> list[Scope]:
        taken: dict[str, int] = {}
        scopes: list[Scope] = []
        for branch in self.residual_branches:
            added: list[tuple[Block, ...]] = [] if branch.added is None else [(branch.added,)]
            for blocks in (*added, tuple(branch.blocks)):
                sizes = tuple([block.sizes() for block in blocks])
                own = set().union(*sizes, *[block.derives for block in blocks])
                again = (
                    {}
                    if own.isdisjoint(taken)
                    else {label: label + MARK * taken[label] for label in own & taken.keys()}
                )
                scopes.append(Scope(blocks, again, sizes))
                for label in own:
                    taken[label] = taken.get(label, 0) + 1
        return scopes

    def cuts(self) -> Cuts:
        """The labels that each axis of a plan cuts, of all its blocks."""
        found: dict[str, list[tuple[str, ...]]] = {}
        for blocks, own, _ in self.scopes:
            for block in blocks:
                for axis, chains in (block.cuts or {}).items():
                    found.setdefault(axis, []).extend(tuple(own.get(x, x) for x in chain) for chain in chains)
        return {axis: tuple(chains) for axis, chains in found.items()}

    def record(self, tape: Tape, x: Tensor) -> Tensor:
        """Record one layer. N becomes S where a mixer computes, and N again after it."""
        entering, normed, marks = x, None, iter([scope.own for scope in self.scopes])
        late: list[tuple[Branch, Tensor]] = []
        for branch in self.residual_branches:
            source = entering if self.side_by_side else x
            if branch.added is not None:
                with tape.block(next(marks)), tape.scope(f"{branch.name}_added"):
                    made = branch.added.record(tape, source)
                with tape.span(f"{branch.name}_with_added"):
                    source = tape.sum("sum", source, made)
            with tape.block(next(marks)):
                if isinstance(branch.norm, Norm):
                    with tape.scope(f"{branch.name}_norm"):
                        normed = branch.norm.record(tape, source)
                elif branch.norm is None:
                    normed = source
                assert normed is not None  # noqa: S101  (the first branch shares no norm: see BranchLayer)
                x = normed if branch.residual == "normed" else x
                read = normed
                if branch.input_scale is not None:
                    with tape.span(f"{branch.name}_input"):
                        read = tape.pointwise("scaled", normed)
                with tape.scope(branch.name):
                    y = branch.mixer.record(tape, tape.view(read, N="S") if branch.mixer.gathers else read)
                if branch.post_norm is not None:
                    with tape.scope(f"{branch.name}_post_norm"):
                        y = branch.post_norm.record(tape, y)
            y = tape.dropout(f"{branch.name}_dropout", y)
            if branch.scale is not None:
                with tape.span(f"{branch.name}_scale"):
                    y = tape.pointwise("scaled", y)
            if branch.residual_scale is not None:
                with tape.span(f"{branch.name}_residual_scale"):
                    x = tape.pointwise("scaled", x)
            if branch.joins == "end":
                late.append((branch, y))
                continue
            with tape.span(f"{branch.name}_residual"):
                x = tape.sum("sum", x, y)
            if branch.stream_norm is not None:
                with tape.scope(f"{branch.name}_stream_norm"):
                    x = branch.stream_norm.record(tape, x)
        for branch, y in late:
            with tape.span(f"{branch.name}_residual"):
                x = tape.sum("sum", x, y)
        if self.has_scalar:
            with tape.span("scalar"):
                x = tape.pointwise("scaled", x, tape.buffer("scalar", "unit"))
        return x


class TwoBranchLayer(Layer):
    """The short form: an attention, then an MLP, with the norms that both have."""

    norm: Norm | None = Field(description="before the attention, and again before the MLP; null: none")
    attention: Attention = Field(description="mixes the vectors of different positions")
    mlp: MLP = Field(description="transforms each vector by itself")
    post_norm: Norm | None = Field(
        default=None, description="of what each of the two made, before it is added; null: none"
    )
    stream_norm: Norm | None = Field(default=None, description="of the sum after each of the two; null: none")
    parallel: Literal["shared", "own"] | None = Field(
        default=None,
        description="both read the layer's input, through one shared norm or each through its own; null: the MLP "
        "reads what the attention made of it",
    )
    scale: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="what each of the two is multiplied by before it is added; null: nothing"
    )
    scalar: bool = Field(default=False, description=_SCALAR)

    factors: ClassVar[tuple[str, ...]] = ("scale",)

    @property
    def residual_branches(self) -> tuple[Branch, ...]:
        return self._both

    @cached_property
    def _both(self) -> tuple[Branch, ...]:
        shared: dict[str, Any] = {"post_norm": self.post_norm, "stream_norm": self.stream_norm, "scale": self.scale}
        second: Any = "shared" if self.norm and self.parallel == "shared" else self.norm
        return (
            Branch.model_construct(name="attention", norm=self.norm, mixer=self.attention, **shared),
            Branch.model_construct(name="mlp", norm=second, mixer=self.mlp, **shared),
        )

    def placed_mixers(self) -> Iterator[tuple[Where, Branch]]:
        return (((branch.name,), branch) for branch in self.residual_branches)

    @property
    def side_by_side(self) -> bool:
        return self.parallel is not None


class BranchLayer(Layer):
    """The long form: any branches."""

    branches: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=MOST_BRANCHES, strict=False)] = Field(
        description="the residual branches, in order"
    )
    parallel: bool = Field(
        default=False, description="whether all branches read the layer's input, and not what the one before made"
    )
    scalar: bool = Field(default=False, description=_SCALAR)

    @property
    def residual_branches(self) -> tuple[Branch, ...]:
        return self.branches

    def placed_mixers(self) -> Iterator[tuple[Where, Branch]]:
        return ((("branches", i, "mixer"), branch) for i, branch in enumerate(self.branches))

    @property
    def side_by_side(self) -> bool:
        return self.parallel

    @model_validator(mode="after")
    def _branches_agree(self) -> Self:
        names: list[str] = []
        for i, branch in enumerate(self.branches):
            before = self.branches[i - 1] if i else None
            if branch.norm == "shared" and (before is None or before.norm is None):
                what = "branch {name} shares a norm: it must follow one with a norm"
                raise PydanticCustomError("one_of", what, {"name": branch.name})
            if branch.residual == "normed" and self.parallel:
                what = "branch {name} adds to what its norm made: the branches must not be parallel"
                raise PydanticCustomError("one_of", what, {"name": branch.name})
            if branch.residual == "normed" and branch.norm == "shared":
                what = "branch {name} adds to what its norm made: it must have a norm of its own"
                raise PydanticCustomError("one_of", what, {"name": branch.name})
            if why := branch.why_not_late(parallel=self.parallel, last=i + 1 == len(self.branches)):
                what = "branch {name} joins at the end: {why}"
                raise PydanticCustomError("one_of", what, {"name": branch.name, "why": why})
            if branch.norm == "shared" and branch.added is not None:
                what = "branch {name} adds a shared block before its norm: it must have a norm of its own, or none"
                raise PydanticCustomError("one_of", what, {"name": branch.name})
            ends = ("_norm", "_added", "_post_norm", "_stream_norm")
            names += [branch.name, *(f"{branch.name}{end}" for end in ends)]
        if sum(branch.added is not None for branch in self.branches) > 1:
            raise PydanticCustomError("one_of", "has more than one branch to which a shared block is added")
        if len(set(names)) != len(names):
            raise PydanticCustomError("one_of", "has two branches whose weights would have one name")
        return self
