"""Special and added tokens: what a folder says of them, in any of the files that may, as transformers reads them.

    tokenizer_config.json     named ones (bos_token, eos_token ...), lists of others, and added_tokens_decoder: ids
    special_tokens_map.json   named ones and lists; read where tokenizer_config.json has no added_tokens_decoder
    added_tokens.json         ids of added tokens; read under the same condition

`PreTrainedTokenizerBase._from_pretrained` of transformers 5 is the rule. Those that stand in tokenizer.json are there
already when these are added.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown
from archcalc_reference.files import read_object
from archcalc_reference.text.around import FLAGS_AROUND
from archcalc_reference.unpacking import names_beside

SETTINGS, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LISTS = ("additional_special_tokens", "extra_special_tokens")
DECODER = "added_tokens_decoder"
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")

MOST_ADDED = 100_000
"""Added tokens of a tokenizer; published ones have some 6,000."""
LONGEST_TOKEN = 4_096  # characters of an added token
MOST_ADDED_LETTERS = 2**20
"""Characters of all added tokens together: their search takes hundreds of bytes for each."""
MOST_IDS = 2**20
"""Every id of a tokenizer is below; the largest published vocabularies have a million tokens."""


_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which JSON can write and UTF-8 cannot


class Added(NamedTuple):
    """A token that is cut out of a text as a whole, before anything else; `id` is None where nothing says one.

    `lstrip` and `rstrip` say whether it takes the blanks on that side with it; `where` is the file that has it.
    """

    content: str
    id: int | None
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = False
    special: bool = True
    where: str = ""


class Special(NamedTuple):
    """What a folder says.

    Attributes:
        words: the named ones, such as eos_token.
        added: in the order in which they are added, those with an id first.
        told: contradictions between files, and which of them is followed; a line each.
        flags: whether it sets add_bos_token and add_eos_token, where it says so.
    """

    words: dict[str, str] = {}  # noqa: RUF012  (never written to)
    added: tuple[Added, ...] = ()
    told: tuple[str, ...] = ()
    flags: dict[str, bool] = {}  # noqa: RUF012


def read_special(folder: str) -> Special:
    """The special and added tokens of a folder's files. Raises Invalid for those that are malformed."""
    there = names_beside(folder)
    paths = {name: os.path.join(folder, name) for name in (SETTINGS, MAP, ADDED)}
    found = {name: read_object(path) if name in there else {} for name, path in paths.items()}
    whole = DECODER in found[SETTINGS]  # and then the older files are not read
    used, other = (SETTINGS, MAP) if whole else (MAP, SETTINGS)
    told = [
        f"{key} is {shown(special(found[other].get(key)))} in {other} and {shown(special(value))} in {used}, "
        f"which is used"
        for key, value in found[used].items()
        if key in NAMES and special(found[other].get(key)) not in (None, special(value))
    ]
    named: dict[str, Added] = {}
    listed: list[Added] = []
    for name in (SETTINGS,) if whole else (SETTINGS, MAP):
        for key, value in found[name].items():
            if key.endswith("_token") and isinstance(value, str | dict):
                named[key] = _added(value, paths[name], key)
            elif key in LISTS and isinstance(value, dict):  # with names of their own
                named.update({label: _added(one, paths[name], label) for label, one in value.items()})
            elif key in LISTS and value is not None:
                listed += [_added(one, paths[name], key) for one in _list(value, paths[name], key)]
    specials = {one.content for one in (*named.values(), *listed)}
    by_id = _decoder(found[SETTINGS], paths[SETTINGS]) if whole else _numbered(found[ADDED], paths[ADDED], specials)
    numbered = list(by_id)
    known = {one.content for one in numbered}
    rest = {one.content: one for one in (*named.values(), *listed) if one.content not in known}
    added = (*sorted(numbered, key=lambda one: one.id or 0), *rest.values())
    if len(added) > MOST_ADDED:
        raise Invalid(Problem(folder, f"has more than {MOST_ADDED:,} added tokens", value=f"{len(added):,}"))
    refuse_long(map(len, (one.content for one in added)), folder)
    flags = {key: value for key in FLAGS_AROUND if isinstance(value := found[SETTINGS].get(key), bool)}
    return Special({key: one.content for key, one in named.items()}, added, tuple(told), flags)


def refuse_long(lengths: Iterable[int], where: str) -> None:
    """Raise Invalid for added tokens that have too many characters together."""
    if (total := sum(lengths)) > MOST_ADDED_LETTERS:
        what = f"has more than {MOST_ADDED_LETTERS:,} characters of added tokens"
        raise Invalid(Problem(where, what, value=f"{total:,}"))


def read_words(folder: str) -> dict[str, str]:
    """The special tokens that have a name, such as eos_token."""
    return read_special(folder).words


def special(value: Any) -> str | None:
    """A special token as these files have it: a string, or an object that holds it."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def is_id(value: Any) -> bool:
    """Whether a value may be a token's id."""
    return type(value) is int and 0 <= value < MOST_IDS


def token_id(value: Any, path: str, where: str) -> int:
    """A number that may be a token's id; Invalid for another."""
    if not is_id(value):
        fix = f"ids are from 0 to {MOST_IDS - 1:,}"
        raise Invalid(Problem(path, "is not a token id", where, value=shown(value), suggestion=fix))
    found: int = value
    return found


def _list(value: Any, path: str, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise Invalid(Problem(path, "is not a list of tokens", where, value=type(value).__name__))
    return value


def _added(value: Any, path: str, where: str, number: int | None = None) -> Added:
    """A token as a string, or as an object with the flags of `tokenizers.AddedToken`."""
    content = special(value)
    if not content or len(content) > LONGEST_TOKEN or _SURROGATE.search(content):
        what = f"must be a token of 1 to {LONGEST_TOKEN:,} characters of Unicode"
        raise Invalid(Problem(path, what, where, value=shown(value)))
    flags = value if isinstance(value, dict) else {}
    for flag in FLAGS:
        if not isinstance(flags.get(flag, False), bool):
            raise Invalid(Problem(path, "must be true or false", f"{where}.{flag}", value=shown(flags[flag])))
    marked = flags.get("special", False) if number is not None else True
    rest = {flag: flags[flag] for flag in ("lstrip", "rstrip", "single_word") if flag in flags}
    return Added(content, number, **rest, normalized=flags.get("normalized", not marked), special=marked, where=path)


def _decoder(settings: dict[str, Any], path: str) -> Iterator[Added]:
    """added_tokens_decoder: objects by their ids."""
    found = settings[DECODER]
    if not isinstance(found, dict):
        raise Invalid(Problem(path, "must be an object that maps ids to tokens", DECODER, value=type(found).__name__))
    for key, value in found.items():
        where = f"{DECODER}.{key}"
        number = token_id(int(key) if key.isdecimal() and len(key) < 10 else key, path, where)
        if not isinstance(value, dict):
            raise Invalid(Problem(path, "must be an object", where, value=shown(value)))
        yield _added(value, path, where, number)


def _numbered(found: dict[str, Any], path: str, specials: set[str]) -> Iterator[Added]:
    """added_tokens.json: ids by their tokens."""
    for content, number in found.items():
        one = {"content": content, "special": content in specials}
        yield _added(one, path, shown(content), token_id(number, path, shown(content)))
