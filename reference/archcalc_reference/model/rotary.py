"""What positions do to queries and keys: their angles, by the rules for texts longer than trained on, and growth.

Angles are worked out in fp32 in the order of operations of transformers (modeling_rope_utils.py), so that they are the
same numbers: at position 100,000 another rounding of a frequency is another angle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from archcalc.blocks import Rotary


class Angles(NamedTuple):
    """Cosines and sines of S positions, fp32, a column for each pair of features; P = d_rotary / 2."""

    cos: Tensor
    sin: Tensor


class Frequencies(NamedTuple):
    """Turns of each pair from one position to the next, in radians, and what cosines and sines are multiplied by."""

    of_pairs: Tensor
    factor: float = 1.0


def angles(rotary: Rotary, first: int, new: int, context_length: int, device: Any = None) -> Angles:
    """Those of `new` positions from `first` on, of a model whose texts have at most `context_length`.

    Where the frequencies depend on the length of the text, it is taken to end with them.
    """
    found = frequencies(rotary, first + new, context_length, device)
    turned = torch.arange(first, first + new, device=device)[:, None].float() * found.of_pairs
    cos, sin = turned.cos(), turned.sin()
    if found.factor != 1.0:
        cos, sin = cos * found.factor, sin * found.factor
    return Angles(cos, -sin if rotary.reversed else sin)


def growth(rate: float, interval: int, first: int, new: int, device: Any = None) -> Tensor:
    """What queries are multiplied by at each position, fp32: 1 + rate log(1 + floor(position / interval))."""
    steps = torch.floor(torch.arange(first, first + new, device=device) / interval)
    return 1 + rate * torch.log(1 + steps)


def frequencies(rotary: Rotary, length: int, context_length: int, device: Any = None) -> Frequencies:
    """Those of a text of `length` positions."""
    scaling = rotary.scaling
    if scaling is None:
        return Frequencies(1.0 / _powers(rotary, device))
    return _SCALED[scaling.kind](rotary, scaling, length, context_length, device)


def changes(rotary: Rotary, before: int, after: int) -> bool:
    """Whether the frequencies of a text of `after` positions are others than those of its first `before`."""
    scaling: Any = rotary.scaling
    if scaling is None or scaling.kind not in ("dynamic", "longrope"):
        return False
    original = scaling.original_context_length
    return after > original and (scaling.kind == "dynamic" or before <= original)


def _powers(rotary: Rotary, device: Any, base: Any = None) -> Tensor:
    """theta^(2i / d_rotary) for each pair i."""
    steps = torch.arange(0, rotary.d_rotary, 2, dtype=torch.int64, device=device).float() / rotary.d_rotary
    powers: Tensor = (rotary.theta if base is None else base) ** steps
    return powers


def _linear(rotary: Rotary, scaling: Any, _length: int, _context: int, device: Any) -> Frequencies:
    return Frequencies(1.0 / _powers(rotary, device) / scaling.factor)


def _dynamic(rotary: Rotary, scaling: Any, length: int, _context: int, device: Any) -> Frequencies:
    """A base that grows with the text, from the original context on."""
    d, factor, original = rotary.d_rotary, scaling.factor, scaling.original_context_length
    if length <= original or d == 2:  # a single pair turns by one radian whatever the base
        return Frequencies(1.0 / _powers(rotary, device))
    stretch = factor * torch.tensor(length, device=device) / original - (factor - 1)
    return Frequencies(1.0 / _powers(rotary, device, rotary.theta * stretch ** (d / (d - 2))))


def _yarn(rotary: Rotary, scaling: Any, _length: int, _context: int, device: Any) -> Frequencies:
    """Pairs that turn often within the original context keep their frequency, those that do not are stretched."""
    d, original = rotary.d_rotary, scaling.original_context_length

    def pair_of(turns: float) -> float:
        """The pair, as a real number, that turns so often within the original context."""
        return d * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    low, high = pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    high += 0.001 * (low == high)
    ramp = ((torch.arange(d // 2, dtype=torch.float32, device=device) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    powers = _powers(rotary, device)
    mixed = 1.0 / (scaling.factor * powers) * (1 - kept) + 1.0 / powers * kept
    return Frequencies(mixed, _yarn_factor(scaling))


def _yarn_factor(scaling: Any) -> float:
    if scaling.attention_factor is not None:
        return float(scaling.attention_factor)

    def of(weight: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * weight * math.log(scaling.factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return of(scaling.mscale) / of(scaling.mscale_all_dim)
    return of(1.0)


def _llama3(rotary: Rotary, scaling: Any, _length: int, _context: int, device: Any) -> Frequencies:
    """Short waves stay, long ones are stretched by the factor, and those between by something between."""
    low, high, original = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_context_length
    plain = 1.0 / _powers(rotary, device)
    waves = 2 * math.pi / plain
    stretched = torch.where(waves > original / low, plain / scaling.factor, plain)
    smooth = (original / waves - low) / (high - low)
    between = (1 - smooth) * stretched / scaling.factor + smooth * stretched
    is_between = ~(waves < original / high) & ~(waves > original / low)
    return Frequencies(torch.where(is_between, between, stretched))


def _longrope(rotary: Rotary, scaling: Any, length: int, context: int, device: Any) -> Frequencies:
    """A divisor for each pair: of texts up to the original context, or of longer ones."""
    original = scaling.original_context_length
    divisors = torch.tensor(
        scaling.long_factor if length > original else scaling.short_factor, dtype=torch.float32, device=device
    )
    found = 1.0 / (divisors * _powers(rotary, device))
    if scaling.attention_factor is not None:
        return Frequencies(found, float(scaling.attention_factor))
    factor = context / original if scaling.factor is None else scaling.factor
    return Frequencies(found, 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original)))


def _proportional(rotary: Rotary, scaling: Any, _length: int, _context: int, device: Any) -> Frequencies:
    """Some pairs turn as those of the whole head would, the rest by no angle at all."""
    found = 1.0 / _powers(rotary, device)
    found[int(scaling.share * rotary.d_rotary // 2) :] = 0.0
    return Frequencies(found if scaling.factor is None else found / scaling.factor)


_SCALED: dict[str, Callable[[Rotary, Any, int, int, Any], Frequencies]] = {
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
    "proportional": _proportional,
}
