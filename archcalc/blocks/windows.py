"""What a query sees under a window or in chunks: the positions that are read, and the pairs that are scored."""

from __future__ import annotations

from archcalc.tape.legend import Env, Size, least, quotient
from archcalc.tape.run import Run


def seen(env: Env, run: Run) -> Env:
    """T and Q of an attention with `window` or `chunk` positions, from those of the run, and the positions that it keeps.

    A decode pass reads T positions for each new one: with a window those in it, in chunks those of its chunk so far.
    Other passes work out all S x T scores and mask what is not seen, as PyTorch's math attention does and its counter
    has it: the pairs are fewer only where the run counts the causal ones alone. A cache keeps a whole window, or chunk.
    """
    if "window" not in env and "chunk" not in env:
        return {}
    read: Size = env["T"]
    kept = read
    for limit in ("window", "chunk"):
        kept = least(kept, env[limit]) if limit in env else kept
    if "window" in env:
        here = least(read, env["window"])
    else:
        here = read - env["chunk"] * quotient(read - 1, env["chunk"])
    if run.phase == "decode":
        return {"T": here, "Q": here, "kept": kept}
    if run.causal == "full":
        return {"kept": kept}
    exact = run.causal == "exact"
    if "window" in env:
        return {"Q": _windowed(read, here, exact=exact), "kept": kept}
    chunk, whole = env["chunk"], quotient(read, env["chunk"])
    rest = read - chunk * whole
    return {"Q": whole * _triangle(chunk, exact=exact) + _triangle(rest, exact=exact), "kept": kept}


def _windowed(read: Size, window: Size, *, exact: bool) -> Size:
    """Pairs of `read` queries that see at most `window` positions: the first ones see what there is."""
    return _triangle(window, exact=exact) + (read - window) * window


def _triangle(n: Size, *, exact: bool) -> Size:
    """Pairs of n queries and what came before: n (n + 1) / 2, or half the square."""
    twice = n * (n + 1) if exact else n * n
    if isinstance(twice, int) and twice % 2:
        from fractions import Fraction

        return Fraction(twice, 2)
    return twice // 2 if isinstance(twice, int) else twice / 2
