"""The blocks of our documents: commands with what they print, programs and files. `python tests/docblocks.py` writes
them anew.

A document's commands run one after the other in a folder of their own, where `docs` is ours, so that what one of them
makes is there for the next. A block of JSON is the file config.json to the commands below it, and one of YAML that is a
whole spec is spec.yaml.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import doctables
from command import Answer, ask

ROOT = Path(__file__).parent.parent
README = [
    "README.md",
    "README.zh.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/bounds.md",
    "docs/huggingface.md",
    "docs/library.md",
    "docs/lint.md",
    "docs/plans.md",
    "docs/specs.md",
]
LEARNED = "docs/running.md"
FILM = ["docs/film.md", "docs/film.zh.md"]  # with real data, which `make film` installs
WALKED = "docs/ci.md"  # by tests/walking.py, in a repository of its own
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SAMPLE = re.compile(r"^Sample .*\n(?: .*\n)*", re.MULTILINE)  # a text that chance draws
_RATE = re.compile(r"tokens/s|a second")


class Block(NamedTuple):
    """What stands between two fences."""

    kind: str
    body: str

    @property
    def command(self) -> str:
        return self.body.partition("\n")[0].removeprefix("$ ")

    @property
    def shown(self) -> str:
        return self.body.partition("\n")[2]

    @property
    def is_spec(self) -> bool:
        """Whether it is a whole spec, and not a part of one."""
        return self.kind == "yaml" and "schema: 0\n" in self.body and not self.is_plan

    @property
    def is_plan(self) -> bool:
        """Whether it is a parallel plan."""
        return self.kind == "yaml" and "schema/draft-07/plan.json" in self.body


def blocks(document: str) -> list[Block]:
    """All blocks of a document, in order."""
    return [Block(kind, body) for kind, body in _FENCE.findall((ROOT / document).read_text())]


@contextlib.contextmanager
def workplace(above: Iterable[Block] = (), *, film: bool = False) -> Iterator[None]:
    """A folder where nothing is but our docs, the files that the blocks above show, and the data of the film."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(ROOT / "docs", Path(folder) / "docs")
        if film:
            films().lay_out(Path(folder) / "film")
        with contextlib.chdir(folder):
            for block in above:
                place(block)
            yield


def films() -> ModuleType:
    """The program that `make film` runs."""
    spec = spec_from_file_location("film", ROOT / "docs" / "film.py")
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def place(block: Block) -> None:
    """Write the file that a block is."""
    if block.kind == "json":
        Path("config.json").write_text(block.body)
    elif block.is_spec:
        Path("spec.yaml").write_text(block.body)


def run(command: str) -> Answer:
    """A block's command, what is piped into it too."""
    if command == "make report":
        makefile = (ROOT / "Makefile").read_text()
        command = re.search(r"^report:.*\n\t@\$\(BIN\)/(.*)$", makefile, re.MULTILINE)[1]
    given, pipe, command = command.rpartition(" | ")
    stdin = sys.stdin
    if pipe:
        printf, text = shlex.split(given)
        assert printf == "printf"
        sys.stdin = io.TextIOWrapper(io.BytesIO(text.replace("\\n", "\n").encode()))
    try:
        program, *arguments = shlex.split(command)
        assert program == "archcalc", command
        return ask(*arguments)
    finally:
        sys.stdin = stdin


def alike(shown: str, got: str) -> str | None:
    """The first line that differs by more than what was learned on another machine may; None where none does.

    Words and whole numbers are the same; of rates nothing is; other numbers are within 5% or 0.05; of likely tokens
    the first is the same.
    """
    before, after = (_SAMPLE.sub("", text).splitlines() for text in (shown, got))
    chances = 0
    for line, other in zip(before, after, strict=False):
        if "%" in line and "%" in other:
            chances += 1
            if chances > 1 and not line.startswith(">"):
                continue
        if not _RATE.search(line) and not _same(line.partition("%")[0], other.partition("%")[0]):
            return f"{line!r} became {other!r}"
    return None if len(before) == len(after) else f"{len(before)} lines became {len(after)}"


def _same(line: str, other: str) -> bool:
    words = [" ".join(re.sub("[█▏▎▍▌▋▊▉]+|-{3,}", "", _NUMBER.sub("#", text)).split()) for text in (line, other)]
    numbers = [[found.replace(",", "") for found in _NUMBER.findall(text)] for text in (line, other)]
    return words[0] == words[1] and all(_near(a, b) for a, b in zip(*numbers, strict=True))


def _near(a: str, b: str) -> bool:
    if "." not in a + b:
        return a == b
    return abs(float(a) - float(b)) <= 0.05 * max(abs(float(a)), 1)


def _again(document: str) -> str:
    """A document with what its commands print now."""

    def fill(match: re.Match[str]) -> str:
        block = Block(match[1], match[2])
        place(block)
        if block.kind != "console" or not (block.shown or document in FILM):
            return match[0]
        answer = run(block.command)
        out = answer.out + answer.err if document not in (LEARNED, *FILM) else answer.out
        return f"```console\n$ {block.command}\n{out}```"

    with workplace(film=document in FILM):
        return _FENCE.sub(fill, (ROOT / document).read_text())


if __name__ == "__main__":
    for document in sys.argv[1:] or [*README, LEARNED]:
        (ROOT / document).write_text(doctables.again(document))
        text = _again(document)
        (ROOT / document).write_text(text)
