"""How many examples a property is tried with: few in `make test`, ten times as many in `make prove`."""

import os
import re

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")


def few(count):
    """Examples of a property that takes its time with each of them, because it runs models."""
    return count * 10 if PROFILE == "prove" else count


def one_of_each():
    """A spec of the catalogue for each family, the first by name, and all of GPT-2 and GPT-3."""
    from archcalc.spec.catalogue import names

    families = {}
    for name in names():
        families.setdefault(re.match(r"[a-z]+(?:-[a-z]+)?[0-9]?", name)[0].rstrip("-"), name)
    return sorted({*families.values(), *(name for name in names() if name.startswith(("gpt2", "gpt3")))})


def moderate(model):
    """The same without what leaves no trace of a score: clips, caps, scales and slopes that drown all but one."""
    from pydantic import BaseModel

    def calm(part):
        if isinstance(part, BaseModel):
            names = {"clip", "softcap", "scale", "alibi_scale", "query_growth"} & set(type(part).model_fields)
            inner = {name: calm(value) for name, value in part if isinstance(value, BaseModel | tuple | dict)}
            return part.model_copy(update={**inner, **dict.fromkeys(names)})
        if isinstance(part, tuple):
            return tuple(map(calm, part))
        return {name: calm(value) for name, value in part.items()} if isinstance(part, dict) else part

    return calm(model)
