"""Text to tokens and back, by bytes or by the tokenizer beside a model's weights."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from archcalc.errors import Invalid, Missing, Problem, nearest
from archcalc.files.regular import names_in
from archcalc.spec.checkpoints import STATE, read_state
from archcalc.spec.configs import GGUF
from archcalc_reference.files import read_bytes, read_object
from archcalc_reference.text.around import Around
from archcalc_reference.text.bpe import NO_TOKEN, FileTokenizer, from_data, from_json, from_merges, utf8
from archcalc_reference.text.changes import Change
from archcalc_reference.text.drawing import GENERATION, ends_of
from archcalc_reference.text.pieces import MODEL, from_model
from archcalc_reference.text.ranks import from_ranks, is_ranks
from archcalc_reference.text.special import ADDED, MAP, SETTINGS, read_words
from archcalc_reference.text.spelling import byte_alphabet
from archcalc_reference.unpacking import is_in_gguf, names_beside

__all__ = ["NO_TOKEN", "ByteTokenizer", "Tokenizer", "byte_alphabet", "read_tokenizer", "tokenizer_of"]

TOKENIZER_FILES = (
    "tokenizer.json",
    SETTINGS,
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    MODEL,
    MAP,
    ADDED,
    "chat_template.jinja",
    "chat_template.json",
    GENERATION,
)
"""What makes up a tokenizer, or tells others of it: it goes where the weights go."""


_ADD = "add its tokenizer.json, or vocab.json and merges.txt"


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

    @property
    def told(self) -> tuple[str, ...]:
        """What is to be known of how it cuts a text, and contradictions between its files."""

    @property
    def around(self) -> Around:
        """The tokens that go around a text that a model reads; `encode` leaves them out."""

    def text_of(self, token: int) -> str:
        """A token as its files write it."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens. Raises Invalid where they stand for another text, or it has no UTF-8."""

    def cut(self, text: str) -> tuple[list[int], Change | None]:
        """The ids of a text's tokens, and how what they stand for differs from it."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens; bytes that are not UTF-8 become replacement characters."""

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes that a token stands for."""

    def nameless(self, rows: int) -> list[int]:
        """The ids below `rows` that stand for no token."""


class ByteTokenizer:
    """Each byte of the UTF-8 is a token."""

    name = "bytes"
    vocab_size = 256
    parts_words = True
    told = ()
    around = Around()

    def text_of(self, token: int) -> str:
        return self.token_bytes(token).decode(errors="replace")

    def encode(self, text: str) -> list[int]:
        return list(utf8(text))

    def cut(self, text: str) -> tuple[list[int], Change | None]:
        return self.encode(text), None

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if 0 <= token < self.vocab_size else NO_TOKEN

    def nameless(self, rows: int) -> list[int]:
        return list(range(self.vocab_size, rows))


def read_tokenizer(folder: str | None, rows: int | None = None) -> Tokenizer:
    """The tokenizer of a folder or a GGUF file; by bytes where it has none.

    It is read from tokenizer.json, or else GPT-2's vocab.json and merges.txt (encoder.json and vocab.bpe, as OpenAI
    names them), or else tokenizer.model, SentencePiece's or Llama 3's. A special token that stands in no vocabulary
    gets the next id, as transformers gives it, where the model's `rows` have one.

    Raises Missing without the folder or a package, Invalid for files that are malformed or not supported.
    """
    found = None if folder is None else _in_folder(folder, rows)
    return ByteTokenizer() if found is None else found


def _in_folder(folder: str, rows: int | None) -> Tokenizer | None:
    there, whole = names_beside(folder), os.path.join(folder, "tokenizer.json")
    if "tokenizer.json" in there and is_in_gguf(whole):  # whose faults are those of the file itself
        return from_data(read_object(whole), folder, rows, folder)
    if "tokenizer.json" in there:
        return from_json(whole, rows, folder)
    for vocab, merges in _GPT2:
        if vocab in there:
            return from_merges(os.path.join(folder, vocab), os.path.join(folder, merges), rows, folder)
    return _of_model(os.path.join(folder, MODEL), rows, folder) if MODEL in there else None


def _of_model(path: str, rows: int | None, folder: str | None) -> Tokenizer:
    """A tokenizer.model, of SentencePiece or, as Llama 3 has it, of ranks: they have one name."""
    made = from_ranks if path.endswith(RANKS) or is_ranks(read_bytes(path)) else from_model
    return made(path, rows, folder)


_GPT2 = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""The two files of GPT-2's tokenizer, as transformers names them and as OpenAI did."""
RANKS = ".tiktoken"
_ALONE = (GGUF, ".model", RANKS, "tokenizer.json")
"""How the names of files end that hold a tokenizer, whatever they are called."""
_FILES = (*_ALONE, ".json", "merges.txt", ".bpe")
KINDS = (
    "tokenizer.json, vocab.json and merges.txt, encoder.json and vocab.bpe, tokenizer.model, FILE.tiktoken, "
    "FILE.gguf, a folder of them, and the word bytes"
)


def named_tokenizer(place: str, rows: int | None = None) -> Tokenizer:
    """The tokenizer of a folder, of one of its files, of a GGUF file, or `bytes`.

    A folder that a training on bytes wrote has bytes for tokens; in any other one a tokenizer must be there.

    Raises Missing where there is none, and what `read_tokenizer` raises.
    """
    if place == "bytes":
        return ByteTokenizer()
    if os.path.isfile(place) and not place.endswith(GGUF):
        return _of_file(place, rows)
    near = None if os.path.exists(place) else _nearest(place)
    if near or (place.endswith(_FILES) and not os.path.exists(place)):
        what = "no such file" if place.endswith(_FILES) else "no such file or directory"
        raise Missing(Problem(place, what, suggestion=near))
    found = _in_folder(place, rows)
    if found is None:
        if _learned_bytes(place):
            return ByteTokenizer()
        raise Missing(Problem(place, "has no tokenizer", suggestion=near_file(place) or f"supported: {KINDS}"))
    return found


def near_file(folder: str) -> str | None:
    """What to say of a file of a folder that holds a tokenizer by itself; None where there is none, or are several."""
    fitting = [name for name in names_beside(folder) if name.endswith(_ALONE) and os.path.isfile(f"{folder}/{name}")]
    return f"did you mean {os.path.join(folder, fitting[0])}?" if len(fitting) == 1 else None


def _nearest(place: str) -> str | None:
    """What to say of what is beside a place that is not there, of nearly its name; or of the word for bytes."""
    folder, name = os.path.split(place)
    there = names_in(folder or os.curdir) if os.path.isdir(folder or os.curdir) else []
    if folder == "" and nearest(name, ["bytes"]):
        return "did you mean bytes?"
    near = nearest(name, there)
    return f"did you mean {os.path.join(folder, near[0])}?" if near else None


def _of_file(path: str, rows: int | None) -> Tokenizer:
    """A file by its name, with those beside it; another .json or .model is taken for a tokenizer by itself."""
    folder, name = os.path.dirname(path) or os.curdir, os.path.basename(path)
    for pair in _GPT2:
        if name in pair:
            vocab, merges = (os.path.join(folder, one) for one in pair)
            return from_merges(vocab, merges, rows, folder)
    if name.endswith(".json"):
        return from_json(path, rows, folder if name == "tokenizer.json" else None)
    if name.endswith((".model", RANKS)):
        return _of_model(path, rows, folder if name == MODEL else None)
    near = next((one for one in ("tokenizer.json", MODEL) if os.path.isfile(os.path.join(folder, one))), None)
    fix = f"did you mean {os.path.join(folder, near)}?" if near else near_file(folder) or f"supported: {KINDS}"
    raise Invalid(Problem(path, "is not a tokenizer's file", suggestion=fix))


def read_ends(folder: str, tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens after which nothing comes: what the folder's files call the end of a sequence."""
    found = set(ends_of(folder))
    word = read_words(folder).get("eos_token")
    found.update(token for token, one in getattr(tokenizer, "added", {}).items() if one.content == word)
    # A tokenizer of bytes has none; and a config of GPT-2's may name a token that a smaller vocabulary lacks.
    return frozenset(one for one in found if tokenizer.name != "bytes" and 0 <= one < tokenizer.vocab_size)


def ends_of_named(place: str, tokenizer: Tokenizer) -> frozenset[int]:
    """The same of a tokenizer named by its folder, one of its files, or a GGUF file; none where that says none."""
    folder = folder_of_named(place)
    return read_ends(folder, tokenizer) if folder else frozenset()


def folder_of_named(place: str) -> str:
    """The folder, or the GGUF file, of which a tokenizer was named: by itself or one of its files; empty for none."""
    if place == "bytes":
        return ""
    if os.path.isfile(place) and not place.endswith(GGUF):
        return (os.path.dirname(place) or os.curdir) if os.path.basename(place) in TOKENIZER_FILES else ""
    return place


def tokenizer_of(folder: str, name: str, rows: int) -> Tokenizer:
    """The tokenizer of the model `name` with `rows` rows, whose weights are in a folder.

    Raises Missing where the model's tokens are no bytes and it has none, Invalid for one that gives ids without a row.
    """
    tokenizer = read_tokenizer(folder, rows)
    refuse_bytes(tokenizer, folder, name, rows, "--tokenizer DIR names one, --tokenizer bytes takes bytes")
    refuse_more_tokens(tokenizer, folder, name, rows)
    if isinstance(tokenizer, FileTokenizer):
        tokenizer.told += _ends_outside(folder, tokenizer.vocab_size)
    return tokenizer


def tokenizer_for(place: str, name: str, rows: int, *, weights: bool) -> Tokenizer:
    """The tokenizer that `named_tokenizer` finds, for the model `name` with `rows` rows; whether that has `weights`.

    Raises Invalid for one that gives ids without a row, and what `named_tokenizer` raises.
    """
    tokenizer = named_tokenizer(place, rows)
    fix = None if weights else f"say {_with_rows(name, tokenizer.vocab_size)}"
    refuse_more_tokens(tokenizer, place, name, rows, fix)
    return tokenizer


def _with_rows(name: str, rows: int) -> str:
    """The name of a spec, with its question where it has one, that asks for other rows."""
    head, _, question = name.rpartition("@") if "@" in name else (name, "", "")
    kept = [one for one in question.split(",") if one and one.partition("=")[0].strip() != "vocab_size"]
    return f"{head}@{','.join([*kept, f'vocab_size={rows}'])}"


def _ends_outside(folder: str, size: int) -> tuple[str, ...]:
    """A line on the ends of a text in generation_config.json that no token has; a malformed one is for `read_ends`."""
    try:
        ids = ends_of(folder) if GENERATION in names_beside(folder) else frozenset()
    except Invalid:
        return ()
    outside = [one for one in sorted(ids) if not 0 <= one < size]
    if not outside:
        return ()
    listed = ", ".join(f"{one:,}" for one in outside[:3])
    return (f"eos_token_id {listed} in {GENERATION} is not one of the {size:,} tokens and never ends a text",)


def refuse_bytes(tokenizer: Tokenizer, folder: str, name: str, rows: int, fix: str = _ADD) -> None:
    """Raise Missing where bytes would be taken for ids of other tokens: nonsense, and nobody would see it."""
    if tokenizer.name == "bytes" and rows > tokenizer.vocab_size and not _learned_bytes(folder):
        what = f"has no tokenizer, and the {rows:,} tokens of {name} are not bytes"
        raise Missing(Problem(folder, what, suggestion=fix))


def _learned_bytes(folder: str) -> bool:
    """Whether a training left the weights that learned from bytes."""
    return STATE in names_beside(folder) and read_state(Path(folder)).data.kind == "bytes"


def refuse_more_tokens(tokenizer: Tokenizer, folder: str, name: str, rows: int, fix: str | None = None) -> None:
    """Raise Invalid where a folder's tokenizer gives ids for which a model has no row."""
    if tokenizer.vocab_size > rows:
        what = f"its tokenizer has {tokenizer.vocab_size:,} tokens; {name} has rows for {rows:,}"
        raise Invalid(Problem(folder, what, suggestion=fix))


def tokenizer_files(folder: str) -> dict[str, bytes]:
    """The files of a folder's tokenizer, or a tokenizer's file's, by their names; none where there is no tokenizer."""
    if os.path.isfile(folder) and not folder.endswith(GGUF):
        path, name = folder, os.path.basename(folder)
        folder = os.path.dirname(path) or os.curdir
        if name not in TOKENIZER_FILES:  # by itself
            data = read_bytes(path)
            return {MODEL if name.endswith((".model", RANKS)) else "tokenizer.json": data}
    there = set(TOKENIZER_FILES).intersection(names_beside(folder))
    return {name: read_bytes(os.path.join(folder, name)) for name in there}
