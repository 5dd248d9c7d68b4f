"""What a query sees under a window or in chunks: the positions read and kept, and the pairs that are scored."""

from __future__ import annotations

from archcalc.tape.legend import Env, Size, least, quotient
from archcalc.tape.run import Run, halved


def seen(env: Env, run: Run) -> Env:
    """T and Q of an attention with `window` or `chunk` positions, from those of the run, and the positions it keeps.

    A decode pass reads T positions for each new one: those in its window, and in its chunk so far. Other passes work
    out all S x T scores and mask what is not seen, as PyTorch's math attention does and its counter has it: the pairs
    are fewer only where the run counts the causal ones alone. A cache keeps a whole window, or chunk.
    """
    if "window" not in env and "chunk" not in env:
        return {}
    read: Size = env["T"]
    within = env.get("window", read)
    kept = least(least(read, env.get("chunk", read)), within)
    if run.phase == "decode":
        here = read - env["chunk"] * quotient(read - 1, env["chunk"]) if "chunk" in env else read
        return {"T": least(here, within), "Q": least(here, within), "kept": kept}
    if run.causal == "full":
        return {"kept": kept}
    pairs = _pairs(read, within)
    if "chunk" in env:
        whole = quotient(read, env["chunk"])
        pairs = whole * _pairs(env["chunk"], within) + _pairs(read - env["chunk"] * whole, within)
    return {"Q": _counted(pairs, read, run), "kept": kept}


def chosen(env: Env, run: Run, most: Size) -> Env:
    """Q of an attention whose queries see `most` positions that an indexer chose, and how many these are.

    As with windows: a decode pass reads those alone, and the pairs of other passes are fewer only where the run counts
    the causal ones.
    """
    found = {"chosen": least(env["T"], most), "scanned": env["T"], "scannedpairs": env["Q"]}
    if run.phase == "decode" or run.causal == "full":
        return found
    return {**found, "Q": _counted(_pairs(env["T"], most), env["T"], run)}


def _counted(pairs: Size, queries: Size, run: Run) -> Size:
    """Pairs as the run counts them: each of a position with itself in full, or as a half."""
    return pairs if run.causal == "exact" else halved(2 * pairs - queries)


def _pairs(queries: Size, window: Size) -> Size:
    """Pairs of queries that see themselves and what came before, at most `window` positions of it."""
    near = least(queries, window)
    return halved(near * (near + 1)) + (queries - near) * near
