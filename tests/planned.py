"""Models with plans that can divide them, drawn together."""

from functools import cache
from typing import NamedTuple

from hypothesis import strategies as st

import archcalc
from archcalc import strategies
from archcalc.errors import Invalid
from archcalc.plan.description import Plan
from archcalc.plan.rules import refuse
from archcalc.proof.miniature import miniature
from archcalc.spec.model import Model
from archcalc.tape.run import Run

DIVIDED = ("gpt2", "llama3-8b", "qwen3-0.6b", "gemma2-2b", "olmo2-1b", "falcon-7b", "mixtral-8x7b", "deepseek-v3")
"""Tied and untied tables; grouped heads and one for all; norms of heads and of all heads; windows, branches side by
side, experts, latents."""


class Planned(NamedTuple):
    model: Model
    plan: Plan
    run: Run


@cache
def small(name):
    return miniature(archcalc.load(name))


@st.composite
def planned(draw, *, zero=(0, 1, 2, 3), only=None):
    """A model, a plan that breaks no rule, and one micro-batch; `only` are the axes that have more than one rank."""
    model = draw(st.sampled_from(DIVIDED).map(small)) if draw(st.booleans()) else draw(strategies.models())
    run = Run(batch=draw(st.integers(1, 2)), sequence=model.context_length, attention="flash")
    fields = {"micro_batch": run.batch, "accumulation": draw(st.integers(1, 3))}

    def take(**more):
        """Some fields more, where no rule is broken."""
        try:
            refuse(Plan(**{**fields, **more}), model, run)
        except Invalid:
            return
        fields.update(more)

    for axis, degrees in (("tp", (2, 1, 4, 2)), ("cp", (2, 1, 2)), ("pp", (2, 1, 3)), ("dp", (4, 2, 1, 8))):
        if only is None or axis in only:
            take(**{axis: draw(st.sampled_from(degrees))})
    if fields.get("tp", 1) > 1 and draw(st.booleans()):
        take(sequence_parallel=True)
    if only is None or "ep" in only:
        for more in ({"ep": 2}, {"ep": fields.get("tp", 1), "etp": 1}, {"ep": 4, "etp": 1}):
            if draw(st.booleans()):
                take(**more)
    if stage := draw(st.sampled_from(zero)):
        take(zero=stage, sharding=draw(st.sampled_from(["flat", "per-tensor"])))
    return Planned(model, Plan(**fields), run)
