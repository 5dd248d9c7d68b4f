"""The reference beside transformers (sdpa) on the CPU: GPT2LMHeadModel, or LlamaForCausalLM of SmolLM2-135M's shape.

    python benchmarks/reference.py [ROUNDS] [--threads N] [--shape gpt2|smollm2-135m]

Forward, forward and backward, prefill and generation, in fp32 and bf16; paired and interleaved, random weights of one
shape. Printed are medians of ratios, theirs over ours: above 1 is faster. All should be at least 1.0.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

import archcalc
from archcalc.huggingface.exporting import export_config
from archcalc.spec.catalogue import find
from archcalc_reference import Transformer
from archcalc_reference.model.generation import generate
from archcalc_reference.model.sampling import Sampling

LENGTH, PROMPT, NEW = 512, 128, 32
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def models(shape: str, dtype: torch.dtype) -> tuple[Transformer, Any]:
    """Ours and theirs, with random weights of one shape."""
    torch.manual_seed(0)
    spec = archcalc.load(shape)
    ours = Transformer(spec).to(dtype)
    no_ends: Any = {"attn_implementation": "sdpa", "bos_token_id": None, "eos_token_id": None}
    if shape == "gpt2":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **no_ends)
        return ours, transformers.GPT2LMHeadModel(config).to(dtype)
    config_json = export_config(find(shape).document.data)
    said = {
        name: value for name, value in config_json.items() if name not in ("architectures", "model_type", *no_ends)
    }
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**said, **no_ends)).to(dtype)
    return ours, theirs


def tasks(ours: Transformer, theirs: Any) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each task by both."""
    tokens = torch.randint(ours.spec.vocab_size, (1, LENGTH + 1))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].contiguous()
    prompt = tokens[:, :PROMPT]

    @torch.inference_mode()
    def our_forward() -> Any:
        return ours(inputs, kernel="flash")

    @torch.inference_mode()
    def their_forward() -> Any:
        return theirs(inputs, use_cache=False)

    def our_prefill() -> Any:
        return next(generate(ours, prompt[0].tolist(), 1, Sampling(0)))

    @torch.inference_mode()
    def their_prefill() -> Any:
        return theirs(prompt, use_cache=True, logits_to_keep=1)

    def our_training() -> None:
        ours(inputs, targets, "flash").loss.backward()
        ours.zero_grad(set_to_none=True)

    def their_training() -> None:
        theirs(inputs, labels=inputs, use_cache=False).loss.backward()
        theirs.zero_grad(set_to_none=True)

    def our_generation() -> Any:
        return list(generate(ours, prompt[0].tolist(), NEW, Sampling(0)))

    @torch.inference_mode()
    def their_generation() -> Any:
        return theirs.generate(prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)

    return {
        "forward": (our_forward, their_forward),
        f"prefill of {PROMPT} tokens": (our_prefill, their_prefill),
        "forward and backward": (our_training, their_training),
        f"generation of {NEW} tokens": (our_generation, their_generation),
    }


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each task and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shape", choices=("gpt2", "smollm2-135m"), default="gpt2")
    parser.add_argument("--precisions", default="fp32,bf16")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    for precision in asked.precisions.split(","):
        ours, theirs = models(asked.shape, PRECISIONS[precision])
        for name, (mine, yours) in tasks(ours.eval(), theirs.eval()).items():
            mine(), yours()  # once for what is set up at first
            pairs = [
                (seconds(mine), seconds(yours)) if i % 2 else (seconds(yours), seconds(mine))[::-1]
                for i in range(asked.rounds)
            ]
            ratios = sorted(yours / mine for mine, yours in pairs)
            low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
            middle = statistics.median(pair[0] for pair in pairs)
            print(
                f"{precision} {name}: {statistics.median(ratios):.3f} times as fast"
                f" (80% of {asked.rounds} rounds from {low:.3f} to {high:.3f}); ours {middle:.3f} s"
            )


if __name__ == "__main__":
    main()
