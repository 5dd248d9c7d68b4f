"""Experts alone: what they make of the vectors that are dealt out to them, each weighted and added up.

Where ranks have different experts, `elsewhere` sends vectors to the ranks of their experts, and back what these make.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function

from archcalc_reference.model.kernels import autocasts
from archcalc_reference.model.mlp import MLP

if TYPE_CHECKING:
    from archcalc import blocks
    from archcalc_reference.model.positions import Positions


class Elsewhere(Protocol):
    """Ranks that have other experts: what brings vectors to those and back."""

    def there(self, x_MD: Tensor, counts: tuple[int, ...], *, even: bool) -> tuple[Tensor, tuple[int, ...]]:
        """The vectors that the experts of this rank get, and how many each gets from each rank."""

    def back(self, made_MD: Tensor, counts: tuple[int, ...], theirs: tuple[int, ...]) -> Tensor:
        """What the experts of all ranks made of the vectors of this one."""


class _EachThroughItsOwn(Function):
    """x W^T + b for vectors that are sorted by their expert, with the matrix of each; one product for each expert.

    Where there are more counts than experts, vectors came from several ranks, and those of each rank are sorted.
    The backward pass needs the vectors and the matrices, as that of one linear layer does.
    """

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_EFD: Tensor, bias_EF: Tensor | None, counts: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x_MD, weight_EFD)
        ctx.counts, ctx.biased = counts, bias_EF is not None
        y_MF = x_MD.new_empty(x_MD.shape[0], weight_EFD.shape[1])
        for e, part in _stretches(counts, len(weight_EFD)):
            torch.mm(x_MD[part], weight_EFD[e].t(), out=y_MF[part])
            if bias_EF is not None:
                y_MF[part] += bias_EF[e]
        return y_MF

    @staticmethod
    def backward(ctx: Any, grad_MF: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x_MD, weight_EFD = ctx.saved_tensors
        grad_weight = torch.zeros_like(weight_EFD)
        grad_bias = grad_MF.new_zeros(weight_EFD.shape[:2]) if ctx.biased else None
        grad_x, met = torch.empty_like(x_MD), set[int]()
        for e, part in _stretches(ctx.counts, len(weight_EFD)):
            # As PyTorch's counter of FLOPs knows addmm, and not addmm_.
            torch.addmm(grad_weight[e], grad_MF[part].t(), x_MD[part], out=grad_weight[e])
            torch.mm(grad_MF[part], weight_EFD[e], out=grad_x[part])
            if grad_bias is not None and e in met:
                grad_bias[e] += grad_MF[part].sum(0)
            elif grad_bias is not None:
                torch.sum(grad_MF[part], 0, out=grad_bias[e])
            met.add(e)
        return grad_x, grad_weight, grad_bias, None


def _stretches(counts: tuple[int, ...], experts: int) -> list[tuple[int, slice]]:
    """Each expert that has vectors, and where they stand."""
    found, start = [], 0
    for i, count in enumerate(counts):
        if count:
            found.append((i % experts, slice(start, start + count)))
        start += count
    return found


class ExpertLinear(nn.Module):
    """A matrix for each expert, stored as (experts, out, in), and perhaps a bias."""

    def __init__(self, experts: int, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))
        self.bias = nn.Parameter(torch.empty(experts, outputs)) if bias else None

    def initialize(self, std: float) -> None:
        """Draw the matrices from normal(0, std); biases are 0."""
        nn.init.normal_(self.weight, 0.0, std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x_MD: Tensor, counts: tuple[int, ...]) -> Tensor:
        weight_EFD, bias_EF = self.weight, self.bias
        if autocasts(x_MD):  # as autocast does where a product is one of its own
            dtype = torch.get_autocast_dtype(x_MD.device.type)
            bias_EF = None if bias_EF is None else bias_EF.to(dtype)
            weight_EFD, x_MD = weight_EFD.to(dtype), x_MD.to(dtype)
        y_MF: Tensor = _EachThroughItsOwn.apply(x_MD, weight_EFD, bias_EF, counts)
        return y_MF


class Experts(MLP):
    """All that are chosen for a vector compute."""

    def __init__(self, d_model: int, experts: blocks.Experts) -> None:
        super().__init__(experts.activation)
        n, d_ff, bias = experts.n_experts, experts.d_ff, experts.bias
        width = experts.d_latent or d_model
        self.gate = ExpertLinear(n, width, d_ff, bias=bias) if experts.gated else None
        self.up = ExpertLinear(n, width, d_ff, bias=bias)
        self.down = ExpertLinear(n, d_ff, width, bias=bias)
        self.cut, self.weighs_input = experts.cut, experts.router.weighs == "input"
        self.n, self.balanced = n, False
        self.elsewhere: Elsewhere | None = None

    def forward(
        self, x_BSD: Tensor, weights_BSJ: Tensor, chosen_BSJ: Tensor, positions: Positions | None = None
    ) -> Tensor:
        del positions
        J = chosen_BSJ.shape[-1]
        chosen_M = chosen_BSJ.flatten()
        order_M = chosen_M.argsort(stable=True)
        counts = self._counts(chosen_M)
        # What was dealt out is gone when it is computed: a name of it here would keep it.
        made_MD = self._compute(self._dealt(x_BSD.flatten(0, 1), weights_BSJ, order_M, J), counts)
        made_MD = made_MD[order_M.argsort()]
        del order_M
        made_BSJD = made_MD.unflatten(0, chosen_BSJ.shape)
        del made_MD
        if not self.weighs_input:
            made_BSJD = made_BSJD * weights_BSJ[..., None]
        return made_BSJD.sum(2)

    def _dealt(self, x_ND: Tensor, weights_BSJ: Tensor, order_M: Tensor, J: int) -> Tensor:
        """The vectors sorted by their experts, each as often as it has some."""
        dealt_MD = x_ND[order_M // J]
        return dealt_MD * weights_BSJ.flatten()[order_M][:, None] if self.weighs_input else dealt_MD

    def _compute(self, x_MD: Tensor, counts: tuple[int, ...]) -> Tensor:
        """What the experts make of vectors that are sorted by them; `counts` are those of all experts."""
        if self.elsewhere is None:
            return self._made(x_MD, counts)
        x_MD, theirs = self.elsewhere.there(x_MD, counts, even=self.balanced)
        return self.elsewhere.back(self._made(x_MD, theirs), counts, theirs)

    def _made(self, x_MD: Tensor, counts: tuple[int, ...]) -> Tensor:
        if self.gate is None:
            made: Tensor = self.down(self.active(self.up(x_MD, counts)), counts)
        else:
            made = self.down(
                self.active_gate(self.gate(x_MD, counts), self.cut) * self.other(self.up(x_MD, counts), self.cut),
                counts,
            )
        return made

    def _counts(self, chosen_M: Tensor) -> tuple[int, ...]:
        """How many vectors each expert gets. Without numbers all go to the first: the work is the same."""
        if chosen_M.is_meta:
            return (chosen_M.numel(), *[0] * (self.n - 1))
        if self.balanced:
            return _evenly(chosen_M.numel(), self.n)
        return tuple(torch.bincount(chosen_M, minlength=self.n).tolist())


def _evenly(rows: int, experts: int) -> tuple[int, ...]:
    return tuple(rows // experts + (e < rows % experts) for e in range(experts))


class ExpertsAndIdentity(Experts):
    """Some of those that are chosen for a vector have no weights, and hand it on as it is.

    How many compute is a matter of routing. Where it is `balanced`, and on the meta device, which has no numbers, they
    are as many as if every choice were as likely as any other, rounded up for each vector.
    """

    def __init__(self, d_model: int, experts: blocks.Experts) -> None:
        super().__init__(d_model, experts)
        self.idle = experts.n_identity or 0

    def forward(
        self, x_BSD: Tensor, weights_BSJ: Tensor, chosen_BSJ: Tensor, positions: Positions | None = None
    ) -> Tensor:
        del positions
        y_BSD = self._busy(x_BSD, weights_BSJ, chosen_BSJ)
        share_BS = weights_BSJ.masked_fill(chosen_BSJ < self.n, 0.0).sum(-1)
        return y_BSD + x_BSD * share_BS[..., None]

    def _busy(self, x_BSD: Tensor, weights_BSJ: Tensor, chosen_BSJ: Tensor) -> Tensor:
        """What those with weights make."""
        counts = self._counts(chosen_BSJ)
        busy_M = chosen_BSJ.flatten().argsort(stable=True)[: sum(counts)].clone()
        tokens_M = busy_M // chosen_BSJ.shape[-1]
        weights = [weights_BSJ.flatten()[busy_M][:, None]]  # a name of its own would keep it
        del busy_M
        dealt = [x_BSD.flatten(0, 1)[tokens_M]]
        if self.weighs_input:
            dealt.append(dealt.pop() * weights.pop())
        made_MD = self._compute(dealt.pop(), counts)
        if not self.weighs_input:
            made_MD = made_MD * weights.pop()
        y_ND = made_MD.new_zeros(x_BSD.shape[0] * x_BSD.shape[1], made_MD.shape[1])
        return y_ND.index_put_((tokens_M,), made_MD, accumulate=True).view_as(x_BSD)

    def _counts(self, chosen_BSJ: Tensor) -> tuple[int, ...]:
        if not (self.balanced or chosen_BSJ.is_meta):
            found = torch.bincount(chosen_BSJ.flatten(), minlength=self.n + self.idle)
            return tuple(found[: self.n].tolist())
        *vectors, J = chosen_BSJ.shape
        rows = -(-J * self.n // (self.n + self.idle)) * vectors[0] * vectors[1]
        return _evenly(rows, self.n)


class ExpertsWithBuffers(Experts):
    """Each expert has room for so many vectors, and computes as many: those that it weighs the most are in it."""

    def __init__(self, d_model: int, experts: blocks.Experts) -> None:
        super().__init__(d_model, experts)
        self.share = Fraction(str(experts.capacity_factor))

    def forward(
        self, x_BSD: Tensor, weights_BSJ: Tensor, chosen_BSJ: Tensor, positions: Positions | None = None
    ) -> Tensor:
        if positions is not None and positions.first > 0 and positions.new == 1:
            return super().forward(x_BSD, weights_BSJ, chosen_BSJ)  # a new token finds room
        N, J = x_BSD.shape[0] * x_BSD.shape[1], chosen_BSJ.shape[-1]
        C = min(math.ceil(self.share * N * J / self.n), N)
        gates_NE = weights_BSJ.new_zeros(N, self.n).scatter_(1, chosen_BSJ.flatten(0, 1), weights_BSJ.flatten(0, 1))
        slots_EC = gates_NE.detach().T.topk(C, 1).indices
        weights_M1 = gates_NE.T.gather(1, slots_EC).flatten()[:, None]
        del gates_NE
        slots_M = slots_EC.flatten()
        del slots_EC
        made_MD = self._compute(x_BSD.flatten(0, 1)[slots_M], (C,) * self.n) * weights_M1
        del weights_M1
        y_ND = made_MD.new_zeros(N, made_MD.shape[1])
        return y_ND.index_put_((slots_M,), made_MD, accumulate=True).view_as(x_BSD)


@contextmanager
def balanced(model: nn.Module) -> Iterator[None]:
    """A block in which experts compute as much as is counted, whatever a router chooses: sizes are what is asked."""
    found = [module for module in model.modules() if isinstance(module, Experts)]
    for module in found:
        module.balanced = True
    try:
        yield
    finally:
        for module in found:
            module.balanced = False


def experts_of(d_model: int, spec: blocks.Experts) -> Experts:
    """The experts that a mixture deals its vectors out to."""
    if spec.capacity_factor is not None:
        return ExpertsWithBuffers(d_model, spec)
    return (Experts if spec.n_identity is None else ExpertsAndIdentity)(d_model, spec)
