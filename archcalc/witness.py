"""The proof: the reference model, built from the same spec, has the tensors that were counted."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from archcalc.count import Parameters, Stored, params
from archcalc.errors import Invalid, Missing, Problem
from archcalc.spec import Model
from archcalc.verdict import Check, Verdict

Shape = tuple[int, ...]


def prove(model: Model) -> Verdict:
    """Build the model on PyTorch's meta device, at full size, and compare every tensor's name and shape.

    Raises Missing without PyTorch, Invalid for a model larger than PyTorch can describe.
    """
    try:
        import torch

        from archcalc_reference import Transformer
    except ModuleNotFoundError as error:
        fix = "pip install 'archcalc[torch]'"
        raise Missing(Problem("verify", f"needs the package {error.name}", suggestion=fix)) from None
    try:
        with torch.device("meta"):
            reference = Transformer(model)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Invalid(Problem(model.name, f"is too large for PyTorch to describe: {reason}")) from None
    built = {name: tuple(parameter.shape) for name, parameter in reference.named_parameters()}
    witness = f"PyTorch {torch.__version__} on the meta device, Python {platform.python_version()}"
    return Verdict(model.name, tuple(compare(params(model), built)), witness)


def compare(counts: Parameters, built: dict[str, Shape]) -> Iterator[Check]:
    """Every tensor that was counted beside the one that was built; alike layers stand in one line."""
    measured = sum(_elements(shape) for shape in built.values())
    yield _total("parameters", counts.stored, measured)
    tensors = sum(tensor.layers for tensor in counts.tensors)
    yield _total("tensors", tensors, len(built))
    left = dict(built)
    for tensor in counts.tensors:
        outcomes: dict[Shape | None, list[str]] = {}
        for name in _names(tensor):
            outcomes.setdefault(left.pop(name, None), []).append(name)
        for shape, names in outcomes.items():
            reason = None if shape == tensor.shape else "NOT BUILT" if shape is None else "ANOTHER SHAPE"
            yield Check(_together(tensor, names), list(tensor.shape), _listed(shape), shape == tensor.shape, reason)
    for name, shape in left.items():
        yield Check(name, None, list(shape), equal=False, reason="NOT COUNTED")


def _total(what: str, counted: int, measured: int) -> Check:
    return Check(what, counted, measured, counted == measured, None if counted == measured else "DIFFERS")


def _names(tensor: Stored) -> list[str]:
    if tensor.first is None:
        return [tensor.name]
    return [tensor.name.replace("{i}", str(tensor.first + i)) for i in range(tensor.layers)]


def _together(tensor: Stored, names: list[str]) -> str:
    """One name for tensors that had the same outcome: the pattern for all of a group, else the first and how many."""
    if len(names) == 1:
        return names[0]
    if len(names) == tensor.layers:
        return f"{tensor.name}, {tensor.first} to {tensor.first + tensor.layers - 1}"
    return f"{names[0]} and {len(names) - 1:,} more layers"


def _listed(shape: Shape | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _elements(shape: Shape) -> int:
    n = 1
    for size in shape:
        n *= size
    return n
