"""docs/ci.md, walked through in an empty repository. `python tests/walking.py` writes its outputs anew.

A block of a file is written where the line before it names it, a block of a diff changes the file that was named last,
and each `$` line of a console is run by bash. What a command prints is compared where the page shows any.
"""

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elsewhere import ROOT, Elsewhere

PAGE = ROOT / "docs" / "ci.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`([\w./-]+)`:\n\n\Z")
_TIME = re.compile(r"\bin \d+\.\d+s")
# Installing would need a network, and is tested elsewhere.
INSTALL = "pip install git+https://github.com/ORG/archcalc"


class Step:
    """A command of a page: what it is, what the page shows, what it prints now, and its exit code."""

    def __init__(self, command: str, shown: str) -> None:
        self.command, self.shown = command, shown
        self.printed, self.code = "", 0


def prepared(folder: Path) -> Elsewhere:
    """An empty repository, where `pip` installs nothing, and pytest is the one that runs here."""
    made = Elsewhere(folder)
    made.program("pip", f'[ "pip $*" = {shlex.quote(INSTALL)} ]')
    made.program("pytest", f'exec {shlex.quote(sys.executable)} -m pytest -p no:cacheprovider -p no:xdist "$@"')
    made.env["PYTHONDONTWRITEBYTECODE"] = "1"
    return made


def files(text: str) -> dict[str, str]:
    """The files that a page shows, by their names, as it first writes them."""
    blocks = [block for block in _FENCE.finditer(text) if block[1] not in ("console", "diff")]
    return {_NAMED.search(text, 0, block.start())[1]: block[2] for block in blocks}


def walk(elsewhere: Elsewhere, text: str) -> Iterator[tuple[re.Match[str], list[Step]]]:
    """The blocks of a page in order, each done, with the steps of a console."""
    name = ""
    for block in _FENCE.finditer(text):
        kind, body = block.groups()
        named = _NAMED.search(text, 0, block.start())
        name = named[1] if named else name
        steps = []
        if kind == "console":
            steps = [
                _done(elsewhere, Step(*part.split("\n", 1)))
                for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
            ]
        elif kind == "diff":
            _change(elsewhere.path / name, body)
        else:
            assert named, f"no line names the file of {body!r}"
            elsewhere.write(name, body)
        yield block, steps


def _done(elsewhere: Elsewhere, step: Step) -> Step:
    done = elsewhere.run(f"set +e; {{ {step.command}\n}} 2>&1")
    step.code, step.printed = done.code, _TIME.sub("in 0.50s", done.out)
    return step


def _change(file: Path, body: str) -> None:
    """Lines with a minus give way to those with a plus, and stand in the file once."""
    before, after = ("".join(f"{line[1:]}\n" for line in body.splitlines() if line[0] == sign) for sign in "-+")
    text = file.read_text()
    assert text.count(before) == 1, f"{file.name} has not once {before!r}"
    file.write_text(text.replace(before, after))


def again(text: str) -> str:
    """The page with what its commands print now: those that print nothing, or a make believe, show nothing."""
    pieces, end = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for block, steps in walk(prepared(Path(folder)), text):
            console = "".join(f"$ {step.command}\n{step.printed}" for step in steps)
            pieces += [text[end : block.start()], f"```console\n{console}```" if steps else block[0]]
            end = block.end()
    return "".join(pieces) + text[end:]


if __name__ == "__main__":
    PAGE.write_text(again(PAGE.read_text()))
