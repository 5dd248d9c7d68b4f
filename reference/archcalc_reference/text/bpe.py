"""Tokenizers from a folder's tokenizer.json or GPT-2's files, run by the package `tokenizers`.

Each token stands for bytes, so a stream of tokens can be shown as it comes although a character may end in the middle
of one. Those of a byte-level tokenizer (Radford et al. 2019, section 2.2) are exactly the text's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.errors import Invalid, Problem, cut, shown
from archcalc.packages import needed
from archcalc_reference.files import LONGEST_REASON, parse_object, read_object, read_text
from archcalc_reference.text.around import NOTHING, Around, by_settings, contradictions
from archcalc_reference.text.changes import PREFIX, STRIPS, Change, change
from archcalc_reference.text.guarding import guarded
from archcalc_reference.text.helper import Ended, Helper
from archcalc_reference.text.special import FLAGS, SETTINGS, Added, Special, read_special
from archcalc_reference.text.spelling import BYTES, Spelling, byte_alphabet
from archcalc_reference.text.tokenfile import Read, understood
from archcalc_reference.text.vocabularies import refuse_ids
from archcalc_reference.unpacking import names_beside

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Fast

SECONDS = 5.0
"""A processor's time in which a pattern that is not known must have parted a text, or a piece of a long one."""
MEMORY = 4 * 2**30
"""Bytes of address space of the process in which it does."""
NO_TOKEN = "\N{REPLACEMENT CHARACTER}".encode()
"""The bytes of an id without a token: a model may have more rows than its tokenizer has tokens."""
GPT2_END = "<|endoftext|>"
_GPT2_NAMES = ("bos_token", "eos_token")  # both name it, where nothing else is said


class Vocabulary(NamedTuple):
    """What a tokenizer's ids stand for; `added` are written as they are and not in the byte alphabet."""

    words: dict[int, str]
    added: dict[int, Added]


class FileTokenizer:
    """A tokenizer from files."""

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        encode: Callable[[str], list[int]],
        *,
        parts_words: bool,
        normalizes: bool,
        told: Iterable[str],
        spelling: Spelling = BYTES,
        around: Around = NOTHING,
    ) -> None:
        self.name, self.told, self.around = name, tuple(told), around
        self._spelling = spelling
        self.words, self.added = vocabulary
        self.vocab_size = max(self.words, default=-1) + 1
        breaks = any(
            one.lstrip or one.rstrip or "\n" in one.content or "\r" in one.content for one in self.added.values()
        )
        self.parts_words = parts_words and not breaks
        self._encode = encode
        spelled = set(self.words.values())
        # The package leaves out what it has no token for, and says nothing.
        lacking = {byte for character, byte in byte_alphabet().items() if character not in spelled}
        self._lacking = lacking if spelling.level and not normalizes else set()
        self._bytes: dict[int, bytes] = {}

    def cut(self, text: str) -> tuple[list[int], Change | None]:
        data = utf8(text)
        ids = self._encode(text)
        found = change(text, ids, [self.token_bytes(token) for token in ids], self.added)
        if found is not None and found.loses and (lost := self._lacking.intersection(data)):
            raise Invalid(Problem(self.name, "has no token for a byte of the text", value=f"{min(lost):#04x}"))
        return ids, found

    def encode(self, text: str) -> list[int]:
        ids, found = self.cut(text)
        if found is not None and found.loses and self._spelling.level:  # others are made to change texts
            fix = "`archcalc tokens` shows all of them"
            raise Invalid(Problem(self.name, found.what, suggestion=fix))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        return self._spelling.text(map(self.token_bytes, ids))

    def token_bytes(self, token: int) -> bytes:
        found = self._bytes.get(token)
        if found is None:
            word = self.words.get(token)
            if word is None:
                return NO_TOKEN
            found = self._bytes[token] = self._bytes_of(token, word)
        return found

    def _bytes_of(self, token: int, word: str) -> bytes:
        if token not in self.added:
            return self._spelling.bytes_of(word)
        apart = self._spelling.joint is not None  # by a blank, as words are
        return f" {word}".encode() if apart else word.encode()

    def text_of(self, token: int) -> str:
        """A token as its files write it."""
        return self.words.get(token, "")

    def nameless(self, rows: int) -> list[int]:
        return [token for token in range(rows) if token not in self.words]


def from_json(path: str, rows: int | None, folder: str | None = None) -> FileTokenizer:
    """The tokenizer of a tokenizer.json, with what the other files of its folder say, where that is given."""
    return from_data(parse_object(read_text(path), path), path, rows, folder)


def from_data(
    data: dict[str, Any],
    path: str,
    rows: int | None,
    folder: str | None = None,
    *,
    told: tuple[str, ...] = (),
    processes: bool = True,
) -> FileTokenizer:
    """The same of the object that it is, or that another file at `path` amounts to, of which something may be `told`.

    What goes around a text is said by its post_processor, where it `processes` texts, or else by the folder's files.
    """
    package = needed("tokenizers", "tokenizer")
    read = understood(data, path)
    read = read._replace(told=(*told, *read.told))
    # What this process loads has no pattern that another one is to run.
    here = {**read.data, "normalizer": None, "pre_tokenizer": None} if read.foreign else read.data
    fast = guarded(path, lambda: package.Tokenizer.from_str(json.dumps(here)))
    own = [
        Added(one["content"], one["id"], **{flag: one[flag] for flag in FLAGS}, where=path)
        for one in read.data["added_tokens"]
    ]
    said = None
    if folder is not None and SETTINGS in names_beside(folder):
        said = read_object(os.path.join(folder, SETTINGS)).get("add_prefix_space")
    if isinstance(said, bool) and said != read.prefix:
        used = f"{str(read.prefix).lower()} in tokenizer.json, which is used"
        read = read._replace(told=(*read.told, f"add_prefix_space is {str(said).lower()} in {SETTINGS} and {used}"))
    return _finished(package, fast, path, folder, rows, own, read, processes=processes)


def from_merges(vocab: str, merges: str, rows: int | None, folder: str) -> FileTokenizer:
    """The tokenizer of GPT-2's vocab.json and merges.txt, whatever their names, in a folder."""
    package = needed("tokenizers", "tokenizer")
    ids, pairs = read_object(vocab), _pairs(merges)
    refuse_ids(ids, vocab)
    settings = os.path.join(folder, SETTINGS)
    prefix = os.path.exists(settings) and read_object(settings).get("add_prefix_space") is True
    fast = guarded(merges, lambda: package.Tokenizer(package.models.BPE(ids, pairs)))
    fast.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    # GPT-2's files do not say which of their tokens are no merges; this is the only one.
    own = [Added(GPT2_END, ids[GPT2_END], where=vocab)] if GPT2_END in ids else []
    words = {number: word for word, number in ids.items()}
    told = (PREFIX,) if prefix else ()
    read = Read({}, ids, words, BYTES, foreign=False, parts_words=not prefix, told=told)
    return _finished(package, fast, vocab, folder, rows, own, read, processes=False)


def _pairs(path: str) -> list[tuple[str, str]]:
    lines = read_text(path).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    pairs = []
    for at, line in enumerate(lines[first:], start=first + 1):
        left, space, right = line.rstrip("\r").partition(" ")
        if line.strip() and not (left and space and right and " " not in right):
            raise Invalid(Problem(path, "is not a merge of two tokens", "", at, 1, value=shown(line)))
        if line.strip():
            pairs.append((left, right))
    return pairs


def _finished(
    package: Any,
    fast: Fast,
    path: str,
    folder: str | None,
    rows: int | None,
    own: list[Added],
    read: Read,
    *,
    processes: bool,
) -> FileTokenizer:
    """With the tokens that the folder's other files add, which get the ids that these say."""
    said = Special() if folder is None else read_special(folder)
    vocab = read.vocab
    known = {one.content for one in own}
    free = max([len(vocab), *(one.id + 1 for one in own if one.id is not None)])  # as the package has it
    told, added = list(said.told), list(own)
    for one in said.added:
        if one.content in known:
            continue
        if one.content not in vocab:
            if one.id is None and rows is not None and free >= rows:
                told.append(f"{shown(one.content)} has no token, and the model has no row for another")
                continue
            if one.id is None:
                told.append(f"{shown(one.content)} is in no vocabulary and gets the next id, as in transformers")
            free += 1
        added.append(one)
    new = [package.AddedToken(one.content, **{flag: getattr(one, flag) for flag in FLAGS}) for one in added]
    guarded(path, lambda: fast.add_tokens(new))  # and those that it has stay as they are
    numbers = {one.content: guarded(path, partial(fast.token_to_id, one.content)) for one in added}
    ids = {word: number for word, number in numbers.items() if number is not None}
    words = dict(read.words)
    _refuse_other_ids([*own, *said.added], {**vocab, **ids}, words, path)
    words.update({number: word for word, number in ids.items()})
    encode = _elsewhere(path, read, fast) if read.foreign else _here(path, fast)
    if processes:
        around = read.around
        told += contradictions(said.flags, around, SETTINGS)
    else:
        around = by_settings(said.flags, said.words, {**vocab, **ids}, dict.fromkeys(_GPT2_NAMES, GPT2_END))
    refuse_around(around, words, path)
    return FileTokenizer(
        path,
        Vocabulary(words, {ids[one.content]: one for one in added if one.content in ids}),
        encode,
        parts_words=read.parts_words,
        normalizes=bool(read.data.get("normalizer")),
        told=(*read.told, *told, *([STRIPS] if any(one.lstrip or one.rstrip for one in added) else [])),
        spelling=read.spelling,
        around=around,
    )


def refuse_around(around: Around, words: dict[int, str], path: str) -> None:
    """Raise Invalid where what is put around a text is not among the tokens."""
    for one in (*around.before, *around.after):
        if one not in words:
            raise Invalid(
                Problem(path, "adds an id that is not one of its tokens", "post_processor", value=f"{one:,}")
            )


def _refuse_other_ids(added: list[Added], ids: dict[str, int], words: dict[int, str], path: str) -> None:
    """Raise Invalid where an added token has not the id that its file says, or one that another token has.

    The model's row for it would be another's. The package counts the tokens of a vocabulary for the next id, and not
    its holes.
    """
    for one in added:
        found = ids.get(one.content)
        if found is None:  # left out
            continue
        if one.id is not None and found != one.id:
            where = "added_tokens" if one.where == path else os.path.basename(one.where)
            what = f"{shown(one.content)} has the id {found:,} here and another one in {where}"
            raise Invalid(Problem(path, what, value=f"{one.id:,}"))
        if words.get(found, one.content) != one.content:
            raise Invalid(
                Problem(path, f"{shown(one.content)} gets the id {found:,}, which {shown(words[found])} has")
            )


def _here(path: str, fast: Fast) -> Callable[[str], list[int]]:
    def encode(text: str) -> list[int]:
        ids: list[int] = guarded(path, lambda: fast.encode(text, add_special_tokens=False).ids)
        return ids

    return encode


def _elsewhere(path: str, read: Read, fast: Fast) -> Callable[[str], list[int]]:
    """In a process that can be ended."""
    whole = {**json.loads(guarded(path, fast.to_str)), **{k: read.data[k] for k in ("normalizer", "pre_tokenizer")}}
    helper = Helper("cutting", {"tokenizer": json.dumps(whole)}, seconds=SECONDS, memory=MEMORY)

    def encode(text: str) -> list[int]:
        try:
            ids: list[int] = helper.ask(text)
        except Ended as error:
            raise Invalid(Problem(path, f"its pattern {cut(str(error), LONGEST_REASON)}")) from None
        return ids

    return encode


def utf8(text: str) -> bytes:
    """A text's UTF-8; Invalid where it has none."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(Problem("text", "cannot be encoded as UTF-8", value=shown(text[error.start]))) from None
