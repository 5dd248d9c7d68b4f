"""Views of a tape: on one device the same numbers under other labels are where they were made."""

from __future__ import annotations

from archcalc.tape.ops import Op, Tensor
from archcalc.tape.roles import Role


def resolve(ops: list[Op]) -> list[Op]:
    """The ops as one device does them, without views: what was seen as something else is read where it was made.

    The name is then that of what was made, the labels those under which it is read, and the role the last that a view
    gave it.
    """
    roots: dict[str, Tensor] = {}
    roles: dict[str, Role] = {}
    for op in ops:
        if op.kind == "view" and isinstance(op.inputs[0], Tensor):
            root = roots.get(op.inputs[0].name, op.inputs[0])
            roots[op.output.name] = root
            if op.output.role != op.inputs[0].role:
                roles[root.name] = op.output.role

    seen = roots.keys() | roles.keys()

    def read(x: Tensor) -> Tensor:
        name = roots.get(x.name, x).name
        return x._replace(name=name, role=roles.get(name, x.role)) if x.name in seen else x

    def resolved(op: Op) -> Op:
        data = (*op.inputs, *op.saves, op.output)
        if not any(x.name in seen for x in data if isinstance(x, Tensor)):  # most ops: as they are, not copied
            return op
        return op._replace(
            inputs=tuple(read(x) if isinstance(x, Tensor) else x for x in op.inputs),
            output=op.output._replace(role=roles.get(op.output.name, op.output.role)),
            saves=tuple(map(read, op.saves)),
        )

    return [resolved(op) for op in ops if op.kind != "view"]


def as_made(ops: list[Op], name: str | None) -> str | None:
    """What a tensor was made as, by name, where it is a view of another. Asked before views are resolved."""
    for op in reversed(ops):
        if op.kind == "view" and op.output.name == name and isinstance(op.inputs[0], Tensor):
            name = op.inputs[0].name
    return name
