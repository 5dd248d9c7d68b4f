"""Peaks of a training step on a GPU against the prediction: requested, allocated and reserved bytes.

    python benchmarks/gpu_memory.py [--device cuda] [--specs gpt2,gpt2-xl,llama3.2-1b] [--batches 1,8] [--seq N]

Steps of the reference in bf16 with torch.optim.AdamW, one tensor at a time, flash attention, with and without
recomputation; sequences of the context, at most 2,048. On a `cpu` the record is that of its allocator, to try the
program: --device cpu --specs tiny.

Requested bytes are what the program asked for, the figure to be held against the prediction; allocated ones are
rounded up to blocks of 512 bytes; reserved ones are what the caching allocator took from the driver.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from typing import Any

import torch
from tabulate import tabulate

import archcalc
from archcalc.proof.allocator import record_step
from archcalc_reference import Transformer

LONGEST = 2_048  # positions, if not asked for


def on_the_gpu(model: archcalc.Model, run: archcalc.Run, keeping: archcalc.Keeping) -> tuple[int, int, int]:
    """The peaks of a second step: requested, allocated and reserved."""
    device = torch.device("cuda")
    with device:
        reference = Transformer(model).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(reference.parameters(), foreach=False)
    tokens, targets = (torch.randint(model.vocab_size, (run.batch, run.sequence), device=device) for _ in range(2))
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        loss = reference(tokens, targets, run.attention, recompute=keeping.recompute == "full").loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        del loss
    torch.cuda.synchronize()
    found = torch.cuda.memory_stats()
    return (
        found["requested_bytes.all.peak"],
        found["allocated_bytes.all.peak"],
        found["reserved_bytes.all.peak"],
    )


def rows(device: str, specs: list[str], batches: list[int], seq: int | None) -> Iterator[list[Any]]:
    """One row for each model, batch and way of saving."""
    for spec in specs:
        model = archcalc.load(spec)
        for batch in batches:
            for recompute in ("none", "full"):
                run = archcalc.Run(batch=batch, sequence=seq or min(model.context_length, LONGEST), attention="flash")
                keeping = archcalc.Keeping(
                    "bf16", "adamw", recompute=recompute, statistic=4 if device == "cuda" else 2
                )
                counted = archcalc.memory(model, run, keeping).total
                gc.collect()
                if device == "cuda":
                    torch.cuda.empty_cache()
                    try:
                        requested, allocated, reserved = on_the_gpu(model, run, keeping)
                    except torch.cuda.OutOfMemoryError:
                        yield [spec, batch, recompute, counted, "out of memory", None, None, None]
                        continue
                else:
                    recorded = record_step(model, run, keeping)
                    requested, allocated, reserved = max(recorded.passes, recorded.step), None, None
                yield [
                    spec,
                    batch,
                    recompute,
                    counted,
                    requested,
                    f"{requested / counted - 1:+.3%}",
                    allocated,
                    reserved,
                ]


def main() -> None:
    """Print the table, and what a program sees of the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--specs", default="gpt2,gpt2-xl,llama3.2-1b")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--seq", type=int)
    asked = parser.parse_args()
    if asked.device == "cuda":
        if not torch.cuda.is_available():
            parser.exit(3, "no CUDA device is visible; --device cpu tries the program\n")
        seen = torch.cuda.get_device_properties(0)
        versions = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
        print(f"{seen.name}: {seen.total_memory:,} bytes are visible; {versions}")
    heads = ["spec", "batch", "recomputed", "predicted", "requested", "", "allocated", "reserved"]
    batches = [int(batch) for batch in asked.batches.split(",")]
    print(tabulate(list(rows(asked.device, asked.specs.split(","), batches, asked.seq)), heads, intfmt=","))


if __name__ == "__main__":
    main()
