"""The scans of recurrent mixers, in chunks and step by step.

Inside a chunk positions meet pair by pair, and a state goes from one chunk to the next: Dao and Gu 2024,
arXiv:2405.21060, section 6, and Yang et al. 2024, arXiv:2412.06464, section 3.

Axes: B sequences, S positions, H heads, n features of queries and keys, p of values, c chunks, l and s positions of a
chunk. A state decays as a whole or feature by feature: d stands for nothing, or for n.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from archcalc_reference.model.scanning import Scan


class _Chunks:
    """Positions in chunks, those of a head together: (B, c, H, s, ...); what the last lacks is 0."""

    def __init__(self, positions: int, size: int) -> None:
        self.size, self.count = size, -(-positions // size)
        self.lacks = self.count * size - positions

    def of(self, x_BSH: Tensor) -> Tensor:
        padded = F.pad(x_BSH, (0, 0) * (x_BSH.dim() - 2) + (0, self.lacks))
        return padded.unflatten(1, (self.count, self.size)).transpose(2, 3)

    def back(self, x_BcHsp: Tensor) -> Tensor:
        """Position by position again: (B, S, H, p)."""
        return x_BcHsp.transpose(2, 3).flatten(1, 2)[:, : self.count * self.size - self.lacks]


def _per_head(x_BSgn: Tensor, heads: int) -> Tensor:
    """Queries or keys of groups, for each head of them: (B, S, H, n)."""
    return x_BSgn.repeat_interleave(heads // x_BSgn.shape[2], 2)


def _decays(logs_BcHsd: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is left: at each position of a chunk of each one before it, (B, c, H, l, s, d); at each of the chunk's
    start, and at its end of each, (B, c, H, s, d or 1); at its end of its start, (B, c, H, 1, d or 1).
    """
    sums = logs_BcHsd.cumsum(3)
    apart = sums.unsqueeze(4) - sums.unsqueeze(3)
    ahead = torch.ones(apart.shape[3:5], dtype=torch.bool, device=apart.device).triu(1)
    between = apart.masked_fill(ahead.view(*ahead.shape, *(1,) * (apart.dim() - 5)), float("-inf")).exp()
    sums = sums[..., None] if sums.dim() == 4 else sums
    ends = sums[..., -1:, :]
    return between, sums.exp(), (ends - sums).exp(), ends.exp()


def _pairs(x_BcHln: Tensor, k_BcHsn: Tensor, between: Tensor) -> Tensor:
    """How well queries or keys fit the keys of their chunk, less what has decayed meanwhile: (B, c, H, l, s)."""
    if between.dim() == 5:
        pairs = x_BcHln @ k_BcHsn.mT
        return pairs.repeat_interleave(between.shape[2] // pairs.shape[2], 2) * between
    return (x_BcHln[..., None, :] @ (k_BcHsn[..., None, :, :] * between).mT).squeeze(-2)


def _mamba2(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dt: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    chunk: int,
    least: float,
    most: float,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Each step the state decays by exp(-exp(decay) dt) and takes in dt k v; what is read has skip x v added."""
    q, k, logs, taken = _mamba2_steps(q, k, v, dt, step_bias, decay, least, most)
    read, state = _linear(q, k, taken, logs, chunk, state)
    return read + v * skip[:, None], state


def _linear(
    q: Tensor, k: Tensor, taken: Tensor, logs: Tensor, chunk: int, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A state that decays, and takes in keys, of each head or of groups of them, and values as they are."""
    B, S, H, p = taken.shape
    state = taken.new_zeros(B, H, p, q.shape[-1]) if state is None else state
    chunks = _Chunks(S, chunk)
    q, k, taken, logs = (chunks.of(x) for x in (q, k, taken, logs))
    between, since, until, over = _decays(logs)
    inner = _pairs(q, k, between) @ taken
    q, k = (x.repeat_interleave(H // x.shape[2], 2) for x in (q, k))
    added = taken.mT @ (k * until)
    starts = []
    for i in range(chunks.count):
        starts.append(state)
        state = state * over[:, i] + added[:, i]
    outer = (q * since) @ torch.stack(starts, 1).mT
    return chunks.back(inner + outer), state


def _mamba2_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dt: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    skip: Tensor,
    _chunk: int,
    least: float,
    most: float,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    q, k, logs, taken = (x[:, 0] for x in _mamba2_steps(q, k, v, dt, step_bias, decay, least, most))
    state = state * logs.exp()[..., None, None] + taken[..., None] * k[:, :, None]
    return _read(state, q)[:, None] + (v * skip[:, None]), state


def _mamba2_steps(
    q: Tensor, k: Tensor, v: Tensor, dt: Tensor, step_bias: Tensor, decay: Tensor, least: float, most: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries and keys of each head, the logarithm of what is left of the state, and what is taken in."""
    dt = F.softplus(dt + step_bias).clamp(least, most)
    heads = v.shape[2]
    return _per_head(q, heads), _per_head(k, heads), -decay.exp() * dt, v * dt[..., None]


def _gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    share: Tensor,
    step: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    chunk: int,
    limit: float,
    scale: float,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Each step the state decays, and takes in a share of how the value differs from what it has for the key."""
    B, S, H, p = v.shape
    q, k, share, logs = _delta_steps(q, k, H, share, step, step_bias, decay, limit, scale)
    state = v.new_zeros(B, H, p, q.shape[-1]) if state is None else state
    chunks = _Chunks(S, chunk)
    q, k, v, share, logs = (chunks.of(x) for x in (q, k, v, share, logs))
    between, since, until, over = _decays(logs)
    shared_k, shared_v = k * share[..., None], v * share[..., None]
    system = _pairs(shared_k, k, between)
    new = torch.linalg.solve_triangular(system, shared_v, upper=False, unitriangular=True)
    read_keys = torch.linalg.solve_triangular(system, shared_k * since, upper=False, unitriangular=True)
    scores = _pairs(q, k, between)
    q, k, read = q * since, k * until, []
    for i in range(chunks.count):
        fresh = new[:, i] - read_keys[:, i] @ state.mT
        read.append(q[:, i] @ state.mT + scores[:, i] @ fresh)
        state = state * over[:, i] + fresh.mT @ k[:, i]
    return chunks.back(torch.stack(read, 1)), state


def _delta_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    share: Tensor,
    step: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    _chunk: int,
    limit: float,
    scale: float,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    made = _delta_steps(q, k, v.shape[2], share, step, step_bias, decay, limit, scale)
    q, k, share, logs = (x[:, 0] for x in made)
    left = logs.exp() if logs.dim() == 3 else logs.exp()[..., None]
    state = state * left[:, :, None]
    state = state + ((v[:, 0] - _read(state, k)) * share[..., None])[..., None] * k[:, :, None]
    return _read(state, q)[:, None], state


def _delta_steps(
    q: Tensor,
    k: Tensor,
    heads: int,
    share: Tensor,
    step: Tensor,
    step_bias: Tensor,
    decay: Tensor,
    limit: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries and keys of each head, the share that is taken in, and the logarithm of what is left of the state."""
    q, k = (_per_head(_of_length_one(x), heads) for x in (q, k))
    step, rate = step + step_bias, decay.exp()
    if step.shape[2] > heads:
        step, rate = step.unflatten(2, (heads, -1)), rate[:, None]
    logs = -limit * torch.sigmoid(rate * step) if limit else -rate * F.softplus(step)
    return q * q.shape[-1] ** -0.5, k, torch.sigmoid(share) * scale, logs


def _lightning(
    q: Tensor, k: Tensor, v: Tensor, chunk: int, slope: float, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Each head's state decays at every position alike."""
    return _linear(q, k, v, _slopes(v, slope).expand(v.shape[:3]), chunk, state)


def _lightning_step(
    q: Tensor, k: Tensor, v: Tensor, _chunk: int, slope: float, state: Tensor
) -> tuple[Tensor, Tensor]:
    q, k = (_per_head(x, v.shape[2])[:, 0] for x in (q, k))
    state = state * _slopes(v, slope).exp()[:, None, None] + v[:, 0, ..., None] * k[:, :, None]
    return _read(state, q)[:, None], state


def _slopes(v: Tensor, slope: float) -> Tensor:
    """The logarithms of what is left of each head's state: from -2^(-8 / H) down to -2^-8, by the slope."""
    H = v.shape[2]
    heads = torch.arange(1, H + 1, dtype=v.dtype, device=v.device)
    return -slope * torch.exp2(-8 * heads / H)


def _read(state_BHpn: Tensor, x_BHn: Tensor) -> Tensor:
    """What a state has for a query or key: (B, H, p)."""
    return (state_BHpn @ x_BHn[..., None]).squeeze(-1)


def _of_length_one(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6)


mamba2 = Scan(
    "mamba2",
    ("q", "k", "v", "dt", "step_bias", "decay", "skip"),
    "v",
    ("int chunk", "float least", "float most"),
    _mamba2,
    _mamba2_step,
)
gated_delta = Scan(
    "gated_delta",
    ("q", "k", "v", "share", "step", "step_bias", "decay"),
    "v",
    ("int chunk", "float limit", "float scale"),
    _gated_delta,
    _delta_step,
)
lightning = Scan("lightning", ("q", "k", "v"), "v", ("int chunk", "float slope"), _lightning, _lightning_step)
