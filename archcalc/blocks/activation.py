"""Activations: what an MLP does to each hidden number by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from archcalc.blocks.base import Strict
from archcalc.tape.ops import Tensor
from archcalc.tape.recording import Tape

Activation = Literal["gelu_tanh", "gelu", "gelu_quick", "relu", "relu2", "silu", "xielu"]

ACTIVATION = (
    "gelu: x Phi(x); gelu_tanh: GPT-2's approximation of it; gelu_quick: x sigmoid(1.702 x); relu; relu2: its square; "
    "silu: x sigmoid(x); xielu: Apertus' own, with two learned numbers"
)


CUT = "how large hidden numbers are cut (gpt-oss); null: not"

Positive = Annotated[float, Field(gt=0, le=1e9)]


class Cut(Strict):
    """gpt-oss: large hidden numbers of a gated MLP are cut, the gate's from above, the others' on both sides."""

    limit: Positive = Field(description="the largest number that is left", examples=[7.0])
    gate: Literal["before", "after"] = Field(description="whether the gate is cut before its activation, or after it")
    plus_one: bool = Field(description="whether 1 is added to what the gate multiplies, after it is cut")


def gated(tape: Tape, name: Activation, gate: Tensor, up: Callable[[], Tensor], cut: Cut | None) -> Tensor:
    """Record activation(gate) * up; `up` records what is multiplied, in its turn."""
    if cut is not None and cut.gate == "before":
        gate = tape.pointwise("cut_gate", gate, saves=(gate,))
    active = record(tape, name, gate)
    if cut is not None and cut.gate == "after":
        active = tape.pointwise("cut_gate", active, saves=(active,))
    other = up()
    if cut is not None:
        other = tape.pointwise("cut_up", other, saves=(other,))
        other = tape.pointwise("one_more", other, passes=True) if cut.plus_one else other
    with tape.span("gated"):
        return tape.pointwise("product", active, other, saves=(active, other))


def record(tape: Tape, name: Activation, x: Tensor) -> Tensor:
    """Record an activation, under its name: one kernel, or op by op where the run asks for that."""
    with tape.span(name):
        how = _KINDS[name]
        return (how.eager if tape.run.activation == "eager" and how.eager else how.fused)(tape, x)


def _fused(per_point: int) -> Callable[[Tape, Tensor], Tensor]:
    """One kernel that reads its input again on its way back."""

    def one(tape: Tape, x: Tensor) -> Tensor:
        return tape.pointwise("activated", x, saves=(x,), per_point=per_point)

    return one


def _gelu_tanh_eager(tape: Tape, x: Tensor) -> Tensor:
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), from left to right: transformers' NewGELUActivation."""
    half = tape.pointwise("half", x)
    cubed = tape.pointwise("cubed", x, saves=(x,), per_point=2, scratch=2)  # 3 * x^2 on its way back
    scaled = tape.pointwise("scaled", cubed)
    inner = tape.sum("inner", x, scaled)
    argument = tape.pointwise("argument", inner)
    tanh = tape.pointwise("tanh", argument, keeps=True)
    one_more = tape.pointwise("one_more", tanh, passes=True)
    return tape.pointwise("activated", half, one_more, saves=(half, one_more))


def _gelu_eager(tape: Tape, x: Tensor) -> Tensor:
    """0.5 x (1 + erf(x / sqrt(2))), from left to right: transformers' GELUActivation with use_gelu_python."""
    half = tape.pointwise("half", x)
    argument = tape.pointwise("argument", x)
    erf = tape.pointwise("erf", argument, saves=(argument,), scratch=4)  # 2/sqrt(pi) * exp(-(x^2))
    one_more = tape.pointwise("one_more", erf, passes=True)
    return tape.pointwise("activated", half, one_more, saves=(half, one_more))


def _relu(tape: Tape, x: Tensor) -> Tensor:
    """What came out says where the gradient goes."""
    return tape.pointwise("activated", x, keeps=True)


def _relu2(tape: Tape, x: Tensor) -> Tensor:
    """So et al. 2021, arXiv:2109.08668: relu(x)^2."""
    positive = tape.pointwise("positive", x, keeps=True)
    return tape.pointwise("activated", positive, saves=(positive,), scratch=2)  # 2 * relu(x)^1 on its way back


def _xielu(tape: Tape, x: Tensor) -> Tensor:
    """Huang and Schlag 2024, arXiv:2411.13010, counted as one kernel, with its learned alphas."""
    alphas = [tape.weight(f"alpha_{side}", "unit", "activations") for side in ("p", "n")]
    return tape.pointwise("activated", x, *alphas, saves=(x,), per_point=8)


class _Kind(NamedTuple):
    fused: Callable[[Tape, Tensor], Tensor]
    eager: Callable[[Tape, Tensor], Tensor] | None = None


# Operations a number: x/sqrt(2), erf, +1, *x, /2; and x*x*x, *0.044715, +x, *sqrt(2/pi), tanh, +1, *x, /2.
_KINDS: dict[Activation, _Kind] = {
    "gelu": _Kind(_fused(5), _gelu_eager),
    "gelu_tanh": _Kind(_fused(9), _gelu_tanh_eager),
    "gelu_quick": _Kind(_fused(4)),
    "relu": _Kind(_relu),
    "relu2": _Kind(_relu2),
    "silu": _Kind(_fused(3)),
    "xielu": _Kind(_xielu),
}
