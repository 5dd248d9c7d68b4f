"""What a check costs a file, beside reading and validating its YAML alone, and what a second process saves.

    python benchmarks/checks.py [files] [rounds]

The files are specs of the catalogue under other names, as a project would have them: with their published figures, and
without. CPU time of one process for the ratio, wall time for the processes; paired rounds.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from archcalc.checks.collecting import collect
from archcalc.checks.project import find_project, no_project
from archcalc.checks.running import check_all
from archcalc.spec.catalogue import names, specs_folder
from archcalc.spec.model import Model
from archcalc.spec.source import parse, read_file
from archcalc.spec.validation import validate

BUDGETS = """\
schema: 0
budgets:
  - {that: parameters.stored, most: 2T}
  - {that: cache.per_token, most: 100 MiB, when: {for: inference, kv_precision: bf16}}
"""


def read_alone(paths: Sequence[str]) -> None:
    """The floor: the YAML of each file, read and validated."""
    for path in paths:
        validate(parse(read_file(path), path), Model)


def written(folder: Path, count: int, *, figures: bool) -> list[str]:
    """So many files, and their paths."""
    models = Path(specs_folder()) / "models"
    texts = [(models / f"{name}.yaml").read_text() for name in names()]
    if not figures:
        dropped = ("published", "misprints")
        texts = [yaml.safe_dump({k: v for k, v in yaml.safe_load(one).items() if k not in dropped}) for one in texts]
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:05}.yaml").write_text(texts[i % len(texts)])
    return sorted(map(str, folder.iterdir()))


def cost(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """What a call takes by a clock."""
    start = clock()
    work()
    return clock() - start


def main() -> None:
    """All of it, with the medians of paired rounds."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "archcalc.yaml").write_text(BUDGETS)
        budgets = find_project(os.path.join(folder, "archcalc.yaml"))
        for words, figures, project in (
            ("without figures", False, no_project()),
            ("with published figures", True, no_project()),
            ("with two budgets", False, budgets),
        ):
            where = Path(folder) / words.replace(" ", "-")
            paths = written(where, count, figures=figures)

            def checked(jobs: int = 1, project: Any = project, where: Path = where) -> None:
                failed = [one for one in check_all(collect([str(where)]), project, jobs) if not one.passed]
                if failed:
                    sys.exit(f"{failed[0].problems[0]}")

            read_alone(paths[:300])
            checked()
            pairs = [
                (
                    cost(lambda paths=paths: read_alone(paths), time.process_time),  # type: ignore[misc]
                    cost(checked, time.process_time),
                    cost(checked, time.perf_counter),
                    cost(lambda checked=checked: checked(2), time.perf_counter),  # type: ignore[misc]
                )
                for _ in range(rounds)
            ]
            ratio = statistics.median(check / read for read, check, *_ in pairs)
            faster = statistics.median(one / two for *_, one, two in pairs)
            each = 1e3 * statistics.median(check for _, check, *_ in pairs) / count
            print(f"{count:,} specs {words}: {each:.2f} ms each, {ratio:.2f} times reading; --jobs 2: {faster:.2f} x")


if __name__ == "__main__":
    main()
