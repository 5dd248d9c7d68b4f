"""A long search for inputs that break a reader: `python tests/fuzz/campaign.py [INPUTS] [SEED] [KIND ...]`.

Each kind of file gets its share of the inputs, in processes of their own, whose address space is bounded and whose
memory is measured. What is found is written beside the message that tells it, to `fuzzed/`; exit code 1 says that
something was. The same seed makes the same inputs. `make fuzz` runs it.
"""

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.append(os.fspath(Path(__file__).parents[1]))  # what the tests share; they find it by pytest

from contract import TooSlow, is_accepted, watch
from mutations import mutated
from readers import READERS, ROOT

INPUTS = 1_000_000
A_PROCESS = 20_000
"""Inputs of one process."""
MEMORY = 300_000
"""Kilobytes that a process may have in memory at any time, all that Python is included."""
MORE_SPACE = 2**29
"""Bytes of address space beyond what a process has once all is imported."""
SHARES = {
    "spec": 2, "plan": 3, "device": 2, "config.json": 2, "safetensors": 5, "index": 2, "quantization": 2, "gguf": 6,
}  # fmt: skip
"""Of the inputs; other kinds have one."""
KEPT = ROOT / "fuzzed"
IN_MEMORY = "/dev/shm"  # noqa: S108  (files of our own, in a folder of our own)


def main(arguments):
    numbers = [int(one) for one in arguments if one.isdigit()]
    kinds = [one for one in arguments if not one.isdigit()] or list(READERS)
    inputs, seed = (*numbers, *(INPUTS, random.SystemRandom().getrandbits(32))[len(numbers) :])[:2]
    print(f"seed {seed}", flush=True)
    whole = sum(SHARES.get(kind, 1) for kind in kinds)
    broken = 0
    for kind in kinds:
        broken += _campaign(kind, max(inputs * SHARES.get(kind, 1) // whole, 1), seed)
    return 1 if broken else 0


def _campaign(kind, inputs, seed):
    """Feed one reader, and print a line of what came of it; how many faults were found."""
    start, total, largest, slowest, faults = time.monotonic(), Counter(), 0, 0.0, {}
    for first in range(0, inputs, A_PROCESS):
        count = min(A_PROCESS, inputs - first)
        command = [sys.executable, __file__, "--one", kind, str(seed), str(first), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            told = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            told = {"faults": {f"ended with {done.returncode}: {done.stderr[-500:]}": f"seed {seed}, from {first}"}}
        total.update(told.get("inputs", {}))
        largest, slowest = max(largest, told.get("memory", 0)), max(slowest, told.get("slowest", 0))
        faults |= told["faults"]
    both = f"{total['accepted']:,} accepted and {total['refused']:,} refused"
    spent = f"{time.monotonic() - start:,.0f} s, the slowest {slowest:.2f} s, at most {largest:,} kB"
    print(f"{kind}: {total.total():,} inputs, {both}; {spent}", flush=True)
    for what, where in faults.items():
        print(f"  FOUND {what}\n    {where}", flush=True)
    return len(faults)


def inputs_of(kind, folder, seed, first, count):
    """So many inputs of a kind: those of the same seed and place in the row are the same."""
    reader = READERS[kind]
    seeds = reader.seeds(folder)
    for i in range(first, first + count):
        rng = random.Random(f"{seed} {kind} {i}")  # noqa: S311
        good = rng.choice(seeds)
        yield good if i < len(seeds) else mutated(rng, reader.form, good, seeds)


def _one(kind, seed, first, count):
    """What came of some inputs, as JSON; run in a process of its own."""
    reader, total, faults, slowest = READERS[kind], Counter(), {}, 0.0
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if os.path.isdir(IN_MEMORY) else None) as made:
        folder = Path(made)
        for good in reader.seeds(folder)[:3]:
            is_accepted(reader, folder, good, deep=True)  # whatever is imported late is here now
        if hasattr(resource, "RLIMIT_AS"):
            most = _kilobytes("VmSize") * 1024 + MORE_SPACE
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        watch(folder, ROOT, sys.prefix, sys.base_prefix)
        for data in inputs_of(kind, folder, seed, first, count):
            before, start = _kilobytes("VmHWM"), time.process_time()
            wrong = None
            try:
                total["accepted" if is_accepted(reader, folder, data) else "refused"] += 1
            except (Exception, TooSlow) as error:  # noqa: BLE001  (whatever is raised is what is looked for)
                wrong = told(error)
            slowest = max(slowest, time.process_time() - start)
            if (most := _kilobytes("VmHWM")) > MEMORY >= before:
                wrong = wrong or f"{kind}: the process has {most:,} kB"
            if wrong and wrong not in faults:
                faults[wrong] = kept(kind, data, wrong)
            total["broken"] += bool(wrong)
    return {"inputs": total, "faults": faults, "memory": _kilobytes("VmHWM"), "slowest": slowest}


def _kilobytes(field):
    """A figure that Linux has of this process: VmHWM is the most memory, VmSize the address space; elsewhere 0."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(field))
    except OSError:
        return 0


def told(error):
    """A fault in one line: what was raised and where; the same fault has the same line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "archcalc" in frame.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__} at {place}: {ascii(str(error))[: 80 if isinstance(error, AssertionError) else 40]}"


def kept(kind, data, wrong):
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    with open(path, "wb") as file:
        file.write(data)
    with open(f"{path}.txt", "w", encoding="utf-8") as file:
        file.write(f"{wrong}\n")
    return os.fspath(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        kind, *numbers = sys.argv[2:]
        print(json.dumps(_one(kind, *map(int, numbers))))
    else:
        sys.exit(main(sys.argv[1:]))
