"""Scans as ops: what recurrent mixers do to a text is one kernel, with one for its backward pass.

It saves what it is given, and its backward pass works the rest out again. With a state that is given it begins where
that ends, and leaves its own there; one new position takes one step. On the meta device it hands out shapes alone.
PyTorch's counter, which sees one op, is told what the same code does when it is run under a counter of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from archcalc_reference.model.kernels import op, wide

Chunked = Callable[..., tuple[Tensor, Tensor]]
"""A scan in PyTorch's own ops: of tensors, numbers, and a state or None it makes what is read and a state."""
Step = Callable[..., tuple[Tensor, Tensor]]
"""The same of one position of each sequence, and a state."""


class Scan:
    """A scan as ops: `name`, `name_on` that begins with a state, `name_step` of one position, and `name_backward`.

    Gradients go to `tensors`, of which what it reads looks like `like`; `numbers` are its other arguments, in a
    schema's words.
    """

    def __init__(
        self, name: str, tensors: tuple[str, ...], like: str, numbers: tuple[str, ...], chunked: Chunked, step: Step
    ) -> None:
        self.count, self.like, self.chunked, self.step = len(tensors), tensors.index(like), chunked, step
        self.chunk = numbers.index("int chunk") if "int chunk" in numbers else None
        given = ", ".join([*(f"Tensor {tensor}" for tensor in tensors), *numbers])
        op(f"{name}({given}) -> Tensor")(self._fresh)
        op(f"{name}_on({given}, Tensor(a!) state) -> Tensor")(partial(self._on, chunked))
        op(f"{name}_step({given}, Tensor(a!) state) -> Tensor")(partial(self._on, step))
        op(f"{name}_backward(Tensor grad, {given}) -> ({', '.join(['Tensor'] * self.count)})")(self._backward)
        self.ops = tuple(getattr(torch.ops.archcalc, f"{name}{end}") for end in ("", "_on", "_step", "_backward"))
        for one, does in zip(self.ops, (chunked, chunked, step, chunked), strict=True):
            learns = one is self.ops[-1]
            register_flop_formula(one, get_raw=True)(partial(self._flops, does, learns=learns))

    def __call__(self, *given: Any, state: Tensor | None = None, one: bool = False) -> Tensor:
        """What is read; `state` is then that of the last position. `one` position of each sequence takes a step."""
        fresh, on, step, _ = self.ops
        if state is not None:
            return (step if one else on)(*given, state)
        if torch.is_grad_enabled():
            return _Scanned.apply(self, *given)
        return fresh(*given)

    def _fresh(self, *given: Any) -> Tensor:
        like: Tensor = given[self.like]
        return torch.empty_like(like) if like.is_meta else self._run(self.chunked, *given, None)[0]

    def _on(self, how: Chunked | Step, *given: Any) -> Tensor:
        *given, state = given  # type: ignore[assignment]
        like: Tensor = given[self.like]
        if like.is_meta:
            return torch.empty_like(like)
        y, last = self._run(how, *given, state)
        state.copy_(last)
        return y

    def _run(self, how: Chunked | Step, *given: Any) -> tuple[Tensor, Tensor]:
        y, state = how(*(wide(x) if isinstance(x, Tensor) else x for x in given))
        y = y.to(given[self.like].dtype).contiguous()
        own = y.untyped_storage().nbytes() == y.nbytes  # and not a part of whole chunks
        return y if own else y.clone(), state

    def _backward(self, grad: Tensor, *given: Any) -> tuple[Tensor, ...]:
        tensors, numbers = given[: self.count], given[self.count :]
        if grad.is_meta:
            return tuple(torch.empty_like(x) for x in tensors)
        with _differentiable():
            leaves = [x.detach().requires_grad_() for x in tensors]
            y, _ = self._run(self.chunked, *leaves, *numbers, None)
            return torch.autograd.grad(y, leaves, grad)

    def _flops(self, how: Chunked | Step, *given: Any, learns: bool, out_val: Any = None) -> int:  # noqa: ARG002
        given = given[1:] if learns else given
        tensors, rest = given[: self.count], given[self.count :]
        numbers = tuple(x for x in rest if not isinstance(x, Tensor))
        chunk = None if self.chunk is None else numbers[self.chunk]
        return _counted(how, tuple(tuple(x.shape) for x in tensors), self.like, numbers, chunk, learns=learns)


class _Scanned(Function):
    @staticmethod
    def forward(ctx: Any, scan: Scan, *given: Any) -> Tensor:
        ctx.scan, ctx.numbers = scan, given[scan.count :]
        ctx.save_for_backward(*given[: scan.count])
        return scan.ops[0](*given)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        grads = ctx.scan.ops[-1](grad, *ctx.saved_tensors, *ctx.numbers)
        return (None, *grads, *(None for _ in ctx.numbers))


@contextmanager
def _differentiable() -> Iterator[None]:
    """Inside an op PyTorch keeps no graph, unless its keys are let in again."""
    C: Any = torch._C  # noqa: SLF001  (there is no public way)
    excluded = C._dispatch_tls_local_exclude_set()  # noqa: SLF001
    for key in ("ADInplaceOrView", "AutogradOther", "AutogradCPU", "AutogradCUDA", "AutogradMeta"):
        excluded = excluded.remove(getattr(C.DispatchKey, key))
    with torch.enable_grad(), C._ForceDispatchKeyGuard(C._dispatch_tls_local_include_set(), excluded):  # noqa: SLF001
        yield


def _counted(
    how: Chunked | Step,
    shapes: tuple[tuple[int, ...], ...],
    like: int,
    numbers: tuple[Any, ...],
    chunk: int | None,
    *,
    learns: bool,
) -> int:
    """What PyTorch's counter counts where it sees each step.

    Of a long text it sees three chunks, since each further one does what the third did.
    """
    positions = shapes[like][1]
    if chunk is None or positions <= _SEEN * chunk:
        return _seen(how, shapes, like, numbers, learns=learns)
    two, three = (
        _seen(how, tuple(_cut(shape, positions, n * chunk) for shape in shapes), like, numbers, learns=learns)
        for n in (_SEEN - 1, _SEEN)
    )
    return three + (-(-positions // chunk) - _SEEN) * (three - two)


_SEEN = 3  # chunks


def _cut(shape: tuple[int, ...], positions: int, most: int) -> tuple[int, ...]:
    """The shape of as many positions, where it has an axis of all of them behind that of sequences."""
    return (shape[0], most, *shape[2:]) if len(shape) > 2 and shape[1] == positions else shape


@lru_cache(64)
def _seen(
    how: Chunked | Step, shapes: tuple[tuple[int, ...], ...], like: int, numbers: tuple[Any, ...], *, learns: bool
) -> int:
    """What it counts of all that is there; of every chunk as of one between two others."""
    (B, _, *heads), n = shapes[like], shapes[0][-1]
    with _differentiable() if learns else torch.no_grad(), FlopCounterMode(display=False) as counter:
        given = [torch.empty(shape, device="meta", requires_grad=learns) for shape in (*shapes, (B, *heads, n))]
        made = how(*given[:-1], *numbers, given[-1])
        if learns:
            torch.autograd.grad(made, given, [torch.empty_like(x) for x in made])
    return counter.get_total_flops()
