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


def published_like():
    """Models with the features of published decoders, in the combinations in which these have them."""
    from hypothesis import strategies as st

    from archcalc import Model

    @st.composite
    def draw_one(draw):
        size = st.integers(1, 8)
        norm = draw(st.sampled_from([{"kind": "layernorm", "bias": True}, {"kind": "rmsnorm"}]))
        biases, gated = draw(st.booleans()), draw(st.booleans())
        parallel = draw(st.sampled_from([None, None, "shared", "own"]))
        groups = []
        for _ in range(draw(st.integers(1, 2))):
            kv_heads, d_head = draw(size), draw(st.sampled_from([2, 4, 8]))
            attention = {
                "kind": "multi_head",
                "n_heads": kv_heads * draw(st.integers(1, 3)),
                "n_kv_heads": kv_heads,
                "d_head": d_head,
                "bias": biases,
                "rotary": draw(st.sampled_from([None, {"d_rotary": d_head, "theta": 100.0}])),
                "window": draw(st.sampled_from([None, None, 3])),
            }
            activation = draw(st.sampled_from(["gelu", "gelu_tanh", "silu"]))
            mlp = {"kind": "gated" if gated else "plain", "d_ff": draw(size), "activation": activation, "bias": biases}
            layer = {"norm": norm, "attention": attention, "mlp": mlp, "parallel": parallel}
            groups.append({"repeat": draw(st.integers(1, 3)), **layer})
        return Model.model_validate(
            {
                "schema": 0,
                "name": "drawn",
                "source": "drawn",
                "vocab_size": draw(size),
                "context_length": draw(size),
                "d_model": draw(size),
                "embedding": {"positions": draw(st.sampled_from(["learned", "none"]))},
                "layers": groups,
                "final_norm": norm,
                "unembedding": {"tied": draw(st.booleans()), "bias": draw(st.booleans())},
            }
        )

    return draw_one()
