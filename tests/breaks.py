"""Faults put into copies of the code, one at a time: who notices, `archcalc verify` or the tests?

    python tests/breaks.py [WORD ...]        those whose name has one of the words; all without any
    python tests/breaks.py --tests [...]     asks the tests that `make test` runs, too

A fault that lives is told and the exit code is 1. `make prove` asks `verify` about all of them.
"""

import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MODEL = "reference/archcalc_reference/model"

# One model that GPT-2's class can be, and one with everything that it cannot have.
SPECS = [
    "tiny@n_layers=2",
    "tiny@n_layers=3,n_heads=6,n_kv_heads=2,d_head=5,tied=false,unembedding.bias=true,norm.bias=false,final_norm.bias=false",
]

# Those of `make test` that speak of the model and its counts, the quick ones first.
TESTS = [
    f"tests/{room}/test_{name}.py"
    for room, name in (
        *(("tape", "tape"), ("counts", "parameters"), ("counts", "activations"), ("counts", "flops")),
        *(("blocks", "groups"), ("commands", "memory"), ("counts", "memory_terms")),
        *(("model", "reference"), ("model", "transformers"), ("model", "generation"), ("project", "breaks")),
        *(
            ("proof", "saved_by_autograd"),
            ("proof", "peak_by_allocator"),
            ("proof", "verify"),
            ("counts", "properties"),
        ),
    )
]


class Break(NamedTuple):
    """A fault: in `file`, `old` (which stands there at least once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


def reference(name: str, module: str, old: str, new: str) -> Break:
    return Break(f"reference: {name}", f"{MODEL}/{module}.py", old, new)


def count(name: str, file: str, old: str, new: str) -> Break:
    return Break(f"counts: {name}", f"archcalc/{file}", old, new)


_SAVED = "widths(recipe.compute, keeping.statistic)"
_SUM = "x_BSD = x_BSD + y_BSD"

BREAKS = [
    # The model is another one, of the same shapes
    reference("scores are not scaled", "attention", "fresh=fresh) * rule.scale", "fresh=fresh)"),
    reference("flash attention scales otherwise", "flash", "scale=rule.scale", "scale=2 * rule.scale"),
    reference("math attention sees the future", "attention", "a_BGRST = a_BGRST + (mask if mask.dim() == 2 else mask.view(G, R, S, T))", "pass"),
    reference("flash attention sees the future", "flash", "is_causal=causal", "is_causal=False"),
    reference("the mask hides too little", "positions", "mask_ST.triu(1 + first)", "mask_ST.triu(2 + first)"),
    reference("the mask forgets what is cached", "positions", "mask_ST.triu(1 + first)", "mask_ST.triu(1)"),
    reference("one GELU for the other", "mlp", "F.gelu(x, approximate=approximate)", 'F.gelu(x, approximate={"none": "tanh", "tanh": "none"}[approximate])'),
    reference("a bias twice", "mlp", "return self.down(h_BSF)", "y = self.down(h_BSF)\n        return y if self.down.bias is None else y + self.down.bias"),
    reference("positions off by one", "embedding", "begin = first + self.offset", "begin = (first + self.offset + 1) % 2"),
    reference("positions begin anew behind a cache", "transformer", "self.embedding(tokens_BS, first)", "self.embedding(tokens_BS)"),
    reference("query heads interleaved, in both kernels", "attention", ".view(B, S, self.G, self.R, self.K)", ".view(B, S, self.R, self.G, self.K).transpose(2, 3)"),
    reference("another epsilon", "norms", "self.weight, self.bias, self.epsilon)", "self.weight, self.bias, 1e-2)"),
    reference("no final norm", "transformer", "x_BSD if self.final_norm is None else self.final_norm(x_BSD)", "x_BSD"),
    reference("softmax over the queries", "attention", "torch.softmax(a_BGRST, dim=-1)", "torch.softmax(a_BGRST, dim=-2)"),
    reference("the cache is written one position late", "state", "place = self.sight.place(first + at, self.places)", "place = self.sight.place(first + at + 1, self.places)"),
    reference("all layers share one layer's cache", "transformer", "[*cache.states]", "[cache.states[0]] * len(self.layers)"),
    reference("a shared prompt is shared without its values", "state", "for kept in self.tensors:\n            kept[1:", "for kept in self.tensors[:1]:\n            kept[1:"),
    reference("the cache is too large", "attention", "kept = (batch, attention.n_kv_heads, sight", "kept = (batch, attention.n_heads + 1, sight"),
    reference("the loss is shifted once more", "transformer", "F.cross_entropy(logits_BSV.flatten(0, 1).float(), targets_BS.flatten())", "F.cross_entropy(logits_BSV[:, :-1].flatten(0, 1).float(), targets_BS[:, 1:].flatten())"),
    reference("the first position's logits for the last's", "transformer", "x_BSD = x_BSD[:, -1:]", "x_BSD = x_BSD[:, :1]"),
    # Counts
    count("biases of keys are forgotten", "blocks/attention.py", "bias=self.has_bias(name))", 'bias=self.has_bias(name) and name != "key")'),
    count("as many key heads as heads", "blocks/attention.py", '"key", x, "G K"', '"key", x, "G R K"'),
    count("a bias of the MLP is forgotten", "blocks/mlp.py", 'part="down_projection", bias=bias', 'part="down_projection", bias=False'),
    count("norms always have biases", "blocks/norm.py", "if self.bias:", "if True:"),
    count("a tied table is stored twice", "counts/parameters.py", "if not use.again)", ")"),
    count("the tally counts a tied table once", "counts/parameters.py", "uses = list(weight_uses(segments))", "uses = [use for use in weight_uses(segments) if not use.again]"),
    count("one layer of a group is forgotten", "counts/weights.py", 'return self.segment.repeat if "{i}"', 'return max(self.segment.repeat - 1, 1) if "{i}"'),
    count("a FLOP is a multiplication and an addition", "tape/recording.py", "self._spans, saves, 2, repeats", "self._spans, saves, 1, repeats"),
    count("one gradient a product", "counts/flops.py", "GRADIENTS = 2", "GRADIENTS = 1"),
    count("flash attention computes nothing anew", "blocks/cores.py", 'role="fused", repeats=1', 'role="fused", repeats=0'),
    count("layers do one layer's work", "counts/flops.py", "whole(self.each * self.segment.repeat)", "whole(self.each)"),
    count("decoding reads one position", "tape/run.py", '"T": self.read', '"T": new'),
    count("exact leaves a position's own pair out", "tape/run.py", 'new - (causal == "exact")', "new"),
    count("half is exact", "tape/run.py", 'new - (causal == "exact")', "new - 1"),
    count("logits of all positions where the last is asked", "tape/run.py", 'if self.logits == "last" else {}', "if False else {}"),
    count("the activation's input is not saved", "blocks/activation.py", 'x, saves=(x,), per_point=per_point)', 'x, per_point=per_point)'),
    count("the loss saves nothing", "blocks/unembedding.py", 'role="float", keeps=True', 'role="float"'),
    count("statistics of norms are not saved", "blocks/norm.py", "saves=(x, mean, rstd)", "saves=(x,)"),
    count("statistics are as wide as activations", "tape/roles.py", '"statistic": statistic', '"statistic": activation'),
    count("indices have four bytes", "tape/roles.py", '"long": 8', '"long": 4'),
    count("values are not cached", "blocks/attention.py", 'tape.view(v, "cache", S="T")', 'tape.view(v, S="T")'),
    count("a recomputed layer keeps nothing", "counts/activations.py", "return tensors | _inputs(inside)", "return tensors"),
    count("AdamW has one moment", "tape/optimizers.py", '"adamw": Method(2', '"adamw": Method(1'),
    count("AdamW has no counters", "counts/optimizer.py", "4 * add(tensor.layers for tensor in tensors)", "0"),
    count("the optimizer needs no scratch", "counts/optimizer.py", "where(there, size + beside + last)", "where(there, size)"),
    count("the mask takes no memory", "counts/peaks.py", "made = add(given(segments, width, role)[-1] for role in GIVEN)", "made = 0"),
    count("gradients go at once", "counts/liveness.py", "self.gradients = self.gradients + size", "self.gradients = self.gradients"),
    count("the first layer alone keeps activations", "counts/stretches.py", "before, copied = before + saved_by.total", "before, copied = before + saved_by.partial[-1]"),
    count("second gradients are added in place", "counts/liveness.py", "self.transient = self.transient + total.size", "self.transient = self.transient + 0 * total.size"),
    count("saved tensors are never released", "counts/holding.py", "self.saved = self.saved - size", "self.saved = self.saved - 0"),
    count("weights to serve are as wide as gradients to learn", "counts/peaks.py", "counts.stored * BITS[keeping.precision] // 8", "counts.stored * BITS[keeping.precision] // 4"),
    count("one sequence's cache for all", "counts/peaks.py", "cache(taken, run, keeping.kv_width", "cache(taken, run._replace(batch=1), keeping.kv_width"),
]  # fmt: skip


def copy_with(fault: Break | None, folder: Path) -> None:
    """The code, the specs and the tests in another folder, with the fault in them."""
    for part in ("archcalc", "reference", "specs", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.md"), *(ROOT / name for name in ("pyproject.toml", "Makefile", "LICENSE"))):
        shutil.copy(path, folder)
    if fault is not None:
        path = folder / fault.file
        text = path.read_text()
        if fault.old not in text:
            raise LookupError(f"{fault.name}: {fault.file} has no {fault.old!r} any more")
        path.write_text(text.replace(fault.old, fault.new))


def in_a_process_of_its_own(folder: Path, ask: str) -> int:
    """The exit code of a question to the copy, forked so that PyTorch is loaded once."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(folder)
            sys.path[:0] = [str(folder / part) for part in ("", "reference", "tests")]
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
            said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ["HYPOTHESIS_PROFILE"] = "faults"
            code = _verify() if ask == "verify" else _tests()
        except BaseException:  # noqa: BLE001  (a fault may end it in any way)
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _verify() -> int:
    from archcalc.cli import _main

    return _main(["verify", *SPECS])


def _tests() -> int:
    import pytest

    return int(pytest.main(["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *TESTS]))


def noticed(fault: Break | None, ask: str) -> bool:
    """Whether the question has another answer than "all holds" with this fault in the code."""
    with tempfile.TemporaryDirectory() as folder:
        copy_with(fault, Path(folder))
        code = in_a_process_of_its_own(Path(folder), ask)
        if code and fault is None:
            print(Path(folder, "said.txt").read_text())
        return code != 0


def main(arguments: list[str]) -> int:
    asks = ["verify", *(["tests"] if "--tests" in arguments else [])]
    words = [argument for argument in arguments if not argument.startswith("--")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch  # noqa: F401  (once, before the forks)
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.starcoder2.modeling_starcoder2  # noqa: F401

    lived = 0
    for ask in asks:
        if noticed(None, ask):
            print(f"{ask} does not pass without a fault")
            return 1
    for fault in BREAKS:
        if words and not any(word in fault.name for word in words):
            continue
        found = {ask: noticed(fault, ask) for ask in asks}
        lived += not all(found.values())
        print(
            f"{fault.name}: "
            + ", ".join(f"{ask} {'notices' if saw else 'DOES NOT NOTICE'}" for ask, saw in found.items()),
            flush=True,
        )
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
