"""Another repository than ours, in which somebody uses archcalc: made with git, with nothing of this machine's settings."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

SPEC = """\
schema: 0
name: ours
source: "our own design"
vocab_size: 32768
context_length: 4096
d_model: 2048
embedding: {positions: none}
layers:
  - repeat: 30
    norm: {kind: rmsnorm, epsilon: 1.0e-6}
    attention: {kind: multi_head, n_heads: 16, n_kv_heads: 8, d_head: 128, bias: false, rotary: {d_rotary: 128, theta: 500000}}
    mlp: {kind: gated, d_ff: 5632, activation: silu, bias: false}
final_norm: {kind: rmsnorm, epsilon: 1.0e-6}
unembedding: {tied: true, bias: false}
"""
# By hand: a layer has 2,048 x 2,048 for queries and as much for the output, twice 2,048 x 1,024 for keys and values,
# three times 2,048 x 5,632 in the MLP, and two norms of 2,048; the table is 32,768 x 2,048, the last norm 2,048.
LAYER = 2 * 2048 * 2048 + 2 * 2048 * 1024 + 3 * 2048 * 5632 + 2 * 2048
PARAMETERS = 30 * LAYER + 32768 * 2048 + 2048
DEEPER = PARAMETERS + 4 * LAYER  # with `repeat: 34`


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Elsewhere:
    """A repository at a path, and commands run in it by bash, where `archcalc` is this checkout's."""

    def __init__(self, path: Path) -> None:
        self.path, self.bin = path / "repository", path / "bin"
        self.path.mkdir()
        self.bin.mkdir()
        self.program("archcalc", f'exec {shlex.quote(sys.executable)} -c "from archcalc.cli import main; main()" "$@"')
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "GITHUB_", "MAKE", "MFLAGS", "PYTEST_"))
        }
        me = {f"GIT_{who}_{what}": f"me@{who}.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        self.env = {
            **kept,
            **me,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'reference'}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "HOME": str(path),
            "COLUMNS": "100",
        }
        self.run("git init -q -b main .")

    def program(self, name: str, script: str) -> None:
        """A program of this name, before all others."""
        file = self.bin / name
        file.write_text(f"#!/usr/bin/env bash\n{script}\n")
        file.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        """A file of the repository."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def run(self, script: str, **more: str) -> Done:
        """A script of bash, as GitHub runs one, with more of an environment."""
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            command, cwd=self.path, env={**self.env, **more}, capture_output=True, text=True, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def commit(self) -> Done:
        """All that was changed, in a commit, or why not."""
        return self.run("git add -A && git commit -q -m change")
