"""Trainings under plans as torchrun starts them, many in a row from one process that has PyTorch loaded already.

`trained(*jobs)` runs them in a fresh process of one thread, which forks a process for each rank. That module is this
one, run by itself: it reads jobs as JSON, and writes what each rank said and its exit code.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PATIENCE = 100  # seconds for all
_EACH = 60


class Trained(NamedTuple):
    """The exit code of each rank, and what each said on standard error."""

    codes: list[int]
    said: list[str]


def trained(*jobs: tuple[int, list[str]]) -> list[Trained]:
    """Run each job, a number of ranks and arguments, one after the other."""
    given = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=given,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Trained(*one) for one in json.loads(done.stdout)]


def losses(path: str | os.PathLike[str], what: str = "loss") -> dict[int, float]:
    """The loss of each step, of a file that --losses wrote; the last one of a step that was taken again."""
    return {one["step"]: one[what] for one in map(json.loads, Path(path).read_text().splitlines())}


def _serve(jobs: list[tuple[int, list[str]]]) -> list[Trained]:
    import multiprocessing
    import tempfile

    import torch

    import archcalc_reference.model.transformer
    import archcalc_reference.parallel.running  # noqa: F401  (once, before the forks)

    torch.optim.SGD([torch.zeros(1)])  # the first optimizer of a process imports much of PyTorch
    start, found = multiprocessing.get_context("fork"), []
    for ranks, arguments in jobs:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / str(rank) for rank in range(ranks)]
            started = [
                start.Process(target=_rank, args=(rank, ranks, port, arguments, file))
                for rank, file in enumerate(files)
            ]
            for one in started:
                one.start()
            for one in started:
                one.join(_EACH)
                one.kill()  # where it waits for another that is gone
                one.join()
            found.append(Trained([one.exitcode for one in started], [file.read_text() for file in files]))
    return found


def _rank(rank: int, ranks: int, port: int, arguments: list[str], file: Path) -> None:
    from archcalc_reference.parallel.command import main

    sys.stderr = open(file, "w")  # noqa: SIM115  (as long as the process)
    said = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in said.items()})
    sys.exit(main(arguments))


if __name__ == "__main__":
    json.dump(_serve(json.load(sys.stdin)), sys.stdout)
