"""Modules of multi-token prediction: each predicts one token further, and is counted apart from the model.

DeepSeek-AI 2024, arXiv:2412.19437, section 2.2: a norm of the last hidden vectors, a norm of the next token's own
vector, a projection of the two side by side, a layer, and a final norm; token table and head are the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Block
from archcalc.blocks.norm import Norm
from archcalc.spec.crossing import reads_other_layers
from archcalc.spec.groups import AnyLayer, Kind, LayerGroup
from archcalc.spec.layers import Layer
from archcalc.tape.legend import Env, environment
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import RESIDUAL, Layers, Pass, Segment
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run

MOST_MODULES = 64
PREFIX = "mtp."
"""What the paths of its weights begin with."""


class MTP(Block):
    """Modules that are alike, one after the other, each with weights of its own."""

    n_modules: Annotated[int, Field(ge=1, le=MOST_MODULES)] = Field(
        description="how many modules, each of which predicts one token further"
    )
    layer: AnyLayer | None = Field(
        default=None,
        description="the layer of each module, in one of the two forms without `repeat`; null: as the last of the "
        "model's last group",
    )

    labels: ClassVar[Mapping[str, str]] = {
        "joined": "features of a hidden vector and of the next token's, side by side (2 x d_model)",
    }

    def layer_in(self, groups: Sequence[LayerGroup]) -> Layer:
        """The layer of each module, in a model of these groups."""
        return _last_kind(groups).layer if self.layer is None else self.layer

    def record(self, groups: Sequence[LayerGroup], norm: Norm | None, run: Run, sizes: Env) -> Segment:
        """The modules up to their final norms, all of which are as the model's `norm`, on a tape of their own."""
        layer = self.layer_in(groups)
        place = ("layers", len(groups) - 1, *_last_kind(groups).place) if self.layer is None else ("mtp", "layer")
        stated = environment(sizes, norm.sizes() if norm else {}, *layer.stated())
        return Segment("mtp", _tape(layer, norm, run), stated, self.layers, _deriving(layer, run), (place,))

    @property
    def layers(self) -> Layers:
        """The modules, as a segment counts layers."""
        return Layers(0, self.n_modules)


def refuse_no_layer(modules: MTP | None, groups: Sequence[LayerGroup]) -> None:
    """Raise an error that pydantic tells where a module's layer reads what other layers of the model made."""
    if modules is not None and reads_other_layers(modules.layer_in(groups)):
        what = "has modules whose layer reads what other layers made; mtp.layer must be one that does not"
        raise PydanticCustomError("one_of", what)


class Recording(NamedTuple):
    """What records passes by a function: those of modules."""

    record: Callable[[Run], Pass]


def _last_kind(groups: Sequence[LayerGroup]) -> Kind:
    """The kind of layers at the end of the last group's pattern."""
    group = groups[-1]
    return next(kind for kind in group.kinds_in() if group.period - 1 in kind.offsets)


def _deriving(layer: Layer, run: Run) -> Any:
    """The sizes that a module derives in a run, of what is stated."""
    return lambda env: {"joined": 2 * env["D"], **layer.derived(env, run)}


def _tape(layer: Layer, norm: Norm | None, run: Run) -> Tape:
    """One module up to its final norm. The next token's vector has been made before: the model reads it too."""
    tape = Tape(run)
    with tape.scope("mtp.{i}"):
        hidden, token = RESIDUAL, Tensor("next_token", ("B", "N", "D"))
        if norm is not None:
            with tape.scope("hidden_norm"):
                hidden = norm.record(tape, hidden)
            with tape.scope("token_norm"):
                token = norm.record(tape, token)
        both = tape.join("side_by_side", "B N joined", token, hidden)
        x = tape.linear("projection", "B N D", both, "D joined", part="mtp_projection", bias=False)
        with tape.scope("layer"):
            x = layer.record(tape, x)
        if norm is not None:
            with tape.scope("final_norm"):
                norm.record(tape, x)
    return tape
