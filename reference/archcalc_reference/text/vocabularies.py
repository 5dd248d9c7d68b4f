"""The model of a tokenizer.json: its vocabulary, and the fields that cut a text; nothing of its training is kept.

Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), WordPiece (Schuster & Nakajima 2012), Unigram (Kudo 2018,
arXiv:1804.10959), and whole words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from archcalc.errors import Invalid, Problem, shown
from archcalc_reference.text.special import LONGEST_TOKEN, MOST_IDS, is_id, token_id

Object = dict[str, Any]

LONGEST_PIECE = 256
"""Characters of a piece of Unigram, which tries pieces of all lengths at every place; SentencePiece makes 16."""
_LARGEST_SCORE = 1e300
LONGEST_WORD = 1_000
"""Characters of a word that WordPiece cuts; it tries every end of every piece. BERT's file says 100."""


def read_model(model: Any, path: str) -> tuple[Object, dict[str, int], dict[int, str]]:
    """What the package is given of a model, the ids of its words and the words of its ids.

    Raises Invalid for what is not supported, malformed or too large, by its name.
    """
    if not isinstance(model, dict):
        raise Invalid(Problem(path, "is not a tokenizer: it has no model"))
    kind = model.get("type", "BPE")
    if not isinstance(kind, str) or kind not in _KINDS:
        name = kind if isinstance(kind, str) and kind.isidentifier() else shown(kind)
        fix = f"supported: {', '.join(_KINDS)}"
        raise Invalid(Problem(path, f"{name[:40]} tokenizers are not supported yet", "model.type", suggestion=fix))
    if kind == "Unigram":
        words = _pieces(model.get("vocab"), path)
        vocab = {word: number for number, word in words.items()}
    else:
        vocab = _vocab(model.get("vocab"), path)
        words = {number: word for word, number in vocab.items()}
    return {"type": kind, "vocab": model["vocab"], **_KINDS[kind](model, path)}, vocab, words


def refuse_ids(vocab: Object, path: str) -> None:
    """Raise Invalid for a vocabulary whose ids are none, or where two tokens share one."""
    if not vocab:
        raise Invalid(Problem(path, "has no tokens"))
    seen: dict[int, str] = {}
    for token, number in vocab.items():
        if not is_id(number):
            token_id(number, path, shown(token))
        first = seen.setdefault(number, token)
        if first is not token:
            raise Invalid(Problem(path, f"has the id {number:,} of {shown(first)}", shown(token)))


def _vocab(vocab: Any, path: str) -> dict[str, int]:
    if not isinstance(vocab, dict):
        raise Invalid(
            Problem(path, "must be an object that maps tokens to ids", "model.vocab", value=type(vocab).__name__)
        )
    refuse_ids(vocab, path)
    return vocab


def _pieces(vocab: Any, path: str) -> dict[int, str]:
    """The pieces of a Unigram model, each with its score, by their places in the list."""
    if not isinstance(vocab, list):
        what = "must be a list of tokens with their scores"
        raise Invalid(Problem(path, what, "model.vocab", value=type(vocab).__name__))
    if not 0 < len(vocab) <= MOST_IDS:
        raise Invalid(Problem(path, f"must have 1 to {MOST_IDS:,} tokens", "model.vocab", value=f"{len(vocab):,}"))
    for at, one in enumerate(vocab):
        good = isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) and _is_number(one[1])
        if not good:
            raise Invalid(Problem(path, "must be a token and its score", f"model.vocab.{at}", value=shown(one)))
        if len(one[0]) > LONGEST_PIECE:
            what = f"has more than {LONGEST_PIECE} characters"
            raise Invalid(Problem(path, what, f"model.vocab.{at}", value=shown(one[0])))
    return {at: one[0] for at, one in enumerate(vocab)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_SCORE


def _bpe(model: Object, path: str) -> Object:
    """Without the dropout of its training."""
    flags = ("fuse_unk", "byte_fallback", "ignore_merges")
    texts = {name: _text(model, name, path) for name in _AFFIXES if model.get(name)}
    unknown = {"unk_token": model["unk_token"]} if model.get("unk_token") is not None else {}
    return {
        "merges": model.get("merges"),
        **unknown,
        **texts,
        **{name: model[name] for name in flags if name in model},
    }


_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")


def _word_piece(model: Object, path: str) -> Object:
    longest = model.get("max_input_chars_per_word", 100)
    if type(longest) is not int or not 0 < longest <= LONGEST_WORD:
        what = f"must be from 1 to {LONGEST_WORD:,}"
        raise Invalid(Problem(path, what, "model.max_input_chars_per_word", value=shown(longest)))
    return {
        "unk_token": _text(model, "unk_token", path, "[UNK]"),
        "continuing_subword_prefix": _text(model, "continuing_subword_prefix", path, "##"),
        "max_input_chars_per_word": longest,
    }


def _word_level(model: Object, path: str) -> Object:
    return {"unk_token": _text(model, "unk_token", path, "<unk>")}


def _unigram(model: Object, path: str) -> Object:
    number, fallback = model.get("unk_id"), model.get("byte_fallback", False)
    if number is not None and not (type(number) is int and 0 <= number < len(model["vocab"])):
        what = f"must be the id of one of {len(model['vocab']):,} tokens"
        raise Invalid(Problem(path, what, "model.unk_id", value=shown(number)))
    if not isinstance(fallback, bool):
        raise Invalid(Problem(path, "must be true or false", "model.byte_fallback", value=shown(fallback)))
    return {"unk_id": number, "byte_fallback": fallback}


def _text(model: Object, name: str, path: str, default: str = "") -> str:
    found = default if model.get(name) is None else model[name]
    if not isinstance(found, str) or len(found) > LONGEST_TOKEN:
        what = f"must be a text of at most {LONGEST_TOKEN:,} characters"
        raise Invalid(Problem(path, what, f"model.{name}", value=shown(found)))
    return found


_KINDS: dict[str, Callable[[Object, str], Object]] = {
    "BPE": _bpe,
    "Unigram": _unigram,
    "WordPiece": _word_piece,
    "WordLevel": _word_level,
}
"""The models that are read, and what is kept of each beside its vocabulary."""


def unknown(model: Object) -> str | None:
    """What becomes of a character that no word has: the token that stands for it, "" where it is left out, or None.

    None where every byte has a word.
    """
    if model.get("byte_fallback"):
        return None
    if model["type"] == "Unigram":
        return None if model["unk_id"] is None else str(model["vocab"][model["unk_id"]][0])
    return str(model.get("unk_token") or "")
