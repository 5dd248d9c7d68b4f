"""Screens of 80 columns, whole: tests/goldens/ has them. `python tests/screens.py` writes them anew."""

import os
import shlex
import sys
from pathlib import Path

from command import ask

FOLDER = Path(__file__).parent / "goldens"
COMMANDS = {
    "report": "report gpt3-175b",
    "params": "params gpt3-175b",
    "params-by-layer": "params gpt2 --by layer",
    "params-by-tensor": "params gpt2 --by tensor",
    "flops": "flops gpt2 --tokens 10B --device a100-80gb --mfu 40% --price 2/h --recompute full",
    "flops-decode": "flops gpt2 --phase decode --device h100-sxm",
    "memory": "memory gpt3-175b --device h100-sxm",
    "memory-inference": "memory gpt2 --for inference --device h100-sxm",
    "diff": "diff gpt2 gpt2-xl",
    "diff-of-five": "diff gpt2 gpt2-medium gpt2-large gpt2-xl gpt3-175b",
    "sweep": "sweep gpt3-175b --vary n_layers=12,96 --vary d_model=12288,24576",
    "list": "list llama",
    "list-devices": "list devices",
    "list-quantities": "list quantities",
    "trace": "trace gpt3-175b",
    "explain": "explain gpt2 memory.total",
    "explain-ceiling": "explain gpt2 devices.h100-sxm.training",
    "explain-latex": "explain gpt2 memory.total --format latex",
    "report-of-ranks": "report gpt3-175b --tp 8 --pp 8 --dp 16 --zero 1 --sequence-parallel --accumulation 64",
    "flops-of-ranks": "flops gpt3-175b --plan gpt3-175b-megatron --tokens 300B --device a100-80gb --mfu 40%",
    "explain-of-ranks": "explain gpt3-175b memory.state --tp 8 --pp 8 --dp 16 --zero 1",
    "check": "check gpt3-xl",
    "softmax": "softmax 2 1 0.1 --temperature 0,1,5",
}


def screen(command: str) -> str:
    """A command with what it prints."""
    answer = ask(*shlex.split(command))
    assert (answer.code, answer.err) == (0, "")
    return f"$ archcalc {command}\n{answer.out}"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or COMMANDS:
        (FOLDER / f"{name}.txt").write_text(screen(COMMANDS[name]))
