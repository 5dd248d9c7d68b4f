"""What a GGUF file says of its text, as the files that a folder has beside its weights: tokenizer, template, settings.

`FILE.gguf/tokenizer.json` is a path that no disk has; what is read there is made of the keys of FILE.gguf. So a
tokenizer, a chat template and the ends of a text have one reader each, whatever they come from; messages name
FILE.gguf.

llama.cpp cuts texts as the tokenizer did that the file was converted from (src/llama-vocab.cpp).
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.files.regular import names_in
from archcalc.huggingface.gguf import read_gguf
from archcalc.huggingface.parts import parts_of
from archcalc.spec.configs import GGUF
from archcalc_reference.unpacking.kinds import (
    BYTE,
    CONTROL,
    KEY,
    NORMAL,
    WHOLE_WORDS,
    Said,
    flag,
    texts,
    token_id,
    tokenizer,
)

_ARRAYS = ("tokens", "token_type", "merges", "scores", "precompiled_charsmap")
_TEMPLATE = "tokenizer.chat_template"
_WHOLE = (_TEMPLATE, *(KEY + name for name in _ARRAYS))

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
_OF_FALCON = 11  # llama.cpp's id of both ends of a text, of byte-level tokenizers that name none


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
    said = {name: keys[KEY + name] for name in _ARRAYS if KEY + name in keys}
    files: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    if (template := keys.get(_TEMPLATE)) is not None:
        if not isinstance(template, str):
            raise Invalid(Problem(path, "must be a text", _TEMPLATE, value=shown(template)))
        settings["chat_template"] = template
    tokens = texts(path, "tokens", said.get("tokens"))
    if tokens:
        kinds = _kinds(path, said.get("token_type"), len(tokens))
        around = {"post_processor": _around(path, keys, tokens, kinds)}
        files["tokenizer.json"] = tokenizer(Said(path, keys, tokens, kinds, said)) | around
        for name, key in _NAMED.items():
            if (number := token_id(path, keys, key, len(tokens))) is not None:
                settings[name] = tokens[number]
        ends = {number for key in _ENDS if (number := token_id(path, keys, key, len(tokens))) is not None}
        ends |= {i for i, one in enumerate(tokens) if kinds[i] == CONTROL and one in _ENDS_BY_NAME}
        files["generation_config.json"] = {"eos_token_id": sorted(ends)}
    if settings:
        files["tokenizer_config.json"] = settings
    return {name: json.dumps(content, ensure_ascii=False).encode() for name, content in files.items()}


def _kinds(path: str, found: Any, count: int) -> list[int]:
    """The kind of each token; all are normal where nothing is said."""
    if found is None:
        return [NORMAL] * count
    if not isinstance(found, list) or len(found) != count:
        raise Invalid(Problem(path, f"must have one value for each of {count:,} tokens", f"{KEY}token_type"))
    wrong = next((one for one in found if type(one) is not int or not NORMAL <= one <= BYTE), None)
    if wrong is not None:
        what = f"must be kinds of tokens, integers from {NORMAL} to {BYTE}"
        raise Invalid(Problem(path, what, f"{KEY}token_type", value=shown(wrong)))
    return found


def _around(path: str, keys: dict[str, Any], tokens: list[str], kinds: list[int]) -> dict[str, Any] | None:
    """The post_processor that adds what llama.cpp does (`llama_vocab::impl::load` and `tokenize`).

    Where add_bos_token is absent, a beginning is added by SentencePiece's tokenizers, by BERT's and by Llama 3's;
    where add_eos_token is, an end by T5's.
    """

    def named(*names: str, by_default: int | None = None) -> int | None:
        found = [number for name in names if (number := token_id(path, keys, name, len(tokens))) is not None]
        there = by_default is not None and by_default < len(tokens) and kinds[by_default] == CONTROL
        return found[0] if found else by_default if there else None

    kind, pre = keys.get(f"{KEY}model"), keys.get(f"{KEY}pre")
    words = {tokens[i]: i for i in range(len(tokens)) if kind == "bert" and kinds[i] == CONTROL}
    scored, unigram = kind == "llama", kind == "t5"
    first = named("bos_token_id", "cls_token_id", by_default=1 if scored else words.get("[CLS]"))
    last = named("eos_token_id", by_default=2 if scored else 1 if unigram else None)
    separator = named("seperator_token_id", "separator_token_id", by_default=words.get("[SEP]"))
    begins = flag(path, keys, "add_bos_token", absent=scored or kind == "bert" or pre in WHOLE_WORDS)
    ends = flag(path, keys, "add_eos_token", absent=unigram)
    if kind == "gpt2":  # whose ids by default mean nothing
        for adds, number, name in ((begins, first, "bos_token"), (ends, last, "eos_token")):
            if adds and number is None:
                raise _nameless(path, tokens, name)
    before = first if begins else None
    after = separator if kind == "bert" else last if ends else None
    if before is None and after is None:
        return None
    parts: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    parts = [*_special(tokens, before), *parts, *_special(tokens, after)]
    special = {
        tokens[i]: {"id": tokens[i], "ids": [i], "tokens": [tokens[i]]} for i in (before, after) if i is not None
    }
    return {"type": "TemplateProcessing", "single": parts, "pair": [], "special_tokens": special}


def _nameless(path: str, tokens: list[str], name: str) -> Invalid:
    """The fault of a file that has a token added to each text and does not say which.

    llama.cpp then adds 11, the end of a text of a model of 2023, whatever token that is here.
    """
    other = f", {shown(tokens[_OF_FALCON])}" if len(tokens) > _OF_FALCON else ""
    what = f"is missing, although add_{name} has one added to each text; llama.cpp would add {_OF_FALCON}{other}"
    fix = f"name the token's id here, or set add_{name} to false"
    return Invalid(Problem(path, what, f"{KEY}{name}_id", suggestion=fix))


def _special(tokens: list[str], number: int | None) -> list[dict[str, Any]]:
    return [] if number is None else [{"SpecialToken": {"id": tokens[number], "type_id": 0}}]
