"""CPU time of a start over the imports that it cannot do without, paired in one run.

    python benchmarks/startup.py [rounds]

`archcalc params` of a spec and of a config.json is held against its four libraries, `archcalc verify gpt3-175b`
against `import torch`.
All are whole processes with bytecode cached. Bounds are ratios, because seconds differ between machines.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile

ARCHCALC = shutil.which("archcalc", path=os.path.dirname(sys.executable)) or "archcalc"
LIBRARIES = "import typer, yaml, tabulate; from pydantic import BaseModel"


def cpu(command: list[str]) -> float:
    """Seconds of user and system time of one process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(ours: list[str], floor: str, bound: float, rounds: int) -> None:
    """Print the medians of both and of their ratio, with its spread."""
    commands = [sys.executable, "-c", floor], [ARCHCALC, *ours]
    for command in commands:
        cpu(command)  # bytecode
    pairs = [(cpu(commands[0]), cpu(commands[1])) for _ in range(rounds)]
    ratios = sorted(b / a for a, b in pairs)
    low, middle, high = ratios[rounds // 10], statistics.median(ratios), ratios[-1 - rounds // 10]
    print(f"archcalc {' '.join(ours)}: {statistics.median(b for _, b in pairs):.3f} s CPU")
    print(f"{floor}: {statistics.median(a for a, _ in pairs):.3f} s CPU")
    print(f"ratio {middle:.3f} (80% of {rounds} rounds from {low:.3f} to {high:.3f}; at most {bound})\n")


def main() -> None:
    """All comparisons."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    compare(["params", "gpt3-175b"], LIBRARIES, 1.4, rounds)
    with tempfile.TemporaryDirectory() as folder:
        config = f"{folder}/config.json"
        subprocess.run([ARCHCALC, "export", "llama3-8b", "-o", config], check=True, capture_output=True)
        compare(["params", config], LIBRARIES, 1.5, rounds)
    compare(["verify", "gpt3-175b", "--tensors"], "import torch", 4, max(rounds // 8, 3))
    compare(["verify", "gpt3-175b"], "import torch", 6, max(rounds // 8, 3))


if __name__ == "__main__":
    main()
