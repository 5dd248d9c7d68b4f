"""How many examples a property is tried with: few in `make test`, ten times as many in `make prove`."""

import os
import re

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")


def few(count, prove=None):
    """Examples of a property that takes its time with each of them, because it runs models; ten times as many, or as
    many as is said, in `make prove`.
    """
    return (prove or count * 10) if PROFILE == "prove" else count


def at_most(count):
    """Examples of a property that is slow for what it does, in `make test`; elsewhere as many as of any other."""
    from hypothesis import settings

    return count if PROFILE == "fixed" else settings().max_examples


def a_third(names):
    """Names as parameters of a test that repeats what others prove of each: a third in `make test`, all in `prove`."""
    return one_in(3, names)


def one_in(n, names):
    """One of so many in `make test`, as those of `a_third`."""
    import pytest

    said = [getattr(name, "model_type", str(name)) for name in names]
    marks = [[pytest.mark.prove] * (i % n > 0) for i in range(len(said))]
    return [pytest.param(name, marks=mark, id=id_) for name, mark, id_ in zip(names, marks, said, strict=True)]


def one_of_each():
    """A spec of the catalogue for each family, the first by name, and all of GPT-2 and GPT-3."""
    from archcalc.spec.catalogue import names

    families = {}
    for name in names():
        families.setdefault(re.match(r"[a-z]+(?:-[a-z]+)?[0-9]?", name)[0].rstrip("-"), name)
    return sorted({*families.values(), *(name for name in names() if name.startswith(("gpt2", "gpt3")))})


def moderate():
    """Any model of sizes at which what an op makes is more than what PyTorch needs to call it."""
    from archcalc import strategies
    from archcalc.proof.miniature import miniature

    return strategies.models(16, 2, 2).map(miniature)


def has_wide_stream(model):
    """Whether its residual stream begins in fp32 under autocast; elsewhere it is not counted."""
    table = model.embedding
    learns = table.norm is not None and (table.norm.gain or getattr(table.norm, "bias", False))
    return table.d_embedding is None or table.positions == "learned" or learns


def keepings():
    """Any way to keep the numbers of a training step; the precision of a cache applies to inference alone."""
    from hypothesis import strategies as st

    from archcalc.tape.optimizers import OPTIMIZERS
    from archcalc.tape.precision import RECIPES, Keeping

    recipes, optimizers = st.sampled_from(list(RECIPES)), st.sampled_from(list(OPTIMIZERS))
    recomputed = st.sampled_from(["none", "selective", "full"])
    return st.builds(Keeping, recipes, optimizers, recomputed, st.booleans(), st.none())
