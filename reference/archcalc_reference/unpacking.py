"""What a GGUF file says of its text, as the files that a folder has beside its weights: tokenizer, template, settings.

`FILE.gguf/tokenizer.json` is a path that no disk has; what is read there is made of the keys of FILE.gguf. So a
tokenizer, a chat template and the ends of a text have one reader each, whatever they come from.

llama.cpp cuts texts as the tokenizer did that the file was converted from (src/llama-vocab.cpp); the steps of each
`tokenizer.ggml.pre` are written here as that tokenizer.json has them.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.files.regular import names_in
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.metadata import ARCHITECTURE
from archcalc.huggingface.parts import parts_of
from archcalc.spec.configs import GGUF

_KEY = "tokenizer.ggml."
_ARRAYS = ("tokens", "token_type", "merges", "scores")
_TEMPLATE = "tokenizer.chat_template"
_WHOLE = (_TEMPLATE, *(_KEY + name for name in _ARRAYS))

_NORMAL, _UNKNOWN, _CONTROL, _OWN, _UNUSED = 1, 2, 3, 4, 5
"""Kinds of tokens in `token_type`, beside 6, a byte; 4 is what a user defined."""
_NAMED = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_ENDS_BY_NAME = {
    *("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>"),
}
"""Control tokens after which llama.cpp stops whatever the keys say."""

_ENGLISH = "'s|'t|'re|'ve|'m|'ll|'d"
_GPT4 = rf"(?i:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+(?i:{_ENGLISH})?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*(?i:{_ENGLISH})?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(regex=False)]}


_GPT2 = _byte_level(regex=True)
_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT2]}
_LLAMA3, _QWEN2, _O200K = _split(_GPT4 % r"\p{N}{1,3}"), _split(_GPT4 % r"\p{N}"), _split(_GPT4O)
_STEPS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais"), _GPT2),
    **dict.fromkeys(("smollm", "refact", "command-r", "starcoder", "codeshell"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    **dict.fromkeys(("gpt-4o", "llama4"), _O200K),
}
"""How a text is parted into words, by `tokenizer.ggml.pre`."""
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")
"""Those that take a word of the vocabulary as it is, whatever its merges are."""
_NORMALIZED = {"qwen2": {"type": "NFC"}}
MOST_LETTERS = 2**23
"""Characters of all tokens of a vocabulary with scores: its merges are every way of parting each token in two."""
_LONGEST = 256  # characters of a token that is made of others; SentencePiece's have 16
MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_FIRST = f"{_KEY}add_space_prefix"
_OF_ARCHITECTURE = {"gpt2": "gpt-2"}
"""Of files that are older than the key."""


def is_in_gguf(path: str) -> bool:
    """Whether a path is that of a file that stands in a GGUF file."""
    return os.path.dirname(path).endswith(GGUF) and os.path.isfile(os.path.dirname(path))


def names_beside(folder: str) -> list[str]:
    """The names of the files in a folder, or of those that a GGUF file stands for, in alphabetical order."""
    return sorted(_unpacked(folder)) if folder.endswith(GGUF) and os.path.isfile(folder) else names_in(folder)


def unpacked(path: str) -> bytes:
    """A file that stands in a GGUF file. Raises Invalid where there is none of its name."""
    folder, name = os.path.split(path)
    data = _unpacked(folder).get(name)
    if data is None:
        raise Invalid(Problem(folder, f"has no keys that tell a {name}"))
    return data


def _unpacked(path: str) -> dict[str, bytes]:
    """The files by their names; of a split file from its first part."""
    first = os.path.join(os.path.dirname(path), parts_of(os.path.basename(path))[0])
    found = os.stat(first) if os.path.exists(first) else os.stat(path)
    return _made(first if os.path.exists(first) else path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2)
def _made(path: str, changed: int, size: int) -> dict[str, bytes]:  # noqa: ARG001  (the file as it is now)
    keys = read_gguf(path, _WHOLE).metadata
    said = {name: keys[_KEY + name] for name in _ARRAYS if _KEY + name in keys}
    files: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if isinstance(template := keys.get(_TEMPLATE), str):
        settings["chat_template"] = template
    tokens = _texts(path, "tokens", said.get("tokens"))
    if tokens:
        kinds = said.get("token_type", [1] * len(tokens))
        if not isinstance(kinds, list) or len(kinds) != len(tokens):
            raise Invalid(
                Problem(path, f"must have one value for each of {len(tokens):,} tokens", f"{_KEY}token_type")
            )
        around = {"post_processor": _around(path, keys, tokens, kinds)}
        files["tokenizer.json"] = _tokenizer(path, keys, tokens, kinds, said) | around
        for name, key in _NAMED.items():
            if (number := _id(path, keys, key, len(tokens))) is not None:
                settings[name] = tokens[number]
        ends = {number for key in _ENDS if (number := _id(path, keys, key, len(tokens))) is not None}
        ends |= {i for i, one in enumerate(tokens) if kinds[i] == _CONTROL and one in _ENDS_BY_NAME}
        files["generation_config.json"] = {"eos_token_id": sorted(ends)}
    if settings:
        files["tokenizer_config.json"] = settings
    return {name: json.dumps(content).encode() for name, content in files.items()}


def _texts(path: str, name: str, found: Any) -> list[str]:
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Invalid(Problem(path, "must be an array of texts", _KEY + name))
    return found


def _id(path: str, keys: dict[str, Any], key: str, count: int) -> int | None:
    """The id of a token that a key names."""
    number = keys.get(_KEY + key)
    if number is None:
        return None
    if type(number) is not int or not 0 <= number < count:
        raise Invalid(Problem(path, f"must be the id of one of {count:,} tokens", _KEY + key, value=shown(number)))
    return number


def _around(path: str, keys: dict[str, Any], tokens: list[str], kinds: list[int]) -> dict[str, Any] | None:
    """The post_processor that adds what llama.cpp does (`llama_vocab::impl::load` and `tokenize`).

    Where add_bos_token is absent, a beginning is added by SentencePiece's tokenizers, by BERT's and by Llama 3's.
    """

    def named(*names: str, by_default: int | None = None) -> int | None:
        found = [number for name in names if (number := _id(path, keys, name, len(tokens))) is not None]
        there = by_default is not None and by_default < len(tokens) and kinds[by_default] == _CONTROL
        return found[0] if found else by_default if there else None

    def asked(flag: str, *, absent: bool) -> bool:
        value = keys.get(_KEY + flag)
        return value if isinstance(value, bool) else absent

    kind, pre = keys.get(f"{_KEY}model"), keys.get(f"{_KEY}pre")
    words = {tokens[i]: i for i in range(len(tokens)) if kind == "bert" and kinds[i] == _CONTROL}
    scored = kind == "llama"
    first = named("bos_token_id", "cls_token_id", by_default=1 if scored else words.get("[CLS]"))
    last = named("eos_token_id", by_default=2 if scored else None)
    separator = named("seperator_token_id", "separator_token_id", by_default=words.get("[SEP]"))
    before = first if asked("add_bos_token", absent=scored or kind == "bert" or pre in _WHOLE_WORDS) else None
    after = separator if kind == "bert" else last if asked("add_eos_token", absent=False) else None
    if before is None and after is None:
        return None
    parts: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    parts = [*_special(tokens, before), *parts, *_special(tokens, after)]
    special = {
        tokens[i]: {"id": tokens[i], "ids": [i], "tokens": [tokens[i]]} for i in (before, after) if i is not None
    }
    return {"type": "TemplateProcessing", "single": parts, "pair": [], "special_tokens": special}


def _special(tokens: list[str], number: int | None) -> list[dict[str, Any]]:
    return [] if number is None else [{"SpecialToken": {"id": tokens[number], "type_id": 0}}]


def _tokenizer(
    path: str, keys: dict[str, Any], tokens: list[str], kinds: list[int], said: dict[str, Any]
) -> dict[str, Any]:
    """The tokenizer.json of a file. Raises Invalid for a tokenizer of another kind, by its name."""
    kind = keys.get(f"{_KEY}model")
    added = [
        {
            "id": i,
            "content": token,
            "special": kinds[i] != _OWN,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        for i, token in enumerate(tokens)
        if kinds[i] in (_CONTROL, _OWN)
    ]
    whole = {"version": "1.0", "added_tokens": added}
    if kind == "gpt2":
        return whole | _of_bytes(path, keys, tokens, kinds, _texts(path, "merges", said.get("merges")))
    if kind == "llama":
        return whole | _of_scores(path, tokens, kinds, said.get("scores"), first=keys.get(_FIRST) is not False)
    if kind == "bert":
        return whole | _of_words(tokens, kinds)
    named = {"t5": "Unigram", "rwkv": "RWKV's"}.get(str(kind), "these")
    what, fix = f"{named} tokenizers are not supported yet", "supported: 'gpt2', 'llama' and 'bert'"
    raise Invalid(Problem(path, what, f"{_KEY}model", value=shown(kind), suggestion=fix))


def _of_scores(path: str, tokens: list[str], kinds: list[int], scores: Any, *, first: bool) -> dict[str, Any]:
    """SentencePiece's BPE, which merges the pair of neighbours whose word has the highest score."""
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise Invalid(Problem(path, f"must have one value for each of {len(tokens):,} tokens", f"{_KEY}scores"))
    if sum(map(len, tokens)) > MOST_LETTERS:
        what = f"has tokens of more than {MOST_LETTERS:,} characters in all"
        raise Invalid(Problem(path, what, f"{_KEY}tokens"))
    normal = {token: i for i, token in enumerate(tokens) if kinds[i] == _NORMAL and len(token) <= _LONGEST}
    ranked = sorted(
        (-scores[i], i, token[:at], token[at:])
        for token, i in normal.items()
        for at in range(1, len(token))
        if token[:at] in normal and token[at:] in normal
    )
    prepend = [{"type": "Prepend", "prepend": MARK}] if first else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if first else []
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    back = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, blanks]},
        "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens) if kinds[i] != _UNUSED},
            "merges": [[left, right] for _, _, left, right in ranked],
            "unk_token": next((token for i, token in enumerate(tokens) if kinds[i] == _UNKNOWN), None),
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _of_words(tokens: list[str], kinds: list[int]) -> dict[str, Any]:
    """WordPiece; the converter wrote a mark before what begins a word, and took ## from what goes on with one.

    llama.cpp writes every text in small letters without accents.
    """
    plain = [
        token if kinds[i] != _NORMAL else token[1:] if token.startswith(MARK) else f"##{token}"
        for i, token in enumerate(tokens)
    ]
    small = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": True, "lowercase": True}
    return {
        "normalizer": {"type": "BertNormalizer", **small},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "vocab": {token: i for i, token in enumerate(plain) if kinds[i] != _UNUSED},
            "unk_token": next((token for i, token in enumerate(plain) if kinds[i] == _UNKNOWN), "[UNK]"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }


def _of_bytes(
    path: str, keys: dict[str, Any], tokens: list[str], kinds: list[int], merges: list[str]
) -> dict[str, Any]:
    """Byte-level BPE."""
    pre = keys.get(f"{_KEY}pre", _OF_ARCHITECTURE.get(str(keys.get(ARCHITECTURE))))
    if not isinstance(pre, str) or pre not in _STEPS:
        what, fix = "is a way of parting words that is not supported yet", f"supported: {', '.join(_STEPS)}"
        raise Invalid(Problem(path, what, f"{_KEY}pre", value=shown(pre), suggestion=fix))
    return {
        "normalizer": _NORMALIZED.get(pre),
        "pre_tokenizer": _STEPS[pre],
        "decoder": _byte_level(regex=True),
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens) if kinds[i] != _UNUSED},
            "merges": merges,
            "ignore_merges": pre in _WHOLE_WORDS,
        },
    }
