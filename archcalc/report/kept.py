"""What a model keeps of a text to read on, in words: of each token, and however long the text is."""

from __future__ import annotations

from archcalc.spec.model import Model
from archcalc.tape.passes import Layers
from archcalc.units import grouped, listed

PLAIN = "keys and values of all layers"
CACHES = ("cache.per_token", "cache.total", "cache.paged")
"""The quantities that count it."""
NOTHING = "no layer caches keys and values"


def cache_words(model: Model) -> str:
    """What the cache holds and in how many layers: keys and values of all layers."""
    held: dict[str, None] = {}
    layers = 0
    for group in model.layers:
        for kind in group.kinds_in():
            branches = kind.layer.residual_branches
            words = [word for branch in branches for mixer in branch.mixers for word in mixer.keeps()]
            held |= dict.fromkeys(words)
            layers += Layers(0, group.repeat, group.period, kind.offsets).count if words else 0
    if not held:
        return NOTHING
    of = "all layers" if layers == model.n_layers else f"{grouped(layers)} of {grouped(model.n_layers)} layers"
    return f"{listed([*held])} of {of}"


def cache_lines(model: Model) -> tuple[str, ...]:
    """What the cache holds, where there is one and that is not keys and values of all layers."""
    words = cache_words(model)
    return () if words in (PLAIN, NOTHING) else (f"cache: {words}",)
