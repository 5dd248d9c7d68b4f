"""A header that means harm is read in a process of its own, whose seconds and memory are told."""

import subprocess
import sys

_CHILD = """
import sys, time
from importlib import import_module
from archcalc.errors import Invalid
{imports}
read = getattr(import_module("archcalc.huggingface.{module}"), "{reader}")
start, said = time.process_time(), ""
try:
    read(sys.argv[1])
except Invalid as error:
    said = str(error)
seconds = time.process_time() - start
print(seconds, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), said)
"""


def is_told_in_time(path, said, module, reader, imports=""):
    """Two seconds and 300 MB are the most; nothing is said where `said` is None."""
    code = _CHILD.format(module=module, reader=reader, imports=imports)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    seconds, memory, *line = done.stdout.rstrip("\n").split(" ", 2)
    assert said in line[0] if said else line in ([], [""]), (path.name, line)
    assert float(seconds) < 2, path.name
    assert int(memory) < 300_000, path.name
