"""Mixtures of experts: each vector goes through the few of many MLPs that a router chooses for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from archcalc_reference.model.kernels import autocasts
from archcalc_reference.model.linear import Linear, WithBuffers
from archcalc_reference.model.mlp import DENSE, MLP
from archcalc_reference.model.norms import NORMS

if TYPE_CHECKING:
    from archcalc import blocks


class _EachThroughItsOwn(Function):
    """x W^T + b for vectors that are sorted by their expert, with the matrix of each; one product for each expert.

    The backward pass needs the vectors and the matrices, as that of one linear layer does.
    """

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, weight_EFD: Tensor, bias_EF: Tensor | None, counts: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x_MD, weight_EFD)
        ctx.counts, ctx.biased = counts, bias_EF is not None
        y_MF = x_MD.new_empty(x_MD.shape[0], weight_EFD.shape[1])
        for e, part in _stretches(counts):
            torch.mm(x_MD[part], weight_EFD[e].t(), out=y_MF[part])
            if bias_EF is not None:
                y_MF[part] += bias_EF[e]
        return y_MF

    @staticmethod
    def backward(ctx: Any, grad_MF: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x_MD, weight_EFD = ctx.saved_tensors
        grad_weight = torch.zeros_like(weight_EFD)
        grad_bias = grad_MF.new_zeros(weight_EFD.shape[:2]) if ctx.biased else None
        grad_x = torch.empty_like(x_MD)
        for e, part in _stretches(ctx.counts):
            torch.mm(grad_MF[part].t(), x_MD[part], out=grad_weight[e])
            torch.mm(grad_MF[part], weight_EFD[e], out=grad_x[part])
            if grad_bias is not None:
                torch.sum(grad_MF[part], 0, out=grad_bias[e])
        return grad_x, grad_weight, grad_bias, None


def _stretches(counts: tuple[int, ...]) -> list[tuple[int, slice]]:
    """Each expert that has vectors, and where they stand."""
    found, start = [], 0
    for e, count in enumerate(counts):
        if count:
            found.append((e, slice(start, start + count)))
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
    """The experts alone: what they make of vectors that are dealt out to them, added up by weight."""

    def __init__(self, d_model: int, experts: blocks.Experts) -> None:
        super().__init__(experts.activation)
        n, d_ff, bias = experts.n_experts, experts.d_ff, experts.bias
        width = experts.d_latent or d_model
        self.gate = ExpertLinear(n, width, d_ff, bias=bias) if experts.gated else None
        self.up = ExpertLinear(n, width, d_ff, bias=bias)
        self.down = ExpertLinear(n, d_ff, width, bias=bias)
        self.cut, self.weighs_input = experts.cut, experts.router.weighs == "input"

    def forward(self, x_BSD: Tensor, weights_BSJ: Tensor, chosen_BSJ: Tensor) -> Tensor:
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
        n = self.up.weight.shape[0]
        if chosen_M.is_meta:
            return (chosen_M.numel(), *[0] * (n - 1))
        return tuple(torch.bincount(chosen_M, minlength=n).tolist())


class MixtureOfExperts(WithBuffers):
    """A router, the experts, and an MLP that all vectors go through."""

    def __init__(self, d_model: int, spec: blocks.Experts) -> None:
        super().__init__()
        self.spec = spec
        router = spec.router
        self.expert_scale = nn.Parameter(torch.empty(spec.n_experts)) if router.expert_scale else None
        self.router_norm = _norm(d_model, router.norm)
        self.router = Linear(d_model, spec.n_experts, bias=router.bias)
        if router.correction:
            self.register_buffer("correction", torch.zeros(spec.n_experts))
        self.experts_norm = _norm(d_model, spec.experts_norm)
        narrow = spec.d_latent
        self.latent = None if narrow is None else Linear(d_model, narrow, bias=spec.latent_bias)
        self.experts = Experts(d_model, spec)
        self.from_latent = None if narrow is None else Linear(narrow, d_model, bias=spec.latent_bias)
        self.experts_post_norm = _norm(d_model, spec.experts_post_norm)
        self.shared_norm = _norm(d_model, spec.shared_norm)
        self.shared = None if spec.shared is None else DENSE[spec.shared.kind](d_model, spec.shared)
        self.shared_post_norm = _norm(d_model, spec.shared_post_norm)
        self.shared_gate = Linear(d_model, 1, bias=False) if spec.shared_gate else None

    @staticmethod
    def new_state(*_: Any) -> None:
        """Nothing is kept of earlier positions."""

    def prepare(self, *_: Any) -> None:
        """Nothing is read that is made once for a pass."""

    def initialize(self, std: float, residual_std: float) -> None:
        """Draw new weights."""
        self.router.initialize(std)
        self.experts.initialize(std, residual_std)
        if self.shared is not None:
            self.shared.initialize(std, residual_std)
        if self.shared_gate is not None:
            self.shared_gate.initialize(std)
        if self.latent is not None and self.from_latent is not None:
            self.latent.initialize(std)
            self.from_latent.initialize(residual_std)
        if self.expert_scale is not None:
            nn.init.ones_(self.expert_scale)
        for name, norm in self.named_children():
            if name.endswith("_norm"):
                norm.initialize()

    def forward(self, x_BSD: Tensor, *_: Any) -> Tensor:
        weights_BSJ, chosen_BSJ = self._route(_normed(self.router_norm, x_BSD))
        read = _normed(self.experts_norm, x_BSD)
        read = read if self.latent is None else self.latent(read)
        y_BSD = self.experts(read, weights_BSJ, chosen_BSJ)
        del read, weights_BSJ, chosen_BSJ
        if self.from_latent is not None:
            y_BSD = self.from_latent(y_BSD)
        y_BSD = _normed(self.experts_post_norm, y_BSD)
        if self.shared is None:
            return y_BSD
        always_BSD = _normed(self.shared_post_norm, self.shared(_normed(self.shared_norm, x_BSD)))
        if self.shared_gate is not None:
            always_BSD = always_BSD * torch.sigmoid(self.shared_gate(x_BSD))
        y_BSD = y_BSD + always_BSD
        return y_BSD / 2 if self.spec.shared_average else y_BSD

    def _route(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """How much each chosen expert counts, and which they are."""
        router = self.spec.router
        scores_BSE = self.router(x_BSD)
        scores_BSE = _full(scores_BSE if router.score_scale is None else scores_BSE * x_BSD.shape[-1] ** -0.5)
        if router.scores == "softmax":
            scores_BSE = scores_BSE.softmax(-1)
        elif router.scores == "sigmoid":
            scores_BSE = torch.sigmoid(scores_BSE)
        with torch.no_grad():
            chosen_BSJ = self._choose(scores_BSE)
        if router.scores == "sparse_mixer":
            weights_BSJ = _mixed(scores_BSE, chosen_BSJ, router.jitter or 0.0)
        else:
            weights_BSJ = scores_BSE.gather(-1, chosen_BSJ)
        del scores_BSE
        if router.scores == "softmax_of_chosen":
            weights_BSJ = weights_BSJ.softmax(-1)
        elif router.scores == "sigmoid_of_chosen":
            weights_BSJ = torch.sigmoid(weights_BSJ)
        if router.normalized:
            weights_BSJ = weights_BSJ / weights_BSJ.sum(-1, keepdim=True)
        if self.expert_scale is not None:
            weights_BSJ = weights_BSJ * self.expert_scale[chosen_BSJ]
        if router.scale is not None:
            weights_BSJ = weights_BSJ * router.scale
        return weights_BSJ.to(x_BSD.dtype), chosen_BSJ

    def _choose(self, scores_BSE: Tensor) -> Tensor:
        router = self.spec.router
        ranked = scores_BSE + self.correction if router.correction else scores_BSE
        if self.spec.n_groups is not None and self.spec.n_groups_chosen is not None:
            ranked = self._best_groups(ranked)
        return ranked.topk(self.spec.n_experts_per_token, -1).indices

    def _best_groups(self, ranked_BSE: Tensor) -> Tensor:
        """The scores with those of all but the best groups out of the way."""
        spec = self.spec
        groups = ranked_BSE.unflatten(-1, (spec.n_groups, -1))
        counting = min(2 if spec.router.correction else 1, groups.shape[-1])
        best = groups.topk(counting, -1).values.sum(-1)
        left = torch.zeros_like(best, dtype=torch.bool)
        left.scatter_(-1, best.topk(spec.n_groups_chosen, -1).indices, value=True)
        return groups.masked_fill(~left[..., None], float("-inf")).flatten(-2)


def _norm(d_model: int, norm: Any) -> Any:
    return None if norm is None else NORMS[norm.kind](norm, (d_model,))


def _normed(norm: Any, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)


class _SparseMixer(Function):
    """Liu et al. 2024, arXiv:2409.12136, without the noise of training, and with the gradient of what is computed."""

    @staticmethod
    def forward(ctx: Any, scores_BSE: Tensor, chosen_BSJ: Tensor, jitter: float) -> Tensor:
        ctx.save_for_backward(scores_BSE, chosen_BSJ)
        ctx.jitter = jitter
        return _shares(scores_BSE, chosen_BSJ, jitter)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scores_BSE, chosen_BSJ = ctx.saved_tensors
        with torch.enable_grad():
            scores_BSE = scores_BSE.detach().requires_grad_()
            (found,) = torch.autograd.grad(_shares(scores_BSE, chosen_BSJ, ctx.jitter), scores_BSE, grad)
        return found, None, None


def _mixed(scores_BSE: Tensor, chosen_BSJ: Tensor, jitter: float) -> Tensor:
    if torch.is_grad_enabled():
        found: Tensor = _SparseMixer.apply(scores_BSE, chosen_BSJ, jitter)
        return found
    return _shares(scores_BSE, chosen_BSJ, jitter)


def _shares(scores_BSE: Tensor, chosen_BSJ: Tensor, jitter: float) -> Tensor:
    """The share of each chosen expert among those that are left and come near it."""
    left_BSE, found = scores_BSE, []
    for chosen_BS1 in chosen_BSJ.split(1, -1):
        best_BS1 = left_BSE.gather(-1, chosen_BS1)
        with torch.no_grad():
            far_BSE = (best_BS1 - scores_BSE) / torch.maximum(scores_BSE.abs(), best_BS1) > 2 * jitter
        near_BSE = left_BSE.masked_fill(far_BSE, float("-inf"))
        found.append(near_BSE.softmax(-1).gather(-1, chosen_BS1))
        left_BSE = left_BSE.scatter(-1, chosen_BS1, float("-inf"))
    return torch.cat(found, -1)


def _full(x: Tensor) -> Tensor:
    """In fp32, or in fp64 where the model works in that."""
    return x if x.dtype == torch.float64 else x.float()


EXPERTS: dict[str, type[Any]] = {"experts": MixtureOfExperts}
"""Which module each kind of a spec's mixtures becomes."""
