"""A file of a git repository as it was at a revision: `HEAD~1:specs/own.yaml`, `main:./own.yaml`, `v1.2:model`.

REV:PATH is what git means by it: the path counts from the top of the repository, or with ./ or ../ from the current
folder. A file on disk that has exactly this name comes first.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from archcalc.errors import MOST_COMPARED, Invalid, Missing, Problem, nearest, shown
from archcalc.files.reading import TooSlow
from archcalc.files.regular import folders_above
from archcalc.spec.question import PATH_LIMIT
from archcalc.spec.source import LARGEST_FILE, read_file, too_large

if TYPE_CHECKING:
    from archcalc.files.git import Answer

LONGEST = 4_096
"""Characters of a revision, and of a path in it."""
_OBJECT = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n")
_BASE = re.compile(r"[^~^@]+")
_QUESTION = re.compile(r"@(?!\{).*=", re.DOTALL)
_MOST_NAMES = 2**20  # bytes of the names of files or branches among which the nearest is looked for
_FOLDER, _SUBMODULE, _SYMLINK = "040000", "160000", "120000"


class Revision(NamedTuple):
    """What REV:PATH names; `path` is as it was typed."""

    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.name}:{self.path}"


class _Entry(NamedTuple):
    """What a tree has at a path; `size` is None where git has not fetched the object."""

    mode: str
    object: str
    size: int | None
    path: str


def revision(text: str) -> Revision | None:
    """What `text` names if it is REV:PATH, with a question or not; None for a file on disk, and for everything else.

    An address (https://...) is not one, nor is a path on a drive (C:...), or one that begins with a slash or a dot.
    """
    at = _colon(text)
    if at < 0 or text.startswith(("hf:", "/", ".")) or text[at:].startswith("://") or os.path.splitdrive(text)[0]:
        return None
    ends = [len(text), *(place for place in range(at, min(len(text), PATH_LIMIT)) if text[place] == "@")]
    if _QUESTION.search(text, 0, at) or any(os.path.lexists(text[:end]) for end in ends):
        return None
    return Revision(text[:at], text[at + 1 :])


def on_disk(text: str) -> str:
    """The path that a spec has on disk now, from the current folder, without its revision and its question."""
    where = revision(text)
    path = text.partition("@")[0] if not os.path.exists(text) else text
    if where is None:
        return path
    path = parted(where)[0].removeprefix(f"{where.name}:")
    if path.startswith(("./", "../")):
        return os.path.normpath(path)
    top = next((folder for folder in folders_above() if os.path.lexists(os.path.join(folder, ".git"))), "")
    return os.path.normpath(os.path.join(top, path))


def _colon(text: str) -> int:
    """The first colon outside braces, as git looks for it: HEAD@{10:30}:own.yaml."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}" and depth > 0)
        if sign == ":" and not depth:
            return at
    return -1


def parted(where: Revision) -> tuple[str, str | None]:
    """REV:PATH and its question: what follows the first @ of the path that has a value behind it."""
    pieces = where.path.split("@")
    at = next((at for at, piece in enumerate(pieces) if at and "=" in piece), len(pieces))
    return f"{where.name}:{'@'.join(pieces[:at])}", "@".join(pieces[at:]) if at < len(pieces) else None


def read_source(path: str, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a file, of standard input for `-`, or of a file at a revision.

    Raises as `read_file` and `read_revision` do.
    """
    where = revision(path)
    return read_file(path, largest) if where is None else read_revision(where, largest)[1]


def read_revision(where: Revision, largest: int, inside: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """A file at a revision: its name in messages, and its bytes; in a folder the first of the files `inside`.

    Raises Missing where git, the revision's objects or the path are missing, Invalid for a revision that git does not
    know, for a link, a submodule or a folder, and for a file larger than `largest`.
    """
    name, entry = _file(where, inside)
    if entry.size is not None and entry.size > largest:
        raise too_large(name, largest)
    answer = _ask(where, "cat-file", "blob", entry.object, most=largest)
    if answer.code or entry.size is None or len(answer.data) != entry.size:
        raise _unreadable(where, "cat-file", "blob", entry.object)
    return name, answer.data


def is_there(where: Revision, inside: tuple[str, ...] = ()) -> bool:
    """Whether there is a file to read, whatever is in it."""
    try:
        return bool(_file(where, inside))
    except (Invalid, Missing):
        return False


def _file(where: Revision, inside: tuple[str, ...]) -> tuple[str, _Entry]:
    """The entry of a file, and its name in messages. Raises as `read_revision` does."""
    tree = _tree(where)
    path = _path(where)
    entry = _entries(where, tree, path)[0] if path else _Entry(_FOLDER, tree, None, "")
    name = f"{where}"
    if entry.mode == _FOLDER:
        listed = {one.path: one for one in _listed(where, entry.object, *inside)} if inside else {}
        found = next((one for one in inside if one in listed), None)
        if found is None:
            fix = f"give the path of a file in it{', or a folder with a config.json' if inside else ''}"
            raise Invalid(Problem(name, "is a folder", suggestion=fix))
        name = f"{name.rstrip('/')}{'' if name.endswith(':') else '/'}{found}"
        entry = listed[found]
    if entry.mode not in ("100644", "100755"):
        raise Invalid(_special(name, entry))
    return name, entry


def is_known(where: Revision) -> bool:
    """Whether git knows the revision, in a repository."""
    try:
        _tree(where)
    except (Invalid, Missing):
        return False
    return True


def _ask(where: Revision, *arguments: str, most: int = _MOST_NAMES, errors: bool = False) -> Answer:
    from archcalc.files.git import ask_git  # which imports subprocess

    try:
        return ask_git(*arguments, most=most, errors=errors)
    except FileNotFoundError:
        raise Missing(Problem(f"{where}", "needs git, which is not installed")) from None
    except TooSlow as error:
        raise Invalid(Problem(f"{where}", f"{error.strerror}")) from None
    except (OSError, ValueError) as error:  # a NUL, or a lone surrogate
        reason = getattr(error, "strerror", None) or "git takes no such name"
        raise Invalid(Problem(f"{where}", f"cannot be read: {reason}")) from None


def _tree(where: Revision) -> str:
    """The object that is the revision's tree."""
    name = where.name
    if not name:
        fix = f"HEAD:{where.path} is that of the last commit"
        raise Invalid(Problem(f"{where}", "has no revision before the colon", suggestion=fix))
    if max(map(len, where)) > LONGEST:
        raise Invalid(Problem(f"{where}", f"is longer than {LONGEST:,} characters"))
    if name.startswith("-") or not name.isprintable():
        raise Invalid(Problem(f"{where}", "is not REV:PATH: git has no such revision", value=shown(name)))
    if found := _object(where, name):
        return found
    raise _unknown(where)


def _object(where: Revision, name: str) -> str | None:
    """The tree that a name means; None where git knows none."""
    found = _OBJECT.fullmatch(_ask(where, "rev-parse", "--verify", "--quiet", f"{name}^{{tree}}").data)
    return found[1].decode() if found else None


def _unknown(where: Revision) -> Invalid | Missing:
    """The error for a revision that git does not know: there is no repository, no history, or another name."""
    name = where.name
    there = _ask(where, "rev-parse", "--is-shallow-repository", errors=True)
    if there.code:
        if b"not a git repository" in there.data:
            fix = "run it inside one, or give the path of a file"
            return Invalid(
                Problem(f"{where}", "is REV:PATH, and this folder is not in a git repository", suggestion=fix)
            )
        return _unreadable(where, "rev-parse", "--is-shallow-repository")
    what = f"unknown revision {shown(name)}"
    if there.data.strip() == b"true":
        fix = "`git fetch --unshallow` fetches all, and so does `fetch-depth: 0` of actions/checkout"
        return Missing(Problem(f"{where}", f"{what} in this shallow clone", suggestion=fix))
    base = match[0] if (match := _BASE.match(name)) else "HEAD"
    if base != name and _object(where, base):
        return Invalid(Problem(f"{where}", what, suggestion=f"{base} itself is known"))
    names = _names(where, "for-each-ref", "--format=%(refname:short)%00", "refs/heads", "refs/tags", "refs/remotes")
    names = [one.lstrip("\n") for one in names]
    if not names and not _object(where, "HEAD"):
        return Invalid(Problem(f"{where}", f"{what}: the repository has no commits yet"))
    near = [one for one in names if one.endswith(f"/{base}")] or nearest(base, [*names, "HEAD"], 3)
    fix = f"nearest: {', '.join(near[:3])}" if near else "`git branch --all` and `git tag` list those that have a name"
    return Invalid(Problem(f"{where}", what, suggestion=fix))


def _path(where: Revision) -> str:
    """The path from the top of the repository; "" for the top itself."""
    path = where.path.replace(os.sep, "/")
    if path.startswith("/"):
        fix = "leave out the slash; the path starts at the top of the repository, or with ./ at the current folder"
        raise Invalid(Problem(f"{where}", "must have a path inside the repository", value=shown(path), suggestion=fix))
    if path.split("/")[0] in (".", ".."):
        path = _prefix(where) + path
    path = posixpath.normpath(path) if path else "."
    if path.split("/")[0] == "..":
        raise Invalid(Problem(f"{where}", "leads out of the repository"))
    return "" if path == "." else path


def _prefix(where: Revision) -> str:
    """The current folder from the top of the repository, with a slash behind it; "" for the top itself."""
    return os.fsdecode(_ask(where, "rev-parse", "--show-prefix").data.removesuffix(b"\n"))


def _entries(where: Revision, tree: str, path: str) -> list[_Entry]:
    """What the tree has at a path. Raises Missing where that is nothing."""
    if found := _listed(where, tree, path):
        return found
    what = f"no such file in {where.name}"
    top = os.fsdecode(_ask(where, "rev-parse", "--show-toplevel").data.removesuffix(b"\n"))
    if top and os.path.lexists(os.path.join(top, path)):
        raise Missing(Problem(f"{where}", f"{what}, although it is on disk", suggestion="commit it, or give its path"))
    every = _names(where, "ls-tree", "-r", "-z", "--name-only", "--full-tree", "--", tree)
    here = posixpath.join(_prefix(where), path)
    near = [here] if here in every else [one for one in every if posixpath.basename(one) == posixpath.basename(path)]
    near = near or nearest(path, [one for one in every if one.endswith((".yaml", ".yml", ".json"))], 3)
    fix = f"nearest: {', '.join(f'{where.name}:{one}' for one in near[:3])}" if near else None
    raise Missing(Problem(f"{where}", what, suggestion=fix))


def _listed(where: Revision, tree: str, *paths: str) -> list[_Entry]:
    """The entries of a tree that stand at some paths."""
    arguments = ("ls-tree", "-z", "-l", "--full-tree", "--", tree, *paths)
    answer = _ask(where, *arguments)
    if answer.code:
        raise _unreadable(where, *arguments)
    entries = []
    for line in answer.data.split(b"\0")[:-1]:
        said, _, path = line.partition(b"\t")
        mode, _, name, size = said.decode().split()
        entries.append(_Entry(mode, name, int(size) if size.isdigit() else None, os.fsdecode(path)))
    return entries


def _names(where: Revision, *arguments: str) -> list[str]:
    """Names that git lists, each before a NUL: the first of very many."""
    answer = _ask(where, *arguments)
    return [os.fsdecode(name) for name in answer.data.split(b"\0")[:-1]][:MOST_COMPARED]


def _special(name: str, entry: _Entry) -> Problem:
    """The problem for what is in a tree and is not a file."""
    if entry.mode == _SYMLINK:
        return Problem(name, "is a symbolic link", suggestion="give the path that it leads to")
    if entry.mode == _SUBMODULE:
        return Problem(name, "is a submodule", suggestion="ask inside it, at a revision of its own")
    return Problem(name, "is a folder", suggestion="give the path of a file in it")


def _unreadable(where: Revision, *arguments: str) -> Invalid | Missing:
    """The error for what git refuses, in its own words; a partial clone may lack what it was asked for."""
    if _ask(where, "config", "--get-regexp", r"^remote\..*\.promisor$").data:
        what = "is not in this partial clone"
        return Missing(Problem(f"{where}", what, suggestion=f"`git show {where}` fetches it"))
    said = os.fsdecode(_ask(where, *arguments, errors=True).data).splitlines()
    why = next((line for line in said if line.startswith("fatal: ")), "no reason").removeprefix("fatal: ")
    fix = "`git config --global --add safe.directory DIR` trusts it" if "dubious ownership" in why else None
    return Invalid(Problem(f"{where}", f"cannot be read: git says {why}", suggestion=fix))
