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

from archcalc_reference.model.layer import Branch, Layer
from archcalc_reference.model.transformer import Transformer

# The same numbers in another order, and numbers that are known before there is a text: no steps of the journey.
_LAYOUT = {"view", "reshape", "permute", "transpose", "flatten", "unflatten", "clone"}
_KNOWN = {"arange"}
_LAST = ("output", "down")  # of a mixer's matrices: what it makes is added to the residual stream


class Call(NamedTuple):
    """One function that the model called: in which module, what came out of it, with which weights.

    `flops` are PyTorch's count. Lengths are those of vectors of the residual stream, or of what comes to it: of the
    first position, at which attention looks when it looks for nothing and whose vector may be a hundred times longer
    (an attention sink: Xiao et al. 2023, arXiv:2309.17453), and the mean of all others. None elsewhere, where there is
    one position, and on the meta device, which has no numbers.
    """

    module: str
    function: str
    shape: tuple[int, ...]
    weights: tuple[tuple[str, tuple[int, ...]], ...]
    flops: int
    first_length: float | None
    mean_length: float | None


class Along(NamedTuple):
    """A vector at one place of its way."""

    place: str
    vector_D: Tensor


def watch(model: Transformer, tokens_BS: Tensor) -> tuple[list[Call], Tensor]:
    """Run a model on tokens by math attention; every call that made new numbers of the text, and the logits.

    Raises ValueError where there are more tokens than the context has positions.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Watch(model, counter) as watch_:
        logits_BSV = model(tokens_BS).logits
    return watch_.calls, logits_BSV


class _Watch(TorchFunctionMode):
    """Sees each call to a function of PyTorch; those that it makes inside are not seen."""

    def __init__(self, model: Transformer, counter: FlopCounterMode) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._counter = counter
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._elsewhere = set(_elsewhere(model))
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
        out = given_back = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if isinstance(out, tuple) and out:
            out = out[0]  # a norm's statistics come beside it
        # What the model itself calls, outside of its parts, makes masks and angles, which are those of any text.
        if isinstance(out, Tensor) and out.dim() and self._inside[-1] and name not in _LAYOUT | _KNOWN:
            given = (*args, *(kwargs or {}).values())
            weights = tuple((self._names[id(x)], tuple(x.shape)) for x in given if id(x) in self._names)
            flops = self._counter.get_total_flops() - before
            self.calls.append(Call(self._inside[-1], name, tuple(out.shape), weights, flops, *self._lengths(out)))
        return given_back

    def _lengths(self, out: Tensor) -> tuple[float | None, float | None]:
        if out.is_meta or self._inside[-1] in self._elsewhere or out.shape[-1] != self._model.spec.d_model:
            return None, None
        first, *others = torch.linalg.vector_norm(out.double(), dim=-1).flatten().tolist()
        return first, sum(others) / len(others) if others else None


def _elsewhere(model: Transformer) -> Iterator[str]:
    """The modules whose vectors are others than the residual stream's: heads, scores, what an MLP asks, logits."""
    mixers = {id(branch.mixer) for layer in model.layers for branch in layer.branches}
    for name, module in model.named_modules():
        if module is model.unembedding:
            yield from (name, f"{name}.projection")
        if id(module) in mixers:
            yield from (f"{name}.{part}".rstrip(".") for part, _ in module.named_modules() if part not in _LAST)


@torch.inference_mode()  # type: ignore[untyped-decorator]
def vector_along(model: Transformer, tokens: list[int], position: int) -> list[Along]:
    """The vector of one position where it stands: alone, placed, after each branch of each layer, after the norm.

    In float64. Raises ValueError where there are more tokens than the context has positions.
    """
    found: list[Along] = []

    def keep(place: str, data_BSD: Tensor) -> None:
        found.append(Along(place, data_BSD[0, position].double()))

    with _hooked(model, keep):
        model(torch.tensor([tokens], device=model.embedding.token.weight.device))
    return found


@contextmanager
def _hooked(model: Transformer, keep: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell `keep` of each place of the residual stream, as it is there."""

    def after(module: Any, place: str) -> RemovableHandle:
        hook: RemovableHandle = module.register_forward_hook(lambda _module, _given, made: keep(place, made))
        return hook

    hooks = [after(model.embedding.token, "token"), after(model.embedding, "embedding")]
    for i, layer in enumerate(model.layers):
        hooks += _along_layer(layer, f"layers.{i}", keep)
    if model.final_norm is not None:
        hooks.append(after(model.final_norm, "final_norm"))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _along_layer(layer: Layer, name: str, keep: Callable[[str, Tensor], None]) -> Iterator[RemovableHandle]:
    """The stream is what a layer gets, and to that each branch adds what its last module makes."""
    stream: list[Tensor] = []
    late: list[tuple[str, Tensor]] = []

    def entering(_layer: Any, given: Any) -> None:
        stream[:] = [given[0]]

    def added(branch: Branch, place: str) -> Callable[..., None]:
        def hook(_module: Any, _given: Any, made_BSD: Tensor) -> None:
            if branch.waits:
                late.append((place, made_BSD if branch.scale is None else made_BSD * branch.scale))
                return
            kept_BSD = stream[0] if branch.residual_scale is None else stream[0] * branch.residual_scale
            stream[0] = kept_BSD + (made_BSD if branch.scale is None else made_BSD * branch.scale)
            if branch.stream_norm is None:
                keep(place, stream[0])
            while late and branch is layer.branches[-1]:
                later, waited_BSD = late.pop(0)
                stream[0] = stream[0] + waited_BSD
                keep(later, stream[0])

        return hook

    def normed(place: str) -> Callable[..., None]:
        def hook(_module: Any, _given: Any, made_BSD: Tensor) -> None:
            stream[0] = made_BSD
            keep(place, made_BSD)

        return hook

    def replaced(_module: Any, _given: Any, made_BSD: Tensor) -> None:
        stream[0] = made_BSD

    yield layer.register_forward_pre_hook(entering)
    for branch in layer.branches:
        place = f"{name}.{branch.name}"
        if branch.keeps_normed:
            yield branch.norm.register_forward_hook(replaced)
        last = branch.mixer if branch.post_norm is None else branch.post_norm
        yield last.register_forward_hook(added(branch, place))
        if branch.stream_norm is not None:
            yield branch.stream_norm.register_forward_hook(normed(place))
