"""The way of the data through the model, step by step, with the matrices that it meets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from archcalc.counts.weights import Use, weight_uses
from archcalc.report.sheet import Cell, Fields, Sheet, Table, caveats, figures, notes, payload, words
from archcalc.spec.catalogue import Found
from archcalc.spec.model import Model
from archcalc.tape.legend import CATEGORIES, COPIES, Env, stem, volume
from archcalc.tape.ops import Op, Tensor
from archcalc.tape.passes import Segment
from archcalc.tape.run import Run
from archcalc.units import grouped, several, shape

_SAYING = {
    "embedding": "tokens become vectors",
    "unembedding": "vectors become scores for each token",
}
_SILENT = ("layers.{i}", "attention_core")  # spans that are no step of their own
_POSITIONS = ("N", "S", "T")


class Step(NamedTuple):
    """One row: data after the step, and the weights met on the way, in all the segment's layers together.

    `data` is features x positions, as the film draws it: each position's vector is a column.
    """

    segment: Segment
    module: str
    name: str
    output: Tensor
    data: tuple[int, ...]
    uses: tuple[Use, ...]
    running_total: int

    @property
    def matrices(self) -> tuple[Use, ...]:
        """The weights that the tally counts."""
        return tuple(use for use in self.uses if use.weight.part in CATEGORIES)

    @property
    def other_weights(self) -> tuple[str, ...]:
        """The kinds of learned numbers that are no matrix."""
        return tuple(dict.fromkeys(use.weight.part for use in self.uses if use.weight.part not in CATEGORIES))


def trace_sheet(found: Found, run: Run) -> Sheet:
    """The journey of one batch, from token numbers to probabilities; the running total ends at the tally."""
    model = found.model
    steps = list(_steps(model.record(run).segments))
    steps.append(_softmax(steps[-1]))
    total = steps[-1].running_total
    return Sheet(
        title=f"{found.name}: how {several(run.batch * run.sequence, 'token')} pass through {grouped(total)} weights",
        blocks=(_table(steps, run, total, _sayings(model)), Fields((*_LEGEND, _counted(run), *caveats(found)))),
        payload=payload(
            found.name,
            run={"batch": run.batch, "sequence": run.sequence, "attention": run.attention},
            steps=[_json(step) for step in steps],
            parameters={"tally": total},
            matrices={"tally": sum(use.matrices.matrices for s in steps for use in s.matrices)},
            **notes(found),
        ),
        records=tuple(_record(step) for step in steps),
    )


def _steps(segments: list[Segment]) -> Iterator[Step]:
    """Ops of one span are one step: a matrix with its bias, a softmax with its maximum and sum."""
    uses: dict[tuple[int, int], list[Use]] = {}  # segments that are alike share their ops
    for use in weight_uses(segments):
        uses.setdefault((id(use.segment), id(use.op)), []).append(use)
    total = 0
    for segment in segments:
        groups = [(spans, list(ops)) for spans, ops in groupby(segment.ops, _step_of)]
        modules = [spans[0] for spans, _ in groups]
        for spans, ops in groups:
            met = tuple(use for op in ops for use in uses.get((id(segment), id(op)), ()))
            total += sum(use.parameters for use in met if use.weight.part in CATEGORIES)
            out = ops[-1].output
            own = out.name.rpartition(".")[2].replace("product", spans[0]) if modules.count(spans[0]) > 1 else spans[0]
            name = " ".join(spans[1:]) or own
            yield Step(segment, spans[0], name, out, data_shape(out, segment.env), met, total)


def _step_of(op: Op) -> tuple[str, ...]:
    """The spans that tell an op's step; what stands in a layer alone is a step by its own name."""
    return tuple(s for s in op.spans if s not in _SILENT) or (op.output.name.rpartition(".")[2],)


def _softmax(logits: Step) -> Step:
    """What a sampler does with the logits: the model's own pass ends before it, and no weight is met."""
    output = logits.output._replace(name="softmax")
    return logits._replace(module="softmax", name="softmax", output=output, uses=())


def data_shape(tensor: Tensor, env: Env) -> tuple[int, ...]:
    """The sizes of data in the film's orientation: sequences if several, heads, features, positions."""
    heads = [label for label in tensor.labels if stem(label) in COPIES]
    positions = [label for place in reversed(_POSITIONS) for label in tensor.labels if stem(label) == place]
    features = [label for label in tensor.labels if label not in ("B", *heads, *positions)]
    sizes = [env["B"]] if "B" in tensor.labels and env["B"] != 1 else []
    sizes += [volume(heads, env)] if heads else []
    return tuple(sizes + [env[label] for label in features] + [env[label] for label in positions])


def _sayings(model: Model) -> dict[str, str]:
    """What each module does, in a few words."""
    kinds = [kind for group in model.layers for kind in group.kinds_in()]
    branches = [branch for kind in kinds for branch in kind.layer.residual_branches]
    shared = {f"{branch.name}_added": branch.added.saying for branch in branches if branch.added is not None}
    return _SAYING | shared | {branch.name: branch.mixer.saying for branch in branches}


def _table(steps: list[Step], run: Run, total: int, sayings: dict[str, str]) -> Table:
    tokens = (run.sequence,) if run.batch == 1 else (run.batch, run.sequence)
    rows: list[tuple[Cell, ...]] = [("token ids", tokens, None, None)]
    alone = len({id(step.segment) for step in steps if step.segment.layers is not None}) == 1
    for _, group in groupby(steps, lambda step: (id(step.segment), step.module)):
        inside = list(group)
        first = inside[0]
        if len(inside) > 1:
            rows.append((_heading(first, alone=alone), sayings.get(first.module), None, None))
        for step in inside:
            name = f"  {step.name}" if len(inside) > 1 else _heading(step, alone=alone)
            kept = " (in kernel)" if step.output.role == "fused" else ""
            rows.append((name, shape(step.data) + kept, _met(step), step.running_total))
    return Table(
        columns=(*words("step"), *figures("data", "weights in one layer", "running total")),
        rows=tuple(rows),
        total=("tally", None, None, total),
    )


def _heading(step: Step, *, alone: bool) -> str:
    """A module's name with how often it is met; which layers, where there are several groups of them."""
    name, segment = step.module.replace("_", " "), step.segment
    if segment.layers is None:
        return name
    return (
        f"{name} x{grouped(segment.repeat)}"
        if alone
        else f"{name}, {'layer' if segment.repeat == 1 else 'layers'} {segment.layers}"
    )


def _met(step: Step) -> str:
    met = []
    for use in step.matrices:
        one = use.matrices
        times = one.matrices // use.times
        met.append((f"{grouped(times)} of " if times > 1 else "") + shape((one.rows, one.columns)))
    return ", ".join(met or [f"({part})" for part in step.other_weights]) or "no weights"


_LEGEND = (
    ("Data", ("activations after each step, features x positions: each position's vector is a column",)),
    (
        "Weights",
        (
            "learned matrices, rows x columns; the running total includes all layers",
            "(in brackets): learned parameters that are not matrices; archcalc params counts them",
        ),
    ),
    ("Softmax", ("the last step turns each position's logits into probabilities of its next token",)),
)


def _counted(run: Run) -> tuple[str, tuple[str, ...]]:
    """What passes through."""
    passed = f"one pass over {several(run.batch, 'sequence')} of {several(run.sequence, 'token')}"
    return ("Counted", (f"{passed}, {run.attention} attention; a tied table counts in both roles",))


def _json(step: Step) -> dict[str, Any]:
    return {
        "module": step.module,
        "step": step.name,
        "layers": step.segment.repeat,
        "first_layer": None if step.segment.layers is None else step.segment.layers.start,
        "data": list(step.data),
        "labels": " ".join(step.output.labels),
        "role": step.output.role,
        "matrices": [{"category": use.weight.part, **use.matrices._asdict()} for use in step.matrices],
        "other_weights": list(step.other_weights),
        "running_total": step.running_total,
    }


def _record(step: Step) -> dict[str, Any]:
    matrices = sum(use.matrices.matrices for use in step.matrices)
    parameters = sum(use.parameters for use in step.matrices)
    flat = {"data": "x".join(str(n) for n in step.data), "other_weights": " ".join(step.other_weights)}
    return {**_json(step), **flat, "matrices": matrices, "parameters": parameters}
