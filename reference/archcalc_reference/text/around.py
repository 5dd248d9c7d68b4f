"""The tokens that a post-processor of a tokenizer.json puts around a text, which are told and left out."""

from __future__ import annotations

from typing import Any

from archcalc.errors import shown

_DEEPEST, _MOST_STEPS = 4, 16  # sequences within one another, and processors of one


def not_added(processor: Any) -> list[str]:
    """A line on the tokens that a post-processor puts around a text, which are left out."""
    before, after = _around(processor)
    if before is None:
        return ["its post_processor is not applied; tokens that it adds to a text are left out"]
    sides = [(tokens, side) for tokens, side in ((before, "before"), (after, "after")) if tokens]
    what = " and ".join(f"{', '.join(map(shown, tokens[:3]))} {side}" for tokens, side in sides)
    return [f"its post_processor adds {what} a text; archcalc does not"] if what else []


def _around(processor: Any, depth: int = 0) -> tuple[list[str] | None, list[str]]:
    """The tokens that a post-processor puts before a text and after it; None where it is not understood."""
    if processor is None:
        return [], []
    kind = processor.get("type") if isinstance(processor, dict) else None
    try:
        if kind == "ByteLevel":
            return [], []
        if kind in ("BertProcessing", "RobertaProcessing"):
            return [str(processor["cls"][0])], [str(processor["sep"][0])]
        if kind == "TemplateProcessing":
            parts = [str(one["SpecialToken"]["id"]) if "SpecialToken" in one else None for one in processor["single"]]
            text = parts.index(None)
            return [one for one in parts[:text] if one], [one for one in parts[text:] if one]
        if kind == "Sequence" and depth < _DEEPEST:
            found = [_around(one, depth + 1) for one in processor["processors"][:_MOST_STEPS]]
            if all(before is not None for before, _ in found):
                return [one for before, _ in reversed(found) for one in before or ()], [
                    one for _, after in found for one in after
                ]
    except (KeyError, IndexError, TypeError, ValueError):
        pass
    return None, []
