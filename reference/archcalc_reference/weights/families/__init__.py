"""The families whose checkpoints are read and written: one table a family, by the model_type of its config.json."""

from __future__ import annotations

from archcalc_reference.weights.families import gemma, gpt, hybrids, kimi, kin, latent, llama, longcat, step
from archcalc_reference.weights.families.family import Family, Unnamed
from archcalc_reference.weights.families.own import OWN

__all__ = ["BY_TYPE", "FAMILIES", "GPT2", "OWN", "Family", "Unnamed"]

GPT2 = gpt.GPT2
FAMILIES: tuple[Family, ...] = (
    *(*gpt.FAMILIES, *llama.FAMILIES, *kin.FAMILIES, *gemma.FAMILIES, *step.FAMILIES, *latent.FAMILIES),
    *(*hybrids.FAMILIES, *kimi.FAMILIES, *longcat.FAMILIES),
)
BY_TYPE: dict[str, Family] = {name: family for family in FAMILIES for name in family.types}
