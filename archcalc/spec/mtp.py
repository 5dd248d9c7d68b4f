"""Modules of multi-token prediction: each predicts one token further, and is counted apart from the model.

DeepSeek-AI 2024, arXiv:2412.19437, section 2.2: a norm of the last hidden vectors, a norm of the next token's own
vector, a projection of the two side by side, a layer, and a final norm; token table and head are the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic_core import PydanticCustomError

from archcalc.blocks.base import Block
from archcalc.spec.crossing import reads_other_layers
from archcalc.spec.layers import AnyLayer, Layer
from archcalc.tape.legend import Env, environment
from archcalc.tape.ops import Tensor
from archcalc.tape.passes import RESIDUAL, Layers, Pass, Segment
from archcalc.tape.recording import Tape
from archcalc.tape.run import Run
from archcalc.units import several

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archcalc.blocks.norm import Norm
    from archcalc.spec.model import Model

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

    def summary(self) -> str:
        """The modules in a few words, for a report."""
        layer = "a layer like the last" if self.layer is None else self.layer.summary()
        return f"{several(self.n_modules, 'module')} of multi-token prediction, each with {layer}"


def refuse_no_layer(model: Model) -> None:
    """Raise an error that pydantic tells where a module's layer reads what other layers of the model made."""
    if model.mtp is not None and reads_other_layers(layer_of(model)):
        what = "has modules whose layer reads what other layers made; mtp.layer must be one that does not"
        raise PydanticCustomError("one_of", what)


def layer_of(model: Model) -> Layer:
    """The layer that each module has."""
    if model.mtp is not None and model.mtp.layer is not None:
        return model.mtp.layer
    group = model.layers[-1]
    return next(kind.layer for kind in group.kinds_in() if group.period - 1 in kind.offsets)


def record_modules(model: Model, modules: MTP, run: Run, sizes: Env) -> Pass:
    """A pass through the modules, on tapes of their own: their layers, then the model's head after each."""
    within = Layers(0, modules.n_modules)
    layer = layer_of(model)
    stated = environment(sizes, *_norms(model.final_norm), layer.stated())
    body = Segment("mtp", _body(model, layer, run), stated, within, _deriving(layer, run), (_place(model),))
    head = model.head(run, sizes, None).replace(name="mtp_head", layers=within)
    return Pass(run, [body, head], _Modules(model))


class _Modules:
    """What records the modules of a model in other runs."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def record(self, run: Run) -> Pass:
        return self.model.record_mtp(run)


def _place(model: Model) -> tuple[str | int, ...]:
    """Where the spec describes the modules' layer."""
    if model.mtp is not None and model.mtp.layer is not None:
        return ("mtp", "layer")
    group, last = model.layers[-1], len(model.layers) - 1
    place = next(kind.place for kind in group.kinds_in() if group.period - 1 in kind.offsets)
    return ("layers", last, *place)


def _norms(norm: Norm | None) -> list[Env]:
    return [norm.sizes()] if norm else []


def _deriving(layer: Layer, run: Run) -> Any:
    """The sizes that a module derives in a run, of what is stated."""
    return lambda env: {"joined": 2 * env["D"], **layer.derived(env, run)}


def _body(model: Model, layer: Layer, run: Run) -> Tape:
    """One module up to its final norm. The next token's vector has been made before: the model reads it too."""
    tape, norm = Tape(run), model.final_norm
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
