"""A tape as torch.autocast runs it: weights and the residual stream in fp32, products of matrices in bf16.

Its rules, as PyTorch's list of ops has them (docs.pytorch.org, "Automatic Mixed Precision", CUDA ops that autocast):

- Products of matrices and fused attention work in bf16. What comes to them in fp32 is cast, data each time that it is
  read, a weight once in a pass: the cast weight is there until the forward pass ends, and as long as it is saved.
- Norms, softmax and the loss work in fp32; here fp32 comes to them anyway.
- All else works in the wider type of what comes to it, so that bf16 added to the fp32 residual stream is fp32.

On a CPU autocast has shorter lists; for these models the types come out the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from archcalc.tape.kernels import Node, nodes
from archcalc.tape.ops import Op, Tensor, Weight
from archcalc.tape.passes import RESIDUAL, Pass
from archcalc.tape.recording import Tape
from archcalc.tape.roles import Role
from archcalc.tape.views import as_made

WIDE: Role = "float"
_WIDE = (WIDE, "constant")
NARROW: Role = "activation"
_NARROW = (NARROW, "cache")  # in training nothing is kept in a cache


def autocast(taken: Pass) -> Pass:
    """The same pass with the casts as ops, in roles that say the types: `float` is fp32, `activation` is bf16."""
    tapes = {id(segment.tape): _cast(segment.tape) for segment in taken.segments}
    segments = [segment.replace(tape=tapes[id(segment.tape)]) for segment in taken.segments]
    return Pass(taken.run, segments, taken.source, taken.stage)


def begins_narrow(taken: Pass) -> bool:
    """Whether the residual stream begins in bf16, where it is taken to be fp32: an embedding that projects its vectors
    and adds nothing in fp32. No published model has one.
    """
    return _cast(taken.segments[0].tape).ops[-1].output.role == NARROW


def copies(ops: list[Op]) -> set[str]:
    """The names of cast weights, which autocast keeps until the forward pass ends, where they learn."""
    casts = [op for op in ops if op.passes and len(op.inputs) == 1 and op.learns]
    return {op.output.name for op in casts if isinstance(op.inputs[0], Weight)}


def _cast(tape: Tape) -> Tape:
    found = Tape(tape.run)
    found.result, found.handed_on = as_made(tape.ops, tape.result), tape.handed_on
    types: dict[str, Role] = {RESIDUAL.name: WIDE}
    done: set[str] = set()
    for node in nodes(tape.resolved):
        made = {op.output.name for op in node.ops}
        given = {_name(x): x for op in node.ops for x in op.inputs if _name(x) not in made}
        wide = {name: x for name, x in given.items() if isinstance(x, Weight) or types.get(name, x.role) in _WIDE}
        cast: dict[str, Tensor] = {}
        products = [op for op in node.ops if op.kind == "contraction"]
        if any(op.casts for op in products):
            for name, x in reversed(wide.items()):  # the last argument is cast first
                if isinstance(x, Weight) and not _of_a_product(x, node):
                    continue
                op = _caster(x, node)
                cast[name] = op.output
                if op.output.name not in done:
                    found.ops.append(op)
                    done |= copies([op])
        if products:
            wide = {}
        for op in node.ops:
            if op.output.role in _NARROW and wide:
                types[op.output.name] = WIDE
            found.ops.append(_retyped(op, types, cast))
    return found


def _of_a_product(weight: Weight, node: Node) -> bool:
    """Whether a kernel multiplies by a weight or adds it to a product; what else it reads comes to it as it is."""
    return any(weight in op.inputs and (op.kind == "contraction" or op.passes) for op in node.ops)


def _caster(x: Tensor | Weight, node: Node) -> Op:
    """The cast of what comes to a product of matrices."""
    source = x if isinstance(x, Weight) else x._replace(role=WIDE)
    name = f"{x.path}.cast" if isinstance(x, Weight) else f"{node.name}.{x.name}.cast"
    first = node.ops[0]
    return Op("pointwise", (source,), Tensor(name, x.labels, NARROW), first.spans, passes=True, learns=first.learns)


def _retyped(op: Op, types: Mapping[str, Role], cast: Mapping[str, Tensor]) -> Op:
    """An op on what was cast for it, or on data of their types.

    A product reads a cast weight again on its way back.
    """

    def now(x: Tensor) -> Tensor:
        return cast.get(x.name) or x._replace(role=types.get(x.name, x.role))

    inputs = tuple(now(x) if isinstance(x, Tensor) else cast.get(x.path, x) for x in op.inputs)
    again = tuple(cast[x.path] for x in op.weights if op.kind == "contraction" and op.learns and x.path in cast)
    return op._replace(inputs=inputs, output=now(op.output), saves=(*map(now, op.saves), *again))


def _name(x: Tensor | Weight) -> str:
    return x.path if isinstance(x, Weight) else x.name
