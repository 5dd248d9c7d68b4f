"""The proof: the reference model, built from the same spec, has the tensors, does the FLOPs, saves the bytes.

On the meta device, where a tensor has a shape and no numbers, so that every model runs at its full size. That the
reference is the model is proven by numbers, on a miniature of it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.checks.verdict import Check, Verdict, ran, same
from archcalc.counts.activations import saved
from archcalc.counts.flops import flops
from archcalc.counts.memory import memory
from archcalc.counts.parameters import Parameters, Stored, params
from archcalc.errors import Invalid, Problem
from archcalc.packages import missing
from archcalc.proof.allocator import identity, predicted_step, record_inference, record_step
from archcalc.proof.inference import compare_inference
from archcalc.proof.miniature import described, miniature
from archcalc.proof.numerics import compare_numbers
from archcalc.spec.crossing import shared_blocks, shares_few, shares_keys
from archcalc.spec.model import Model
from archcalc.tape.autocast import begins_narrow
from archcalc.tape.legend import volume
from archcalc.tape.precision import Keeping
from archcalc.tape.roles import widths
from archcalc.tape.run import AttentionKernel, Run

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

MOST_LAYERS_BUILT, MOST_LAYERS_RUN = 2_000, 200  # a few seconds each
FLASH_STATE = 24  # bytes of one: PyTorch's CUDA flash attention keeps the seed and offset of its random numbers


def prove(model: Model, *, passes: bool = True) -> Verdict:
    """Build the model at full size; compare every tensor's name and shape, FLOPs and bytes; and a miniature's numbers.

    Without `passes` tensors are compared alone, in a fraction of the time.

    Raises Missing without PyTorch, Invalid for a model larger than PyTorch can describe or than is bearable.
    """
    try:
        import torch

        from archcalc_reference import Transformer
    except ModuleNotFoundError as error:
        raise missing(error, "verify", "torch") from None
    counts = params(model)
    _refuse_what_torch_cannot_hold(model, counts, passes=passes)
    with torch.device("meta"):
        reference = Transformer(model)
    built = {name: tuple(parameter.shape) for name, parameter in reference.named_parameters()}
    checks = list(compare(counts, built))
    if not passes:
        return Verdict(model.name, tuple(checks), _proven_with(torch.__version__))
    if not all(check.equal for check in checks):  # a model of other weights has other FLOPs, and says nothing new
        nothing_more = (f"FLOPs, bytes and logits of {model.name}: its tensors are not those counted",)
        return Verdict(model.name, tuple(checks), _proven_with(torch.__version__), nothing_more)
    checks += ran("a pass, math attention", _pass(model, reference, "math", "fp32", 4))
    checks += ran("a pass, flash attention", _pass(model, reference.to(torch.bfloat16), "flash", "bf16", 2))
    checks += ran("inference", compare_inference(model, reference))
    small = miniature(model)
    numbers, not_compared = compare_numbers(small)
    checks += [*numbers, *ran("saved bytes, layers recomputed", _recomputed(small))]
    checks += ran("a real step", _real_steps(small))
    checks += ran("a real prompt", _real_prompts(small))
    theirs = next((check.source for check in numbers if check.what.startswith("logits, ")), None)
    voice = f"logits by {theirs}, " if theirs else ""
    proven_with = _proven_with(
        torch.__version__,
        "passes of one sequence as long as the context",
        f"{voice}decoding, causality and real steps on the CPU with {described(small)}",
    )
    return Verdict(model.name, tuple(checks), proven_with, not_compared)


def _proven_with(version: str, *more: str) -> str:
    return "; ".join((f"PyTorch {version} on the meta device, Python {platform.python_version()}", *more))


RECORDED = "the CPU allocator's record of the second step"

# Steps that have their peaks at different moments: in the loss, in a layer's backward pass where the vocabulary is
# small, in math attention's scores, in a layer that is recomputed, in gradients that stay. A norm's statistics are
# bf16 where a CPU works in bf16.
STEPS: tuple[tuple[str, AttentionKernel, int, Keeping], ...] = (
    ("flash attention", "flash", 97, Keeping("fp32")),
    ("math attention", "math", 4, Keeping("fp32", "adamw")),
    ("large vocabulary", "flash", 4000, Keeping("fp32")),
    ("small vocabulary", "flash", 4, Keeping("fp32", "adamw-foreach")),
    ("layers recomputed", "flash", 97, Keeping("fp32", recompute="full")),
    ("math attention, recomputed", "math", 4, Keeping("fp32", recompute="full")),
    ("SGD, gradients held", "flash", 97, Keeping("fp32", optimizer="sgd", accumulate=True)),
    ("bf16", "flash", 97, Keeping("bf16", statistic=2)),
    ("amp", "flash", 97, Keeping("amp")),
)


def _recomputed(small: Model) -> Iterator[Check]:
    """What a pass saves where its layers are computed again."""
    from archcalc_reference import Transformer

    run = Run(batch=2, sequence=small.context_length)
    kept, measured = saved(small, run, widths(4), "full").total, measure(Transformer(small), run, recompute=True)
    yield same("saved bytes, layers recomputed", kept, measured.saved, "autograd's saved tensors")


def _real_steps(small: Model) -> Iterator[Check]:
    """The peaks of real steps. Memory inside a kernel, apart from tensors, is reported and not counted."""
    for words, kernel, vocabulary, keeping in STEPS:
        model = small.model_copy(update={"vocab_size": vocabulary})
        run = Run(batch=2, sequence=model.context_length, attention=kernel)
        counted, recorded = predicted_step(model, run, keeping), record_step(model, run, keeping)
        inside = recorded.passes - recorded.tensors  # bytes
        passes = same(f"peak of the passes, {words}", counted.passes, recorded.tensors, RECORDED)
        if keeping.precision == "amp" and not passes.equal and begins_narrow(model.record(run)):
            reason = "the residual stream begins in bf16, and is counted as fp32"
            passes = passes._replace(reason=reason, required=False)
        if not passes.equal and shares_keys(model.layers):
            reason = "keys and values that layers share, and their gradients, are counted in the layer that makes them"
            passes = passes._replace(reason=reason, required=False)
        if keeping.precision == "amp" and not passes.equal and shared_blocks(model.layers):
            reason = "weights that layers share are cast once, and counted as cast in each layer that uses them"
            passes = passes._replace(reason=reason, required=False)
        yield passes._replace(reason=f"= and {inside:,} inside a kernel") if passes.equal and inside else passes
        yield same(f"peak of the optimizer, {words}", counted.step, recorded.step, RECORDED)


def _real_prompts(small: Model) -> Iterator[Check]:
    """The peaks of reading a prompt and of adding a token. Memory inside a kernel, apart from tensors, is left out."""
    asked: list[tuple[AttentionKernel, Keeping]] = [
        ("flash", Keeping("fp32")),
        ("math", Keeping("bf16", statistic=2)),
    ]
    for kernel, keeping in asked:
        run = Run("prefill", 2, small.context_length, attention=kernel, logits="last")
        recorded = record_inference(small, run, keeping)
        for phase in memory(small, run, keeping).phases:
            what = f"peak of {phase.phase}, {kernel} attention, {keeping.precision}"
            peak = same(what, phase.bytes, recorded[phase.phase].tensors, "the CPU allocator's record")
            if not peak.equal and phase.phase == "prefill" and kernel == "flash" and shares_few(small.layers):
                reason = "keys and values under a window, which layers share, are counted in the layer that makes them"
                peak = peak._replace(reason=reason, required=False)
            yield peak


def _refuse_what_torch_cannot_hold(model: Model, counts: Parameters, *, passes: bool) -> None:
    """PyTorch describes a tensor by 63 bits, and a layer takes it milliseconds to build and tens of them to run."""
    most = MOST_LAYERS_RUN if passes else MOST_LAYERS_BUILT
    if model.n_layers > most:
        what = f"has {model.n_layers:,} layers; verify {'runs' if passes else 'builds'} at most {most:,}"
        raise Invalid(
            Problem(model.name, what, suggestion="--tensors compares without running it" if passes else None)
        )
    sizes = {tensor.name: _elements(tensor.shape) for tensor in counts.tensors}
    for segment in model.record(Run(sequence=model.context_length)).segments if passes else ():
        sizes |= {op.output.name: volume(op.output.labels, segment.env) for op in segment.ops}
    largest = max(sizes, key=lambda name: sizes[name])
    if sizes[largest] * 8 >= 2**63:
        what = f"is too large for PyTorch: {largest} has {sizes[largest]:,} elements"
        raise Invalid(Problem(model.name, what))


def _pass(model: Model, reference: Any, kernel: AttentionKernel, precision: str, width: int) -> Iterator[Check]:
    """One training pass of one sequence as long as the context."""
    run = Run(sequence=model.context_length, attention=kernel)
    work, measured = flops(model, run), measure(reference, run)
    counter = "FlopCounterMode, which counts all pairs of positions"
    yield same(f"forward FLOPs, {kernel} attention", work.forward, measured.forward, counter)
    yield same(f"backward FLOPs, {kernel} attention", work.backward, measured.backward, counter)
    state = FLASH_STATE * attentions(reference) if kernel == "flash" else 0
    kept = saved(model, run, widths(width)).total + state
    source = "autograd's saved tensors" + (
        f", with {FLASH_STATE} bytes an attention of the kernel's random state" * bool(state)
    )
    yield same(f"saved bytes, {kernel} attention, {precision}", kept, measured.saved, source)


def attentions(reference: Any) -> int:
    """How many attentions PyTorch's own flash kernel does on the meta device."""
    rules = [module.rule for module in reference.layers.modules() if hasattr(module, "rule")]
    return sum(not rule.own for rule in rules)


class Measured(NamedTuple):
    """What PyTorch saw of one pass."""

    forward: int
    backward: int
    saved: int


def measure(reference: Any, run: Run, *, recompute: bool = False) -> Measured:
    """Run the reference forward and backward on the device and in the type that it is in, and let PyTorch count.

    FlopCounterMode counts no causal discount anywhere, and nothing at all for flash attention on a CPU.
    """
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    from torch.utils.flop_counter import FlopCounterMode

    from archcalc_reference.model.dealing import balanced

    device = reference.embedding.token.weight.device
    shape = (run.batch, run.sequence)
    tokens, targets = (torch.zeros(shape, dtype=torch.long, device=device) for _ in range(2))
    weights = {id_of(parameter) for parameter in reference.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if id_of(tensor) not in weights:
            storages[id_of(tensor)] = tensor.untyped_storage()
        return tensor

    with balanced(reference), FlopCounterMode(display=False) as counter:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            output = reference(tokens, targets, kernel=run.kernel, recompute=recompute)
        forward = counter.get_total_flops()
        kept = sum(storage.nbytes() for storage in storages.values())
        output.loss.backward()
        total = counter.get_total_flops()
    reference.zero_grad(set_to_none=True)
    return Measured(forward, total - forward, kept)


def id_of(tensor: torch.Tensor) -> int:
    """The identity of a tensor's storage, the same for all views of it."""
    return identity(tensor.untyped_storage())


def compare(counts: Parameters, built: dict[str, Shape]) -> Iterator[Check]:
    """Every tensor that was counted beside the one that was built; alike layers stand in one line."""
    yield same("parameters", counts.stored, sum(_elements(shape) for shape in built.values()))
    yield same("tensors", sum(tensor.layers for tensor in counts.tensors), len(built))
    yield same("tally of matrices", counts.tally.total, _tally(built))
    left = dict(built)
    for tensor in counts.tensors:
        outcomes: dict[Shape | None, list[str]] = {}
        for name in _names(tensor):
            outcomes.setdefault(left.pop(name, None), []).append(name)
        for shape, names in outcomes.items():
            reason = None if shape == tensor.shape else "NOT BUILT" if shape is None else "ANOTHER SHAPE"
            yield Check(_together(tensor, names), list(tensor.shape), _listed(shape), shape == tensor.shape, reason)
    for name, shape in left.items():
        yield Check(name, None, list(shape), equal=False, reason="NOT COUNTED")


_OF_A_USE = re.compile(r"_added\.(projection\.|attention\.|mlp\.)")
"""What a layer adds to a shared block: adapters, and the matrix behind it."""
_NOT_COUNTED = ("norm", "router", "_gate", "_conv", "step", "share", "latent", "key_rope")


def _tally(built: dict[str, Shape]) -> int:
    """The elements of all matrices but biases, tables of positions, gains of heads, routers, gates of mixers,
    convolutions, steps, decays, indexers, vectors for each layer, what layers add to a shared block, what projects to
    or from a narrow table, and what a
    head has before it; a tied table is built once and counted twice.
    """
    outside = (
        *("embedding.position.weight", "embedding.projection.weight", "unembedding.projection.weight"),
        *("embedding.per_layer.token.weight", "embedding.per_layer.projection.weight"),
        "unembedding.transform.dense.weight",
    )
    matrices = [
        shape
        for name, shape in built.items()
        if len(shape) >= 2
        and name not in outside
        and not name.endswith((".bias", ".decay"))
        and not name.split(".")[-2].endswith(_NOT_COUNTED)
        and ".indexer." not in name
        and not _OF_A_USE.search(name)
    ]
    tokens, head = "embedding.token.weight", "unembedding.weight"
    tied = [] if head in built or tokens not in built else [built[tokens]]
    return sum(_elements(shape) for shape in matrices + tied)


def _names(tensor: Stored) -> list[str]:
    if tensor.within is None:
        return [tensor.name]
    return [tensor.name.replace("{i}", str(i)) for i in tensor.within.indices()]


def _together(tensor: Stored, names: list[str]) -> str:
    """One name for tensors that had the same outcome: the pattern for all of a group, else the first and how many."""
    if len(names) == 1:
        return names[0]
    if len(names) == tensor.layers:
        if tensor.within is not None and tensor.within.period > 1:
            return f"{tensor.name}, {names[0].split('.')[1]} and {len(names) - 1:,} more layers"
        return f"{tensor.name}, {tensor.first} to {tensor.first + tensor.layers - 1}"
    return f"{names[0]} and {len(names) - 1:,} more layers"


def _listed(shape: Shape | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _elements(shape: Shape) -> int:
    n = 1
    for size in shape:
        n *= size
    return n
