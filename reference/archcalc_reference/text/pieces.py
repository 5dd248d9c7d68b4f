"""Tokenizers from SentencePiece's tokenizer.model, cut by the package `sentencepiece` (Kudo & Richardson 2018).

Control pieces, and tokens that other files add, are cut out of a text first, by the package `tokenizers`; what stands
between them is SentencePiece's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc.packages import needed
from archcalc_reference.files import read_bytes
from archcalc_reference.text.around import by_settings
from archcalc_reference.text.bpe import FileTokenizer, Vocabulary
from archcalc_reference.text.changes import PREFIX, STRIPS
from archcalc_reference.text.guarding import guarded
from archcalc_reference.text.special import FLAGS, MOST_IDS, Added, Special, read_special
from archcalc_reference.text.spelling import Spelling

MODEL = "tokenizer.model"
_MARK = "\N{LOWER ONE EIGHTH BLOCK}"
_REST = "?"  # a word that no tokenizer cuts: what stands between added tokens


def from_model(path: str, rows: int | None, folder: str | None = None) -> FileTokenizer:
    """The tokenizer of a tokenizer.model, with the tokens that the other files of its folder add, where that is given.

    Raises Missing without the package, Invalid where the file is not SentencePiece's.
    """
    package = needed("sentencepiece", os.path.basename(path), "sentencepiece")
    data = read_bytes(path)
    if not data:
        raise Invalid(Problem(path, "is empty"))
    try:
        model = guarded(path, lambda: package.SentencePieceProcessor(model_proto=data))
    except Invalid:  # whose reason is a place in the package's own code
        raise Invalid(Problem(path, "is not a SentencePiece model")) from None
    count = guarded(path, model.get_piece_size)
    if not 0 < count <= MOST_IDS:
        raise Invalid(Problem(path, f"must have 1 to {MOST_IDS:,} tokens", value=f"{count:,}"))
    words = guarded(path, lambda: {i: model.id_to_piece(i) for i in range(count)})
    if (empty := next((i for i, word in words.items() if not word), None)) is not None:
        raise Invalid(Problem(path, f"has no text for its token {empty:,}"))
    ids = {word: i for i, word in words.items()}
    own = [Added(words[i], i, where=path) for i in range(count) if model.is_control(i) or model.is_unknown(i)]
    said = Special() if folder is None else read_special(folder)
    added, told = dict[int, Added](), list(said.told)
    for one in (*own, *said.added):
        number = ids.get(one.content)
        if number is None:
            number = len(words) if one.id is None else one.id
            if one.id is None and rows is not None and number >= rows:
                told.append(f"{shown(one.content)} has no token, and the model has no row for another")
                continue
            if one.id is None:
                told.append(f"{shown(one.content)} is in no vocabulary and gets the next id, as in transformers")
        elif one.id is not None and one.id != number:
            what = f"{shown(one.content)} has the id {number:,} here and another one in {os.path.basename(one.where)}"
            raise Invalid(Problem(path, what, value=f"{one.id:,}"))
        if words.get(number, one.content) != one.content:
            what = f"{shown(one.content)} gets the id {number:,}, which {shown(words[number])} has"
            raise Invalid(Problem(path, what))
        words[number], ids[one.content] = one.content, number
        added.setdefault(number, one)
    prefix = guarded(path, lambda: model.normalize("a")).startswith(_MARK)
    fallback = any(model.is_byte(i) for i in range(count))
    unknown = next((words[i] for i in range(count) if model.is_unknown(i)), "")
    told += [PREFIX] if prefix else []
    told += [] if fallback else [f"characters that it lacks become {shown(unknown)}"]
    told += [STRIPS] if any(one.lstrip or one.rstrip for one in added.values()) else []
    return FileTokenizer(
        path,
        Vocabulary(words, added),
        _between(path, added, model),
        parts_words=False,
        normalizes=True,
        told=told,
        spelling=Spelling(marks=((_MARK, " "),), fallback=fallback, first=prefix),
        around=by_settings(said.flags, said.words, ids, _defaults(model, words)),
    )


def _defaults(model: Any, words: dict[int, str]) -> dict[str, Any]:
    """The first token of a text, which a model with one adds if nothing is said, as Llama's does; and the last one."""
    named = {"bos_token": model.bos_id(), "eos_token": model.eos_id()}
    return {"add_bos_token": True, **{name: words[number] for name, number in named.items() if number in words}}


def _between(path: str, added: dict[int, Added], model: Any) -> Callable[[str], list[int]]:
    """What cuts a text at added tokens, and by the model what stands between them."""
    package = needed("tokenizers", "tokenizer")
    parts = package.Tokenizer(package.models.WordLevel({_REST: 0}, unk_token=_REST))
    new = [package.AddedToken(one.content, **{f: getattr(one, f) for f in FLAGS}) for one in added.values()]
    guarded(path, lambda: parts.add_tokens(new))
    ids = {one.content: number for number, one in added.items()}

    def encode(text: str) -> list[int]:
        return guarded(path, lambda: cut_apart(text))

    def cut_apart(text: str) -> list[int]:
        found = parts.encode(text, add_special_tokens=False)
        numbers: list[int] = []
        for number, word, (start, stop) in zip(found.ids, found.tokens, found.offsets, strict=True):
            if number:
                numbers.append(ids[word])
            else:
                numbers += model.encode(text[start:stop])
        return numbers

    return encode
