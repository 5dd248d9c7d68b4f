"""A running model watched from outside: what PyTorch does to the data at each step, and a vector along its way.

Nothing in the model knows of it. Functions are seen as the model's file calls them (torch.overrides), their FLOPs are
those of PyTorch's own counter, modules are known by their hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from archcalc_reference.model.transformer import Transformer

# The same numbers in another order, and numbers that are known before there is a text: no steps of the journey.
_LAYOUT = {"view", "reshape", "permute", "transpose", "flatten", "unflatten", "clone"}
# Where vectors are other than the residual stream's: heads, scores, what the MLP asks, logits.
_ELSEWHERE = (".attention", ".query", ".key", ".value", ".mlp", ".up", "unembedding")
_KNOWN = {"arange", "full", "triu"}


class Call(NamedTuple):
    """One function that the model called: in which module, what came out of it, with which weights.

    `flops` are PyTorch's count. `mean_length` is that of the residual stream's vectors, or those that come to it; None
    elsewhere, and on the meta device, which has no numbers.
    """

    module: str
    function: str
    shape: tuple[int, ...]
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    flops: int
    mean_length: float | None


class Along(NamedTuple):
    """A vector at one place of its way."""

    place: str
    vector_D: Tensor


def watch(model: Transformer, tokens_BS: Tensor) -> tuple[list[Call], Tensor]:
    """Run a model on tokens by math attention; every call that made new numbers of the text, and the logits.

    Raises ValueError where there are more tokens than the context has positions.
    """
    with torch.inference_mode(), FlopCounterMode(display=False) as counter, _Watch(model, counter) as watch_:
        logits_BSV = model(tokens_BS).logits
    return watch_.calls, logits_BSV


class _Watch(TorchFunctionMode):
    """Sees each call to a function of PyTorch; those that it makes inside are not seen."""

    def __init__(self, model: Transformer, counter: FlopCounterMode) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._counter = counter
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._inside: list[str] = []
        self._model = model
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Watch:
        for name, module in self._model.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._entering(name)))
            self._hooks.append(module.register_forward_hook(self._leaving))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda *_: self._inside.append(name)

    def _leaving(self, *_: Any) -> None:
        self._inside.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(out, Tensor) and name not in _LAYOUT | _KNOWN:
            given = (*args, *(kwargs or {}).values())
            weights = tuple((self._names[id(x)], tuple(x.shape)) for x in given if id(x) in self._names)
            flops = self._counter.get_total_flops() - before
            self.calls.append(
                Call(self._inside[-1], name, tuple(out.shape), weights, flops, _length(out, self._inside[-1]))
            )
        return out


def _length(out: Tensor, module: str) -> float | None:
    if out.is_meta or module.endswith(_ELSEWHERE):
        return None
    return float(torch.linalg.vector_norm(out.double(), dim=-1).mean())


@torch.inference_mode()  # type: ignore[untyped-decorator]
def vector_along(model: Transformer, tokens: list[int], position: int) -> list[Along]:
    """The vector of one position where it stands: alone, placed, after each layer's attention and MLP, after the norm.

    In float64. Raises ValueError where there are more tokens than the context has positions.
    """
    found: list[Along] = []

    def keep(place: str) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            given = arguments[-1]  # what a module gave, or what it got
            data_BSD = given[0] if isinstance(given, tuple) else given
            found.append(Along(place, data_BSD[0, position].double()))

        return hook

    with _hooked(model, keep):
        model(torch.tensor([tokens], device=model.embedding.token.weight.device))
    return found


@contextmanager
def _hooked(model: Transformer, keep: Callable[[str], Callable[..., None]]) -> Iterator[None]:
    """Each place of the residual stream is what a module gives, or what the norm before the MLP gets."""
    hooks = [
        model.embedding.token.register_forward_hook(keep("token")),
        model.embedding.register_forward_hook(keep("embedding")),
        model.final_norm.register_forward_hook(keep("final_norm")),
    ]
    for i, layer in enumerate(model.layers):
        hooks.append(layer.mlp_norm.register_forward_pre_hook(keep(f"layers.{i}.attention")))
        hooks.append(layer.register_forward_hook(keep(f"layers.{i}.mlp")))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
