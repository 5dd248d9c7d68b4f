"""Text to tokens and back: by bytes, or by the tokenizer that lies beside a model's weights.

Read are byte-level tokenizers alone (GPT-2's kind: Radford et al. 2019, section 2.2). Each of their tokens stands for
exact bytes, so a stream of tokens can be shown as it comes although a character may end in the middle of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from archcalc.checkpoints import STATE
from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc_reference.files import LONGEST_REASON, extra, names_in, parse_object, read_object, read_text
from archcalc_reference.layouts import CONFIG

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Fast

SETTINGS, GENERATION = "tokenizer_config.json", "generation_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    SETTINGS,
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    GENERATION,
)
"""What makes up a tokenizer, or tells others of it: it goes where the weights go."""

_ENDS = (GENERATION, CONFIG)

NO_TOKEN = "\N{REPLACEMENT CHARACTER}".encode()
"""The bytes of an id that is no token: a model may have more rows than its tokenizer has tokens."""


class Tokenizer(Protocol):
    """What cuts a text into tokens and joins tokens to a text."""

    @property
    def name(self) -> str:
        """Where it comes from: a file, or `bytes`."""

    @property
    def vocab_size(self) -> int:
        """Every id that it gives is less."""

    @property
    def parts_words(self) -> bool:
        """Whether no token reaches over the end of a word, and the first word is cut as any other."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens; Invalid for a text that has no UTF-8."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 become replacement characters."""

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that a token stands for."""


class ByteTokenizer:
    """Each byte of the UTF-8 is a token."""

    name = "bytes"
    vocab_size = 256
    parts_words = True

    def encode(self, text: str) -> list[int]:
        return list(_utf8(text))

    def decode(self, ids: Iterable[int]) -> str:
        return _join(self, ids)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if 0 <= token < self.vocab_size else NO_TOKEN


class FileTokenizer:
    """A byte-level tokenizer from files, run by the package `tokenizers`."""

    def __init__(self, fast: Fast, name: str, spelled: set[int]) -> None:
        """`spelled` has the ids of added tokens, which are written as they are and not in the byte alphabet."""
        self.name = name
        self._fast = fast
        self._spelled = spelled
        vocab = fast.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocab.values(), default=-1) + 1
        # The package leaves out what it has no token for, and says nothing.
        self._lacking = {byte for character, byte in byte_alphabet().items() if character not in vocab}

    @property
    def parts_words(self) -> bool:
        found = json.loads(self._fast.to_str()).get("pre_tokenizer") or {}
        steps = found.get("pretokenizers", [found])
        parts = any(step.get("type") == "Split" or step.get("use_regex") for step in steps)
        return parts and not any(step.get("add_prefix_space") for step in steps)

    def encode(self, text: str) -> list[int]:
        lost = self._lacking.intersection(_utf8(text))
        if lost:
            raise Invalid(Problem(self.name, "has no token for a byte of the text", value=f"{min(lost):#04x}"))
        return self._fast.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        return _join(self, ids)

    def token_bytes(self, token: int) -> bytes:
        word = self._fast.id_to_token(token) if 0 <= token < self.vocab_size else None
        if word is None:
            return NO_TOKEN
        alphabet = byte_alphabet()
        if token in self._spelled or not all(c in alphabet for c in word):
            return word.encode()
        return bytes(alphabet[c] for c in word)


def read_tokenizer(folder: str | None) -> Tokenizer:
    """The tokenizer of a folder: its tokenizer.json, or GPT-2's vocab.json and merges.txt; by bytes where it has none.

    Raises Missing without the folder or the package `tokenizers`, Invalid for files that are no byte-level tokenizer.
    """
    if folder is None:
        return ByteTokenizer()
    there = names_in(folder)
    if "tokenizer.json" in there:
        return _from_json(os.path.join(folder, "tokenizer.json"))
    if "vocab.json" in there:
        return _from_merges(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
    return ByteTokenizer()


def read_ends(folder: str, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens after which nothing comes: what the folder's files call the end of a sequence."""
    there = names_in(folder)
    found: set[int] = set()
    for name in _ENDS:
        told = read_object(os.path.join(folder, name)).get("eos_token_id") if name in there else None
        found.update(one for one in (told if isinstance(told, list) else [told]) if isinstance(one, int))
    word = special(read_object(os.path.join(folder, SETTINGS)).get("eos_token")) if SETTINGS in there else None
    ids = tokenizer.encode(word) if word else []
    if len(ids) == 1:
        found.update(ids)
    # A tokenizer of bytes has none; and a config of GPT-2's may name a token that a smaller vocabulary lacks.
    return frozenset(one for one in found if tokenizer.name != "bytes" and 0 <= one < tokenizer.vocab_size)


def special(value: Any) -> str | None:
    """A special token as tokenizer_config.json has it: a string, or an object that holds it."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def tokenizer_of(folder: str, name: str, rows: int) -> Tokenizer:
    """The tokenizer of the model `name` of so many rows, whose weights are in a folder.

    Raises Missing where the model's tokens are no bytes and it has none, Invalid for one that gives ids without a row.
    """
    tokenizer = read_tokenizer(folder)
    refuse_bytes(tokenizer, folder, name, rows)
    refuse_more_tokens(tokenizer, folder, name, rows)
    return tokenizer


def refuse_bytes(tokenizer: Tokenizer, folder: str, name: str, rows: int) -> None:
    """Raise Missing where bytes would be taken for ids of other tokens: nonsense, and nobody would see it."""
    if tokenizer.name == "bytes" and rows > tokenizer.vocab_size and not _learned_bytes(folder):
        what = f"has no tokenizer, and the {rows:,} tokens of {name} are no bytes"
        raise Missing(Problem(folder, what, suggestion="put its tokenizer.json there, or vocab.json and merges.txt"))


def _learned_bytes(folder: str) -> bool:
    """Whether a training left the weights that learned from bytes."""
    if STATE not in names_in(folder):
        return False
    data = read_object(os.path.join(folder, STATE)).get("data")
    return not isinstance(data, dict) or data.get("kind", "bytes") == "bytes"


def refuse_more_tokens(tokenizer: Tokenizer, folder: str, name: str, rows: int) -> None:
    """Raise Invalid where a folder's tokenizer gives ids for which a model has no row."""
    if tokenizer.vocab_size > rows:
        what = f"its tokenizer has {tokenizer.vocab_size:,} tokens; {name} has rows for {rows:,}"
        raise Invalid(Problem(folder, what))


def tokenizer_files(folder: str) -> dict[str, bytes]:
    """The files of a folder's tokenizer, by their names; none where it has no tokenizer."""
    found = {}
    for name in set(TOKENIZER_FILES).intersection(names_in(folder)):
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as file:
                found[name] = file.read()
        except OSError as error:
            raise Invalid(Problem(path, f"cannot be read: {error.strerror}")) from None
    return found


@cache
def byte_alphabet() -> dict[str, int]:
    """The characters in which vocabularies write bytes: those that can be seen as themselves, others from U+0100 on.

    `bytes_to_unicode` of OpenAI's code for GPT-2 (github.com/openai/gpt-2, src/encoder.py), the other way round.
    """
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(unseen)}


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(Problem("text", "has no UTF-8", value=shown(text[error.start]))) from None


def _join(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    return b"".join(map(tokenizer.token_bytes, ids)).decode(errors="replace")


def _package() -> Any:
    return extra("tokenizers", "tokenizer")


def _from_json(path: str) -> FileTokenizer:
    package = _package()
    text = read_text(path)
    data = parse_object(text, path)
    if not _has_byte_level(data.get("decoder")):
        fix = "byte-level ones are read, as GPT-2's"
        raise Invalid(Problem(path, "is no byte-level tokenizer", "decoder", value=_kind(data), suggestion=fix))
    try:
        fast = package.Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001  (what the package raises has no class of its own)
        raise _refusal(path, error) from None
    fast.no_truncation()  # settings of some training, which would drop or add tokens here
    fast.no_padding()
    return FileTokenizer(fast, path, set(fast.get_added_tokens_decoder()))


def _has_byte_level(decoder: Any) -> bool:
    """Whether a decoder is ByteLevel, or a sequence of decoders that has it."""
    if not isinstance(decoder, dict):
        return False
    steps = decoder.get("decoders") if decoder.get("type") == "Sequence" else [decoder]
    return isinstance(steps, list) and any(
        isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps
    )


def _kind(data: dict[str, Any]) -> str:
    decoder = data.get("decoder")
    return shown(decoder.get("type") if isinstance(decoder, dict) else decoder)


def _from_merges(vocab: str, merges: str) -> FileTokenizer:
    package = _package()
    ids = read_object(vocab)
    most = 2**32
    for token, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < most:
            raise Invalid(Problem(vocab, "is no id", shown(token), value=shown(number)))
    lines = read_text(merges).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    pairs = []
    for at, line in enumerate(lines[first:], start=first + 1):
        left, space, right = line.rstrip("\r").partition(" ")
        if line.strip() and not (left and space and right and " " not in right):
            raise Invalid(Problem(merges, "is no merge of two tokens", "", at, 1, value=shown(line)))
        if line.strip():
            pairs.append((left, right))
    try:
        fast = package.Tokenizer(package.models.BPE(ids, pairs))
    except Exception as error:  # noqa: BLE001  (as above)
        raise _refusal(merges, error) from None
    fast.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = package.decoders.ByteLevel()
    # GPT-2's files do not say which of their tokens are no merges; this is the only one.
    end = ids.get("<|endoftext|>")
    if end is not None:
        fast.add_special_tokens(["<|endoftext|>"])
    return FileTokenizer(fast, vocab, set() if end is None else {end})


def _refusal(path: str, error: Exception) -> Invalid:
    return Invalid(Problem(path, f"is no tokenizer: {cut(str(error), LONGEST_REASON)}"))
