"""Mixtures of experts: each vector goes through the few of many MLPs that a router chooses for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from archcalc_reference.model.dealing import experts_of
from archcalc_reference.model.linear import Linear, WithBuffers
from archcalc_reference.model.mlp import DENSE
from archcalc_reference.model.norms import NORMS

if TYPE_CHECKING:
    from archcalc import blocks


class MixtureOfExperts(WithBuffers):
    """A router, the experts, and an MLP that all vectors go through."""

    def __init__(self, d_model: int, spec: blocks.Experts) -> None:
        super().__init__()
        self.spec = spec
        router, scored = spec.router, spec.n_experts + (spec.n_identity or 0)
        self.expert_scale = nn.Parameter(torch.empty(scored)) if router.expert_scale else None
        self.router_norm = _norm(d_model, router.norm)
        self.router = Linear(d_model, scored, bias=router.bias)
        if router.correction:
            self.register_buffer("correction", torch.zeros(scored))
        self.experts_norm = _norm(d_model, spec.experts_norm)
        narrow = spec.d_latent
        self.latent = None if narrow is None else Linear(d_model, narrow, bias=spec.latent_bias)
        self.experts = experts_of(d_model, spec)
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

    def forward(self, x_BSD: Tensor, positions: Any = None, *_: Any) -> Tensor:
        weights_BSJ, chosen_BSJ = self._route(_normed(self.router_norm, x_BSD))
        read = _normed(self.experts_norm, x_BSD)
        read = read if self.latent is None else self.latent(read)
        y_BSD = self.experts(read, weights_BSJ, chosen_BSJ, positions)
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
