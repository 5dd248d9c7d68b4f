"""What a word of a vocabulary stands for in a text: bytes by their alphabet, blanks by a mark, pieces of words.

    byte-level     Ġthe   ' the'    GPT-2's alphabet, a character for each byte
    SentencePiece  ▁the   ' the'    and <0xE4> is a byte
    WordPiece      the    ' the'    and ##ing goes on with a word
    end of word    the</w> 'the '   GPT-1's and CLIP's

A tokenizer puts a blank before a text, or after it, that is not the text's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


class Spelling(NamedTuple):
    """How a tokenizer writes words.

    Attributes:
        level: by the byte alphabet.
        marks: texts and what each of them stands for, such as a blank.
        fallback: whether <0xE4> is a byte.
        joint: what begins a piece that goes on with a word, where others have a blank before them; None elsewhere.
        end: what ends a word and stands for the blank after it; "" where nothing does.
        first: whether the blank before a text is not the text's.
    """

    level: bool = False
    marks: tuple[tuple[str, str], ...] = ()
    fallback: bool = False
    joint: str | None = None
    end: str = ""
    first: bool = False

    def bytes_of(self, word: str) -> bytes:
        """The bytes that a word of the vocabulary stands for."""
        if self.fallback and (byte := _BYTE.fullmatch(word)):
            return bytes([int(byte[1], 16)])
        if self.end and word.endswith(self.end):
            return self._plain(word.removesuffix(self.end)) + b" "
        if self.joint is not None:
            going_on = bool(self.joint) and word.startswith(self.joint)
            word = word.removeprefix(self.joint) if going_on else f" {word}"
        return self._plain(word)

    def _plain(self, word: str) -> bytes:
        if self.level:
            return _spelled(word)
        for mark, meant in self.marks:
            word = word.replace(mark, meant)
        return word.encode(errors="surrogatepass")

    def text(self, parts: Iterable[bytes]) -> str:
        """The text of tokens, without a blank that is not its own; bytes that are not UTF-8 are replaced."""
        data = b"".join(parts)
        if self.first or self.joint is not None:
            data = data.removeprefix(b" ")
        if self.end:
            data = data.removesuffix(b" ")
        return data.decode(errors="replace")


BYTES = Spelling(level=True)


@cache
def byte_alphabet() -> dict[str, int]:
    """The characters in which vocabularies write bytes: those that can be seen as themselves, others from U+0100 on.

    `bytes_to_unicode` of OpenAI's code for GPT-2 (github.com/openai/gpt-2, src/encoder.py), the other way round.
    """
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(unseen)}


def _spelled(word: str) -> bytes:
    """The bytes that a word of the vocabulary stands for; one that is not in the byte alphabet stands for itself."""
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in word)
    except KeyError:
        return word.encode(errors="surrogatepass")
