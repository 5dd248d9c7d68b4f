"""Whose names the tensors of a folder have: those of a family of transformers' models, or ours.

The model_type of config.json says it. Without one it is told from the names themselves. The layouts of GPT-2 and
GPT-BigCode have the same names and other orders of axes: there, and for a folder that was turned on its way
(nanoGPT's, MLX's), the shapes of matrices that are not square tell, or the format that a file names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from archcalc_reference.weights.families import BY_TYPE, FAMILIES, OWN, Family

TOKENS = "embedding.token.weight"
HEAD = "unembedding.weight"


def whose(names: list[str], config: dict[str, Any]) -> Family | None:
    """The family whose names these are; None where nobody's.

    What config.json says counts only where a tensor is named so.
    """
    if any(map(OWN.knows, names)):
        return OWN
    said = BY_TYPE.get(str(config.get("model_type")))
    if said is not None:
        return said if any(map(said.knows, names)) else None
    known = [(sum(map(family.knows, names)), family) for family in FAMILIES]
    most = max(count for count, _ in known)
    return next(family for count, family in known if count == most) if most else None


def of_the_text_model(names: Iterable[str], config: dict[str, Any]) -> list[str]:
    """The names without those of what sees or hears, in a checkpoint that has a text model among others."""
    if not isinstance(config.get("text_config"), dict):
        return list(names)
    starts = ("language_model.", "model.language_model.", "lm_head.")
    return [name for name in names if name.startswith(starts)]


def may_be_absent(name: str) -> bool:
    """Whether an index may promise a tensor that no shard has: a buffer, or one of the two names of a tied table."""
    return any(f.is_buffer(name) or f.full(name) in (f.table, f.head) for f in (*FAMILIES, OWN))
