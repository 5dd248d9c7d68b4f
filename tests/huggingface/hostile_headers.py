"""A header that means harm is read in a process of its own, whose seconds and memory are told."""

import subprocess
import sys

# Each file is read in a copy of a process that has its imports already: they take longer than the reading.
_CHILD = """
import os, sys, time
from importlib import import_module
from archcalc.errors import Invalid
{imports}
read = getattr(import_module("archcalc.huggingface.{module}"), "{reader}")

def told(path):
    start, said = time.process_time(), ""
    try:
        read(path)
    except Invalid as error:
        said = str(error)
    seconds = time.process_time() - start
    most = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(seconds, most, said, flush=True)

for path in sys.stdin:
    if not (child := os.fork()):
        told(path.rstrip("\\n"))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""


def are_told_in_time(cases, module, reader, imports=""):
    """Two seconds and 300 MB are the most for each path; nothing is said where `said` is None."""
    code = _CHILD.format(module=module, reader=reader, imports=imports)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        for path, said in cases:
            run.stdin.write(f"{path}\n")
            run.stdin.flush()
            seconds, memory, line = run.stdout.readline().rstrip("\n").split(" ", 2)
            assert said in line if said else not line, (path.name, line)
            assert float(seconds) < 2, path.name
            assert int(memory) < 300_000, path.name
        run.stdin.close()
        assert run.wait() == 0
