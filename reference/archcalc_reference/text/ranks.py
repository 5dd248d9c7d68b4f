"""Tokenizers from files of ranks, as the package tiktoken and Meta's code for Llama 3 keep them: "base64 rank" a line.

The token of the lowest rank is made first, whatever two parts make it; a word that is a token stays whole. As merges
that is every way of parting each token in two, which transformers writes too (`TikTokenConverter`). The file does not
say how a text is parted into words, and has no special tokens: published files are known by how many ranks they have,
and what is special stands in a tokenizer_config.json beside them.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc_reference.files import read_bytes
from archcalc_reference.text.bpe import FileTokenizer, from_data
from archcalc_reference.text.special import MOST_IDS
from archcalc_reference.text.spelling import byte_alphabet
from archcalc_reference.unpacking.kinds import CL100K, GPT2, O200K, QWEN2
from archcalc_reference.unpacking.parting import merges_of

LONGEST = 256
"""Bytes of a token; the longest of published files have 128, blanks."""
_MARK = codecs.BOM_UTF8
_LINE = re.compile(rb"(?:" + _MARK + rb")?\s{0,99}[A-Za-z0-9+/]+={0,2}[ \t]{1,99}-?[0-9]{1,9}[ \t]{0,99}\r?(\n|$)")
"""How a file of ranks begins, or one that is meant to be one."""
_PARTED = {
    **dict.fromkeys((50_256, 50_280), GPT2),  # r50k_base, p50k_base
    **dict.fromkeys((100_256, 128_000), CL100K),  # cl100k_base, Llama 3
    151_643: QWEN2,  # Qwen
    **dict.fromkeys((199_998, 200_000), O200K),  # o200k_base, Llama 4
}
"""How a published file of so many ranks parts a text into words."""


def is_ranks(data: bytes) -> bool:
    """Whether a file's bytes begin as one of ranks does."""
    return _LINE.match(data) is not None


def from_ranks(path: str, rows: int | None, folder: str | None = None) -> FileTokenizer:
    """The tokenizer of a file of ranks, with the special tokens that the other files of its folder have, where given.

    Raises Missing without the package tokenizers, Invalid for a line that is no token and its rank.
    """
    ranks = _ranks(read_bytes(path), path)
    pattern = _PARTED.get(len(ranks))
    told: tuple[str, ...] = ()
    if pattern is None:
        why = f"the file does not say how, and no known one has {len(ranks):,} ranks"
        pattern, told = CL100K, (f"parts a text into words as Llama 3 does: {why}",)
    return from_data(_as_json(ranks, pattern, path), path, rows, folder, told=told, processes=False)


def _ranks(data: bytes, path: str) -> dict[bytes, int]:
    """The tokens and their ranks."""
    found: dict[bytes, int] = {}
    if data.startswith(_MARK):
        what, fix = "begins with a byte order mark", "write it without: a line is a token in base64 and its rank"
        raise Invalid(Problem(path, what, "", 1, 1, suggestion=fix))
    for at, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        word, rank = parts if len(parts := line.split()) == 2 else (b"", b"")  # by any blanks, as in tiktoken
        try:
            token, number = base64.b64decode(word, validate=True), int(rank) if rank.isdigit() else -1
        except (binascii.Error, ValueError):  # digits without end
            token, number = b"", -1
        if not 0 < len(token) <= LONGEST or not 0 <= number < MOST_IDS:
            what = f"is not a token of 1 to {LONGEST} bytes in base64 and its rank, from 0 to {MOST_IDS - 1:,}"
            raise Invalid(
                Problem(path, what, "", at, 1, value=shown(line.decode(errors="replace")), suggestion=_RIGHT)
            )
        if found.setdefault(token, number) != number:
            raise Invalid(Problem(path, "has this token twice", "", at, 1, value=shown(line.decode(errors="replace"))))
    if not found:
        raise Invalid(Problem(path, "has no tokens", suggestion=_RIGHT))
    return found


_RIGHT = "a line is as in: IHRoZQ== 262"


def _as_json(ranks: dict[bytes, int], pattern: str, path: str) -> dict[str, Any]:
    """The tokenizer.json that cuts a text as the ranks do."""
    letters = {byte: character for character, byte in byte_alphabet().items()}
    words = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = merges_of(sorted(ranks, key=ranks.__getitem__), ranks, words, at=(path, ""))
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "decoder": level,
        "model": {
            "type": "BPE",
            "vocab": {words[token]: rank for token, rank in ranks.items()},
            "merges": merges,
            "ignore_merges": True,
        },
    }
