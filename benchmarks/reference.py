"""The reference beside transformers (sdpa): GPT2LMHeadModel, or LlamaForCausalLM of SmolLM2-135M's shape.

    python benchmarks/reference.py [ROUNDS] [--threads N] [--shape gpt2|smollm2-135m] [--device cpu|cuda]

Forward, forward and backward, prefill, decoding alone and generation, in fp32 and bf16; paired and interleaved, random
weights of one shape. Printed are medians of ratios, theirs over ours: above 1 is faster. All should be at least 1.0.
The first ratio is of wall time, the second of the time that the process had on CPUs, which other work disturbs less.

On a GPU both decode by CUDA graphs: ours as `generate` does it, theirs with their static cache, compiled. Compiling
and capturing are not in the time of decoding; in that of generation is our capturing, and not their compiling, which
is done once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers

import archcalc
from archcalc.huggingface.exporting import export_config
from archcalc.spec.catalogue import find
from archcalc_reference import Transformer
from archcalc_reference.model.generation import following, generate
from archcalc_reference.model.sampling import Sampling
from archcalc_reference.model.transformer import Cache

LENGTH, PROMPT, NEW = 512, 128, 32
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def models(shape: str, dtype: torch.dtype, device: str) -> tuple[Transformer, Any]:
    """Ours and theirs, with random weights of one shape."""
    torch.manual_seed(0)
    spec = archcalc.load(shape)
    ours = Transformer(spec).to(device, dtype)
    no_ends: Any = {"attn_implementation": "sdpa", "bos_token_id": None, "eos_token_id": None}
    if shape == "gpt2":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **no_ends)
        return ours, transformers.GPT2LMHeadModel(config).to(device, dtype)
    config_json = export_config(find(shape).document.data)
    said = {
        name: value for name, value in config_json.items() if name not in ("architectures", "model_type", *no_ends)
    }
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**said, **no_ends)).to(device, dtype)
    return ours, theirs


def tasks(ours: Transformer, theirs: Any) -> dict[str, tuple[Work, Work]]:
    """Each task by both."""
    weight = ours.embedding.token.weight
    tokens = torch.randint(ours.spec.vocab_size, (1, LENGTH + 1)).to(weight.device)
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

    @torch.inference_mode()
    def our_filled() -> Any:
        cache = Cache(ours.spec, 1, PROMPT + 1 + NEW, weight.dtype, weight.device)
        ours(prompt, kernel="flash", cache=cache, last=True)
        follow = following(ours, cache, "flash", graph=True)
        follow(prompt[:, :1])
        return follow

    @torch.inference_mode()
    def our_decode(follow: Any) -> None:
        new = prompt[:, :1]
        for _ in range(NEW):
            new = follow(new).argmax(-1, keepdim=True)

    static = weight.is_cuda
    kept = transformers.StaticCache(config=theirs.config, max_cache_len=PROMPT + 1 + NEW) if static else None
    one_more: Any = torch.compile(theirs, mode="reduce-overhead", fullgraph=True) if static else theirs

    @torch.inference_mode()
    def their_filled() -> Any:
        if kept is not None:
            kept.reset()
        cache = theirs(prompt, use_cache=True, past_key_values=kept, logits_to_keep=1).past_key_values
        one_more(prompt[:, :1], use_cache=True, past_key_values=cache, logits_to_keep=1)
        return cache

    @torch.inference_mode()
    def their_decode(cache: Any) -> None:
        new = prompt[:, :1]
        for _ in range(NEW):
            logits = one_more(new, use_cache=True, past_key_values=cache, logits_to_keep=1).logits
            new = logits[:, -1].argmax(-1, keepdim=True)

    def our_training() -> None:
        ours(inputs, targets, "flash").loss.backward()
        ours.zero_grad(set_to_none=True)

    def their_training() -> None:
        theirs(inputs, labels=inputs, use_cache=False).loss.backward()
        theirs.zero_grad(set_to_none=True)

    def our_generation() -> Any:
        return list(generate(ours, prompt[0].tolist(), NEW, Sampling(0), graph=True))

    @torch.inference_mode()
    def their_generation() -> Any:
        how: Any = {"cache_implementation": "static"} if static else {}
        return theirs.generate(prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0, **how)

    return {
        "forward": (Work(our_forward), Work(their_forward)),
        f"prefill of {PROMPT} tokens": (Work(our_prefill), Work(their_prefill)),
        f"decoding of {NEW} tokens": (Work(our_decode, our_filled), Work(their_decode, their_filled)),
        "forward and backward": (Work(our_training), Work(their_training)),
        f"generation of {NEW} tokens": (Work(our_generation), Work(their_generation)),
    }


class Work(NamedTuple):
    """What is timed; `ready` makes what it is given, outside of that time."""

    run: Callable[..., Any]
    ready: Callable[[], Any] | None = None

    def seconds(self) -> tuple[float, float]:
        """Wall and CPU time of one call."""
        given = [] if self.ready is None else [self.ready()]
        finish()
        wall, busy = time.perf_counter(), time.process_time()
        self.run(*given)
        finish()
        return time.perf_counter() - wall, time.process_time() - busy


def finish() -> None:
    """Wait for what a GPU still does."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def told(pairs: list[tuple[float, float]]) -> str:
    """The median of ratios, theirs over ours, and how far four of five lie apart."""
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print a line for each task and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=9)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--shape", choices=("gpt2", "smollm2-135m"), default="gpt2")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    where = torch.cuda.get_device_name() if asked.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {where}")
    print("medians of ratios, with those of four of five rounds")
    for precision in asked.precisions.split(","):
        reference, other = models(asked.shape, PRECISIONS[precision], asked.device)
        for name, (mine, yours) in tasks(reference.eval(), other.eval()).items():
            mine.seconds(), yours.seconds()  # once for what is set up at first
            pairs = [
                (mine.seconds(), yours.seconds()) if i % 2 else (yours.seconds(), mine.seconds())[::-1]
                for i in range(asked.rounds)
            ]
            wall, busy = ([(ours[i], theirs[i]) for ours, theirs in pairs] for i in range(2))
            middle = statistics.median(ours for ours, _ in wall)
            line = f"{precision} {name}: {told(wall)} times as fast, by CPU time {told(busy)}; ours {middle:.3f} s"
            print(line, flush=True)


if __name__ == "__main__":
    main()
