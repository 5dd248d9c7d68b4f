"""Validate a tokenizer.json: known models and steps, and bounded sizes. Anything else is refused by name.

The package `tokenizers` runs whatever stands there: a pattern that takes for ever, a replacement of one character by a
million, a table that nothing checks. So a file is read here first, and the package is given what was understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown
from archcalc_reference.text.around import Around, processed
from archcalc_reference.text.changes import PREFIX
from archcalc_reference.text.charsmap import longest_put_in
from archcalc_reference.text.special import FLAGS, LONGEST_TOKEN, MOST_ADDED, refuse_long, token_id
from archcalc_reference.text.spelling import Spelling
from archcalc_reference.text.vocabularies import Object, read_model, unknown
from archcalc_reference.unpacking.kinds import CL100K, GPT2, O200K, QWEN2

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a blank."""
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
KINDS = {
    "normalizer": (
        "BertNormalizer", "ByteLevel", "Lowercase", *_FORMS, "Nmt", "Precompiled", "Prepend", "Replace", "Strip",
        "StripAccents",
    ),
    "pre_tokenizer": (
        "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation", "Split",
        "UnicodeScripts", "Whitespace", "WhitespaceSplit",
    ),
    "decoder": ("BPEDecoder", "ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Strip", "WordPiece"),
}  # fmt: skip
"""The steps that are read, beside sequences of them."""
_INNER = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
WORDS_APART = {*_FORMS, "BertNormalizer", "Lowercase", "ByteLevel", "StripAccents"}
"""Normalizers that change a part of a text as they change the whole."""

_WORDS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")  # steps that part a text at every blank

DEEPEST = 4  # sequences within one another
MOST_STEPS = 16  # of one kind
LONGEST_PATTERN = 4_096  # characters
LONGEST_CONTENT = 64  # characters that a step may put in
MOST_GROWTH = 64  # times that replacements, one after the other, may lengthen a text

PATTERNS = {
    GPT2,
    CL100K,  # GPT-4, Llama 3
    QWEN2,
    O200K,  # GPT-4o
    *(" {2,}", r"\s+", r"\A +", r" +\z", r"\A +| +\z"),  # blanks
}
"""How published models part words: each takes time in proportion to the text. Others run in a process of their own."""


class Read(NamedTuple):
    """A tokenizer.json that was understood.

    Attributes:
        data: what the package is given: nothing of training, and no step that is not needed to cut a text.
        vocab: the ids of the words.
        words: the words by their ids.
        spelling: what a word stands for.
        foreign: whether it has a pattern that is not among PATTERNS.
        parts_words: whether no token reaches over the end of a word.
        told: what is to be known of how it cuts.
        prefix: whether a space is added before a text.
        around: the tokens that its post_processor puts around a text.
    """

    data: Object
    vocab: dict[str, int]
    words: dict[int, str]
    spelling: Spelling
    foreign: bool
    parts_words: bool
    told: tuple[str, ...]
    prefix: bool = False
    around: Around = Around()


def understood(data: Object, path: str) -> Read:
    """Check a tokenizer.json. Raises Invalid for what is not supported, malformed or too large, by its name."""
    model, vocab, words = read_model(data.get("model"), path)
    normalizers, parts, decoders = (_steps(data, slot, path) for slot in KINDS)
    style = _style(model, normalizers, parts, decoders, path)
    patterns = [step["pattern"] for step in (*normalizers, *parts) if "pattern" in step]
    foreign = any(pattern.get("Regex", "") not in ("", *PATTERNS) for pattern in patterns)
    prefix = _prefixed(normalizers, parts)
    kinds = [step["type"] for step in normalizers if not _is_format(step, style)]
    told = [PREFIX] if prefix else []
    told += [f"texts are changed first: {', '.join(kinds)}"] if kinds else []
    if not style.level and (lost := unknown(model)) is not None:
        told.append(
            f"characters that it lacks become {shown(lost)}" if lost else "characters that it lacks are left out"
        )
    around = processed(data.get("post_processor"))
    told += ["its post_processor is not applied; tokens that it adds to a text are left out"] if around is None else []
    kept = {
        "version": "1.0",
        **dict.fromkeys(("truncation", "padding", "post_processor", "decoder")),
        "added_tokens": _added(data.get("added_tokens"), path),
        **{name: data.get(name) for name in ("normalizer", "pre_tokenizer")},
        "model": model,
    }
    apart = _apart(normalizers, parts, level=style.level, foreign=foreign, prefix=prefix)
    return Read(kept, vocab, words, style, foreign, apart, tuple(told), prefix, around or Around())


def _apart(normalizers: list[Object], parts: list[Object], *, level: bool, foreign: bool, prefix: bool) -> bool:
    """Whether no token reaches over the end of a word, and the first word is cut as any other."""
    if any(step["type"] not in WORDS_APART for step in normalizers):
        return False
    if not level:
        first = [step for step in parts if step["type"] == "Metaspace" and _scheme(step) == "first"]
        return bool(parts) and parts[0]["type"] in _WORDS and not first
    regular = any(
        step.get("use_regex", True) if step["type"] == "ByteLevel" else step["type"] == "Split" and not foreign
        for step in parts
        if step["type"] in ("ByteLevel", "Split")
    )
    return regular and not prefix


def _prefixed(normalizers: list[Object], parts: list[Object]) -> bool:
    """Whether a blank is put before a text."""
    return (
        any(step.get("add_prefix_space") for step in parts if step["type"] == "ByteLevel")
        or any(_scheme(step) != "never" for step in parts if step["type"] == "Metaspace")
        or any(step.get("prepend") == MARK for step in normalizers if step["type"] == "Prepend")
    )


def _is_format(step: Object, style: Spelling) -> bool:
    """Whether a step of a normalizer only writes blanks or bytes as the vocabulary has them."""
    blanks = step["type"] == "Replace" and (step.get("content"), step.get("pattern")) == (MARK, {"String": " "})
    first = step["type"] == "Prepend" and step.get("prepend") == MARK
    return step["type"] == "ByteLevel" or (not style.level and (blanks or first))


def _style(
    model: Object, normalizers: list[Object], parts: list[Object], decoders: list[Object], path: str
) -> Spelling:
    """How its vocabulary is written: by the byte alphabet where any step is ByteLevel, else as its decoder says."""
    every = [*normalizers, *parts, *decoders]
    end = next((_suffix(step, path) for step in decoders if step["type"] == "BPEDecoder"), "")
    end = end or model.get("end_of_word_suffix", "")
    if any(step["type"] == "ByteLevel" for step in every):
        for step in decoders:
            if step["type"] not in ("ByteLevel", "Fuse"):
                what = f"{step['type']} beside ByteLevel is not supported yet"
                raise Invalid(Problem(path, what, "decoder"))
        return Spelling(level=True, end=end)
    marks = [_replaced(step, path) for step in decoders if step["type"] == "Replace"]
    space = [step for step in (*decoders, *parts) if step["type"] == "Metaspace"]
    marks += [(_mark(step, path), " ") for step in space[:1]]
    fallback = bool(model.get("byte_fallback")) or any(step["type"] == "ByteFallback" for step in decoders)
    stripped = any(_stripped(step, path) for step in decoders if step["type"] == "Strip")
    first = stripped or any(_scheme(step) != "never" for step in decoders if step["type"] == "Metaspace")
    joint: str | None = None
    if model["type"] == "WordPiece" or any(step["type"] == "WordPiece" for step in decoders):
        joint = model.get("continuing_subword_prefix", "##")
    elif not marks and not end and not decoders:
        joint = model.get("continuing_subword_prefix", "")  # words, of which a text is joined by blanks
    return Spelling(marks=tuple(marks), fallback=fallback, joint=joint, end=end, first=first)


def _suffix(step: Object, path: str) -> str:
    return _content(step, "suffix", "decoder", path)


def _replaced(step: Object, path: str) -> tuple[str, str]:
    """A text of a vocabulary, and what a decoder puts in its place."""
    _shortest(step, "decoder", path)
    content = _content(step, "content", "decoder", path)
    if "String" not in step["pattern"]:
        raise Invalid(Problem(path, "a regular expression is not supported yet", "decoder.pattern"))
    return step["pattern"]["String"], content


def _mark(step: Object, path: str) -> str:
    found = step.get("replacement", "\N{LOWER ONE EIGHTH BLOCK}")
    if not isinstance(found, str) or len(found) != 1:
        raise Invalid(Problem(path, "must be one character", "replacement", value=shown(found)))
    return found


def _scheme(step: Object) -> str:
    """Where a Metaspace step puts a blank: before every part of a text, before the first, or never."""
    said = step.get("prepend_scheme")
    return str(said) if said is not None else "always" if step.get("add_prefix_space", True) else "never"


def _stripped(step: Object, path: str) -> bool:
    """Whether one blank is taken from the beginning of a text; anything else that is taken is refused."""
    said = tuple(step.get(field) for field in ("content", "start", "stop"))
    if said not in ((" ", 1, 0), (" ", 0, 0)):
        raise Invalid(Problem(path, "Strip of anything but one blank is not supported yet", "decoder"))
    return said[1] == 1


def _steps(data: Object, slot: str, path: str) -> list[Object]:
    """The steps of a normalizer or a pre-tokenizer, each checked."""
    steps = list(_flat(data.get(slot), slot, path, 0))
    growth = 1
    for step in steps:
        _known(step, slot, path)
        if slot != "decoder" and ("pattern" in step or step["type"] in ("Split", "Replace")):
            growth *= max(1, len(_content(step, "content", slot, path)) // _shortest(step, slot, path))
        if step["type"] == "Precompiled":
            growth *= longest_put_in(step.get("precompiled_charsmap"), path)
        if step["type"] == "Prepend":
            _content(step, "prepend", slot, path)
    if growth > MOST_GROWTH:
        raise Invalid(Problem(path, f"can make a text more than {MOST_GROWTH} times as long", slot))
    return steps


def _flat(slot: Any, name: str, path: str, depth: int) -> list[Object]:
    """The steps of a sequence, and of the sequences in it."""
    if slot is None:
        return []
    if not isinstance(slot, dict) or not isinstance(slot.get("type"), str):
        raise Invalid(Problem(path, "must be an object with a type", name, value=shown(slot)))
    if slot["type"] != "Sequence":
        return [slot]
    inner = slot.get(_INNER[name])
    if not isinstance(inner, list) or depth == DEEPEST:
        what = f"is nested deeper than {DEEPEST} sequences" if depth == DEEPEST else "is a sequence without steps"
        raise Invalid(Problem(path, what, name))
    steps: list[Object] = []
    for one in inner:
        steps += _flat(one, name, path, depth + 1)
        if len(steps) > MOST_STEPS:
            raise Invalid(Problem(path, f"has more than {MOST_STEPS} steps", name))
    return steps


def _known(step: Object, slot: str, path: str) -> None:
    if step["type"] not in KINDS[slot]:
        name = step["type"] if step["type"].isidentifier() else shown(step["type"])
        what, fix = f"{name[:40]} is not supported yet", f"supported: {', '.join(KINDS[slot])}"
        raise Invalid(Problem(path, what, slot, suggestion=fix))


def _content(step: Object, field: str, slot: str, path: str) -> str:
    """The text that a step puts in; a split has none."""
    content = step.get(field, "" if step["type"] == "Split" else None)
    if not isinstance(content, str) or len(content) > LONGEST_CONTENT:
        what = f"must be a text of at most {LONGEST_CONTENT} characters"
        raise Invalid(Problem(path, what, f"{slot}.{field}", value=shown(content)))
    return content


def _shortest(step: Object, slot: str, path: str) -> int:
    """Characters that a pattern takes at least: those of a text, one of a regular expression."""
    pattern = step.get("pattern")
    kinds = list(pattern) if isinstance(pattern, dict) else []
    source = pattern[kinds[0]] if isinstance(pattern, dict) and kinds in (["String"], ["Regex"]) else None
    if not isinstance(source, str) or not 0 < len(source) <= LONGEST_PATTERN:
        what = f"must be a String or a Regex of 1 to {LONGEST_PATTERN:,} characters"
        raise Invalid(Problem(path, what, f"{slot}.pattern", value=shown(pattern)))
    return len(source) if kinds == ["String"] else 1


def _added(tokens: Any, path: str) -> list[Object]:
    """The added tokens, each with an id, a text and flags."""
    if tokens is None:
        return []
    if not isinstance(tokens, list) or len(tokens) > MOST_ADDED:
        what = f"must be a list of at most {MOST_ADDED:,} tokens"
        value = f"{len(tokens):,}" if isinstance(tokens, list) else type(tokens).__name__
        raise Invalid(Problem(path, what, "added_tokens", value=value))
    found = list(_each_added(tokens, path))
    refuse_long((len(one["content"]) for one in found), path)
    return found


def _each_added(tokens: list[Any], path: str) -> Iterator[Object]:
    for at, one in enumerate(tokens):
        where = f"added_tokens.{at}"
        content = one.get("content") if isinstance(one, dict) else None
        if not isinstance(content, str) or not 0 < len(content) <= LONGEST_TOKEN:
            what = f"must be a token of 1 to {LONGEST_TOKEN:,} characters"
            raise Invalid(Problem(path, what, where, value=shown(content)))
        flags = {flag: one.get(flag, False) for flag in FLAGS}
        for flag, value in flags.items():
            if not isinstance(value, bool):
                raise Invalid(Problem(path, "must be true or false", f"{where}.{flag}", value=shown(value)))
        yield {"id": token_id(one.get("id"), path, f"{where}.id"), "content": content, **flags}
