"""The tokenizers of GGUF files as a tokenizer.json has them, by their kind: the model, and the steps around it.

llama.cpp cuts texts as the tokenizer did that the file was converted from (src/llama-vocab.cpp); the steps of each
`tokenizer.ggml.pre` are written here as that tokenizer.json has them.
"""

from __future__ import annotations

import base64
import math
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown
from archcalc.huggingface.metadata import ARCHITECTURE
from archcalc_reference.unpacking.parting import merges_of

KEY = "tokenizer.ggml."
"""What the keys of a tokenizer begin with."""
NORMAL, _UNKNOWN, CONTROL, _OWN, _UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens in `token_type`; 4 is what a user defined."""

_ENGLISH = "'s|'t|'re|'ve|'m|'ll|'d"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT4 = rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = rf"{_ENGLISH}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
CL100K, QWEN2 = _GPT4 % r"\p{N}{1,3}", _GPT4 % r"\p{N}"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:{_ENGLISH})?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:{_ENGLISH})?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(regex=False)]}


_OWN_WORDS = _byte_level(regex=True)
_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _OWN_WORDS]}
_LLAMA3, _QWEN2, _O200K = _split(CL100K), _split(QWEN2), _split(O200K)
_STEPS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais"), _OWN_WORDS),
    **dict.fromkeys(("smollm", "refact", "command-r", "starcoder", "codeshell"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    **dict.fromkeys(("gpt-4o", "llama4"), _O200K),
}
"""How a text is parted into words, by `tokenizer.ggml.pre`."""
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")
"""Those that take a word of the vocabulary as it is, whatever its merges are."""
_NORMALIZED = {"qwen2": {"type": "NFC"}}
_LONGEST = 256  # characters of a token that is made of others; SentencePiece's have 16
MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_FIRST = "add_space_prefix"
_OF_ARCHITECTURE = {"gpt2": "gpt-2"}
"""Of files that are older than the key."""


class Said(NamedTuple):
    """What a file says of its tokenizer: its keys, the tokens with the kind of each, and its arrays by their names."""

    path: str
    keys: dict[str, Any]
    tokens: list[str]
    kinds: list[int]
    arrays: dict[str, Any]

    def wrong(self, what: str, name: str, value: str | None = None, fix: str | None = None) -> Invalid:
        """The fault of a key."""
        return Invalid(Problem(self.path, what, KEY + name, value=value, suggestion=fix))

    def scores(self) -> list[float]:
        """The score of each token. Raises Invalid where not every token has one."""
        found = self.arrays.get("scores")
        if not isinstance(found, list) or len(found) != len(self.tokens):
            raise self.wrong(f"must have one value for each of {len(self.tokens):,} tokens", "scores")
        if not all(isinstance(score, int | float) and math.isfinite(score) for score in found):
            raise self.wrong("must be an array of finite numbers", "scores")
        return found

    @property
    def vocab(self) -> dict[str, int]:
        """The ids of the tokens that are used."""
        return {token: i for i, token in enumerate(self.tokens) if self.kinds[i] != _UNUSED}

    @property
    def unknown(self) -> str | None:
        """The token of what the vocabulary lacks."""
        return next((token for i, token in enumerate(self.tokens) if self.kinds[i] == _UNKNOWN), None)


def tokenizer(said: Said) -> dict[str, Any]:
    """The tokenizer.json of a file. Raises Invalid for a tokenizer of another kind, by its name."""
    kind = said.keys.get(f"{KEY}model")
    added = [
        {
            "id": i,
            "content": token,
            "special": said.kinds[i] != _OWN,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for i, token in enumerate(said.tokens)
        if said.kinds[i] in (CONTROL, _OWN)
    ]
    make = _KINDS.get(kind) if isinstance(kind, str) else None
    if make is None:
        named, fix = {"rwkv": "RWKV's"}.get(str(kind), "these"), f"supported: {', '.join(_KINDS)}"
        raise said.wrong(f"{named} tokenizers are not supported yet", "model", shown(kind), fix)
    return {"version": "1.0", "added_tokens": added, **make(said)}


def _of_scores(said: Said) -> dict[str, Any]:
    """SentencePiece's BPE, which merges the pair of neighbours whose word has the highest score."""
    scores, tokens = said.scores(), said.tokens
    normal = {token: i for i, token in enumerate(tokens) if said.kinds[i] == NORMAL and len(token) <= _LONGEST}
    ranked = sorted(normal, key=lambda token: (-scores[normal[token]], normal[token]))
    # Of a token's parts the shorter left one comes first, as llama.cpp merges from the left.
    places = dict.fromkeys(normal, 0)
    merges = merges_of(ranked, places, {token: token for token in normal}, at=(said.path, f"{KEY}tokens"))
    first = flag(said.path, said.keys, _FIRST, absent=True)
    return {
        "normalizer": _blanks(first=first),
        "decoder": _back(fallback=True, first=first),
        "model": {
            "type": "BPE",
            "vocab": said.vocab,
            "merges": merges,
            "unk_token": said.unknown,
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _blanks(*before: dict[str, Any], first: bool) -> dict[str, Any]:
    """The steps that write a blank as the mark of SentencePiece, and one before a text."""
    prepend = [{"type": "Prepend", "prepend": MARK}] if first else []
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    return {"type": "Sequence", "normalizers": [*before, *prepend, blanks]}


def _back(*, fallback: bool, first: bool) -> dict[str, Any]:
    """The steps that write a text of its tokens."""
    steps = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}]
    steps += [{"type": "ByteFallback"}] if fallback else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if first else []
    return {"type": "Sequence", "decoders": [*steps, {"type": "Fuse"}, *strip]}


def _of_pieces(said: Said) -> dict[str, Any]:
    """Unigram: the pieces of a text that have the highest sum of scores.

    llama.cpp changes a text by the table of characters, makes one of several blanks where remove_extra_whitespaces
    says so, and puts one before a text if that or add_space_prefix does (`llm_tokenizer_ugm_session::normalize`). What
    no piece is costs ten more than the least score of the normal ones, so that no other one may have less.
    """
    scores, keys = said.scores(), said.keys
    least = min((score for score, kind in zip(scores, said.kinds, strict=True) if kind == NORMAL), default=0.0)
    unknown = token_id(said.path, keys, "unknown_token_id", len(said.tokens))
    unknown = 2 if unknown is None else unknown
    merged = flag(said.path, keys, "remove_extra_whitespaces", absent=False)
    first = flag(said.path, keys, _FIRST, absent=False) or merged
    before: list[dict[str, Any]] = []
    if table := _charsmap(said):
        before.append({"type": "Precompiled", "precompiled_charsmap": table})
    if merged:
        before.append({"type": "Strip", "strip_left": True, "strip_right": True})
        before.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return {
        "normalizer": _blanks(*before, first=first),
        "decoder": _back(fallback=False, first=first),
        "model": {
            "type": "Unigram",
            "vocab": [[token, max(score, least)] for token, score in zip(said.tokens, scores, strict=True)],
            "unk_id": unknown if unknown < len(said.tokens) else None,
            "byte_fallback": False,
        },
    }


def _charsmap(said: Said) -> str:
    """The table of characters in base64; "" where there is none."""
    found = said.arrays.get("precompiled_charsmap", [])
    if not isinstance(found, list) or not all(type(one) is int and -128 <= one < 256 for one in found):
        raise said.wrong("must be an array of bytes", "precompiled_charsmap")
    return base64.b64encode(bytes(one & 255 for one in found)).decode()


def _of_words(said: Said) -> dict[str, Any]:
    """WordPiece; the converter wrote a mark before what begins a word, and took ## from what goes on with one.

    llama.cpp writes every text in small letters without accents.
    """
    plain = [
        token if said.kinds[i] != NORMAL else token[1:] if token.startswith(MARK) else f"##{token}"
        for i, token in enumerate(said.tokens)
    ]
    small = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": True, "lowercase": True}
    return {
        "normalizer": {"type": "BertNormalizer", **small},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "vocab": {token: i for i, token in enumerate(plain) if said.kinds[i] != _UNUSED},
            "unk_token": said.unknown or "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }


def _of_bytes(said: Said) -> dict[str, Any]:
    """Byte-level BPE."""
    pre = said.keys.get(f"{KEY}pre", _OF_ARCHITECTURE.get(str(said.keys.get(ARCHITECTURE))))
    if not isinstance(pre, str) or pre not in _STEPS:
        what, fix = "is a way of parting words that is not supported yet", f"supported: {', '.join(_STEPS)}"
        raise said.wrong(what, "pre", shown(pre), fix)
    return {
        "normalizer": _NORMALIZED.get(pre),
        "pre_tokenizer": _STEPS[pre],
        "decoder": _byte_level(regex=True),
        "model": {
            "type": "BPE",
            "vocab": said.vocab,
            "merges": texts(said.path, "merges", said.arrays.get("merges")),
            "ignore_merges": pre in WHOLE_WORDS,
        },
    }


def flag(path: str, keys: dict[str, Any], name: str, *, absent: bool) -> bool:
    """What a key says that is true or false. Raises Invalid for another type, which llama.cpp does not load either."""
    value = keys.get(KEY + name)
    if value is not None and not isinstance(value, bool):
        what, kind = "must be of the type bool, true or false", "a number" if isinstance(value, int | float) else ""
        raise Invalid(Problem(path, what, KEY + name, value=" ".join((kind, shown(value))).strip()))
    return absent if value is None else value


def token_id(path: str, keys: dict[str, Any], name: str, count: int) -> int | None:
    """The id of a token that a key names, one of `count`; None without the key."""
    number = keys.get(KEY + name)
    if number is not None and (type(number) is not int or not 0 <= number < count):
        raise Invalid(Problem(path, f"must be the id of one of {count:,} tokens", KEY + name, value=shown(number)))
    return number


def texts(path: str, name: str, found: Any) -> list[str]:
    """An array of texts, of the key of that name; none where it is absent. Raises Invalid for another one."""
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Invalid(Problem(path, "must be an array of texts", KEY + name))
    return found


_KINDS = {"gpt2": _of_bytes, "llama": _of_scores, "bert": _of_words, "t5": _of_pieces}
"""By `tokenizer.ggml.model`."""
