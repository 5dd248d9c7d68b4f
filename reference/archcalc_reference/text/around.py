"""The tokens that a tokenizer puts around a text: a beginning such as <s>, an end such as </s> or [SEP].

Which they are is said by the post_processor of tokenizer.json, and by nothing else where there is that file; beside
other files by add_bos_token and add_eos_token of tokenizer_config.json. transformers has the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from archcalc.errors import shown

_DEEPEST, _MOST_STEPS = 4, 16  # sequences within one another, and processors of one
_MOST = 16  # tokens on a side
FLAGS_AROUND = ("add_bos_token", "add_eos_token")
"""Settings of tokenizer_config.json."""


class Around(NamedTuple):
    """Ids that come before a text, and after it."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


NOTHING = Around()


def begun(ids: list[int], before: tuple[int, ...]) -> list[int]:
    """A text's ids after those that come before it; as they are where the text begins with these already."""
    return ids if tuple(ids[: len(before)]) == before else [*before, *ids]


def spelled(around: Around, text: Any) -> str:
    """Both sides in words, by the `text` of an id; empty where nothing is added."""
    sides = [
        (", ".join(shown(text(one)) for one in ids), side)
        for ids, side in ((around.before, "before"), (around.after, "after"))
        if ids
    ]
    if not sides:
        return ""
    first, *rest = [f"{tokens} {side}" for tokens, side in sides]
    return f"{first} a text" + "".join(f" and {one} it" for one in rest)


def by_settings(
    flags: Mapping[str, bool], named: Mapping[str, str], ids: Mapping[str, int], defaults: Mapping[str, Any]
) -> Around:
    """What tokenizer_config.json says; `defaults` has a flag or a token, such as bos_token, that it leaves out."""
    said = {**defaults, **flags, **named}

    def side(flag: str, name: str) -> tuple[int, ...]:
        word = str(said.get(name, ""))
        return (ids[word],) if said.get(flag) and word in ids else ()

    return Around(side("add_bos_token", "bos_token"), side("add_eos_token", "eos_token"))


def contradictions(flags: Mapping[str, bool], around: Around, where: str) -> Iterable[str]:
    """A line for each setting in the file `where` that a post_processor does not do."""
    for flag, ids, side in zip(FLAGS_AROUND, around, ("before", "after"), strict=True):
        if flag in flags and flags[flag] != bool(ids):
            adds = f"adds {'a token' if ids else 'nothing'} {side} a text"
            yield f"{flag} is {str(flags[flag]).lower()} in {where}, and the post_processor, which is used, {adds}"


def processed(processor: Any, depth: int = 0) -> Around | None:
    """What a post_processor puts around a text; None where it is not understood."""
    if processor is None:
        return Around()
    kind = processor.get("type") if isinstance(processor, dict) else None
    found = None
    try:
        if kind == "ByteLevel":
            found = Around()
        elif kind in ("BertProcessing", "RobertaProcessing"):
            found = Around((processor["cls"][1],), (processor["sep"][1],))
        elif kind == "TemplateProcessing":
            found = _template(processor)
        elif kind == "Sequence" and depth < _DEEPEST:
            inner = [processed(one, depth + 1) for one in processor["processors"][:_MOST_STEPS]]
            known = [one for one in inner if one is not None]
            if len(known) == len(processor["processors"]):
                before = tuple(token for one in reversed(known) for token in one.before)
                found = Around(before, tuple(token for one in known for token in one.after))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return None
    ids = () if found is None else (*found.before, *found.after)
    return found if len(ids) <= _MOST and all(type(one) is int for one in ids) else None


def _template(processor: dict[str, Any]) -> Around:
    """Of a single text, which stands once in it. Raises ValueError where it does not."""
    sides: list[list[int]] = [[]]
    for one in processor["single"]:
        if "SpecialToken" in one:
            sides[-1] += processor["special_tokens"][one["SpecialToken"]["id"]]["ids"]
        else:
            sides.append([])
    before, after = sides
    return Around(tuple(before), tuple(after))
