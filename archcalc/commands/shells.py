"""How a shell asks for completion, and how it is answered: with words, or with nothing where something is wrong."""

import io
import os
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress

VARIABLE = "_ARCHCALC_COMPLETE"
"""The variable by which a shell asks, as typer names it in the scripts that it writes for shells."""

_BREAKS = re.compile("[@=:]+")
"""What bash ends a word at and a spec, a quantity or a flag has inside: gpt2@n_heads=16, hf:ORG/NAME."""


def asked() -> bool:
    """Whether a shell asks for completion; not where something else has set its variable."""
    known = re.fullmatch("(complete|source)_(bash|zsh|fish|powershell|pwsh)", os.environ.get(VARIABLE, ""))
    return bool(known) and ("_TYPER_COMPLETE_ARGS" in os.environ or os.environ.get("COMP_CWORD", "").isdecimal())


def typed() -> list[str]:
    """The words behind `archcalc` on the command line, the one that is being typed among them."""
    bash = os.environ.get(VARIABLE) == "complete_bash"
    return _split(os.environ.get("COMP_WORDS" if bash else "_TYPER_COMPLETE_ARGS", ""))[1:]


def answer(complete: Callable[[], object]) -> tuple[int, str]:
    """The exit code and the text of a completion by typer, which `complete` calls once `typed` tells whole words.

    A terminal that is being typed at is no place for messages: what goes wrong completes nothing.
    """
    said = io.StringIO()
    cut = _rejoin() if os.environ[VARIABLE] == "complete_bash" else 0
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            complete()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        except Exception:  # noqa: BLE001  (whatever it is: the user has not asked anything yet)
            return 1, ""
        else:
            code = 0
    return code, "".join(line[cut:] for line in said.getvalue().splitlines(keepends=True)) if cut else said.getvalue()


def _rejoin() -> int:
    """Give typer the words that were typed, which bash has broken at `@`, `=` and `:`.

    Returns how much of each answer bash has before the word that it completes.
    """
    place = int(os.environ["COMP_CWORD"])
    pieces = _split(os.environ.get("COMP_WORDS", ""))[: place + 1]
    last = pieces.pop() if len(pieces) > place else ""
    words: list[str] = []
    goes_on = False
    for piece in pieces:
        breaks = bool(_BREAKS.fullmatch(piece))
        if words[1:] and (breaks or goes_on):
            words[-1] += piece
        else:
            words.append(piece)
        goes_on = breaks
    before = ""
    if words[1:] and last and (goes_on or _BREAKS.fullmatch(last)):
        before = words.pop()
    incomplete = before + last
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = shlex.join([*words, incomplete]), f"{len(words)}"
    cut = len(incomplete) if _BREAKS.fullmatch(last) else len(before)
    cut -= incomplete[:cut].endswith("@")  # which readline has in the word that it puts the answer in place of
    if incomplete.startswith("-") and "=" in incomplete:  # typer answers with the values of such a flag
        cut = max(cut - incomplete.index("=") - 1, 0)
    return cut


def _split(text: str) -> list[str]:
    """The words of a command line, of which the last may have a quote that is open."""
    for closed in (text, f"{text}'", f'{text}"'):
        with suppress(ValueError):
            return shlex.split(closed)
    return text.split()
