"""A checkpoint's headers held against a spec: whose names the tensors have, and what config.json beside them says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from archcalc.checks.stored import expected_head, held, shapes_of
from archcalc.checks.verdict import Check, Verdict
from archcalc.commands.further import held_modules
from archcalc.commands.headers import announced
from archcalc.commands.naming import TABLES, Names, expected_tensors, named_in_gguf, said_in_gguf
from archcalc.counts.parameters import kept_beside, params
from archcalc.errors import ArchcalcError, Invalid, Problem, shown
from archcalc.huggingface.headers import Shape
from archcalc.huggingface.packing import Weight
from archcalc.huggingface.stored import Stored, has_weights
from archcalc.spec.catalogue import Found
from archcalc.spec.checkpoints import newest, read_state
from archcalc.spec.configs import CONFIG
from archcalc.spec.model import Model
from archcalc.units import several

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archcalc_reference.weights.families import Family

_MOST_NAMED = 3
_MOST_ASKED = 1_000  # names, by which a family is known: each is compared with those of every family


def held_against(found: Found, path: str) -> Verdict:
    """The comparisons of a spec with the headers of a checkpoint.

    Raises Missing for what is not there, Invalid where headers are damaged or the names are nobody's.
    """
    stored = announced(_newest(path))
    model = found.model
    shapes = shapes_of(params(model).tensors)
    names = _named(stored, model, shapes) if stored.gguf is None else named_in_gguf(stored, model, shapes)
    tied = model.unembedding.tied
    expected = names.expected
    if tied and names.table.name not in names.own and names.head.name in names.own:
        own = {names.table.name: names.own[names.head.name], **names.own}  # the head stands for the table
        del own[names.head.name]
        names = names._replace(own=own)
    result = held(expected, names.head if tied else None, names.own)
    said = _said_beside(stored, found) if stored.gguf is None else _Said(tuple(said_in_gguf(stored.gguf, model)))
    further = tuple(held_modules(names.modules, model, names.family))
    left_out = [_left_out(part, weights) for part, weights in names.others.items()]
    if names.modules and not further:
        left_out.append(_left_out("modules of multi-token prediction", names.modules))
    elif model.mtp is not None and not names.modules:
        left_out.append("the file has no modules of multi-token prediction, and the spec has")
    return Verdict(
        found.name,
        (*result.checks, *further, *said.checks),
        _read(stored, names.own),
        (*result.not_compared, *left_out, *said.not_compared),
        (*_unread(names.unread), *result.warnings, *said.warnings),
    )


def _left_out(part: str, weights: Sequence[Weight]) -> str:
    """A line for what a file has that is of another part."""
    size = f"{several(len(weights), 'tensor')}, {sum(one.stored_bytes for one in weights):,} bytes"
    return f"the file's {part} ({size}): not part of the text spec"


def _unread(weights: tuple[Weight, ...]) -> Iterator[str]:
    """A line for tensors that a family's files have, and its model in transformers has not."""
    if weights:
        yield f"{several(len(weights), 'tensor')} that transformers' model does not read: {weights[0].name}"


def _newest(path: str) -> str:
    """The newest checkpoint of a training's folder, whose data is not read; any other path as it is."""
    if not os.path.isdir(path) or has_weights(path):
        return path
    chosen = newest(path, read_state)
    return path if chosen is None else os.fspath(chosen.path)


def _read(stored: Stored, own: dict[str, Weight]) -> str:
    """What was read, and in which formats the weights are."""
    formats = Counter(weight.format for weight in own.values() if not weight.buffer)
    listed = ", ".join(f"{form} in {several(count, 'tensor')}" for form, count in formats.most_common())
    return (
        f"{stored.header_bytes:,} bytes of headers in {several(len(stored.files), 'file')}; {listed or 'no weights'}"
    )


def _named(stored: Stored, model: Model, shapes: dict[str, Shape]) -> Names:
    """The names of a family of transformers' models, or archcalc's own."""
    from archcalc_reference.weights.configuration import read_config
    from archcalc_reference.weights.families import Unnamed
    from archcalc_reference.weights.layouts import of_modules, of_the_text_model, part_of_file, whose

    names = [weight.name for weight in stored.weights]
    folder = stored.folder
    config = read_config(folder)
    family = whose(names[:: 1 + len(names) // _MOST_ASKED], config, os.path.join(folder, CONFIG))
    if family is None:
        listed = shown(", ".join(names[:_MOST_NAMED]) or "no tensor")
        what = "holds weights of another architecture: its tensors are not named as those of a known family"
        raise Invalid(Problem(stored.path, what, value=listed))
    joined, family = family, family.as_named(names)
    beside = shapes_of(kept_beside(model.record()))
    try:
        entries = family.entries(model, {**shapes, **beside})
    except Unnamed as missing:
        what = f"holds weights of {family.name}'s architecture; {model.name} has {missing}, which that has not"
        raise Invalid(Problem(stored.path, what)) from None
    text = of_the_text_model(names, config, family)
    stored_names, stored_shapes = [entry.name for entry in entries], [entry.shape for entry in entries]
    expected = expected_tensors(entries, stored_names, stored_shapes, tied=model.unembedding.tied)
    evenly = joined.in_equal_parts(model, entries)
    expected = [
        one._replace(
            buffer=entry.parameters[0] in beside,
            lacked=one.name.endswith(family.lacked),
            evenly=evenly.get(one.name),
        )
        for one, entry in zip(expected, entries, strict=True)
    ]
    own = _own(stored, family, text, family.idle_of(model))
    wanted = {one.name for one in expected}
    unread = [name for name in own if name not in wanted and name.endswith(family.unread)]
    table = next(one for one, entry in zip(expected, entries, strict=True) if TABLES[0] in entry.parameters)
    further = of_modules(names, config, family)
    theirs = tuple(weight for weight in stored.weights if weight.name in further)
    others: dict[str, list[Weight]] = {}
    for weight in stored.weights:
        if weight.name not in text and weight.name not in further:
            others.setdefault(part_of_file(weight.name) or "other parts", []).append(weight)
    head = expected_head(family.head, table.shape)
    return Names(expected, table, head, own, others, theirs, tuple(own.pop(name) for name in unread), joined)


def _own(stored: Stored, family: Family, text: set[str], idle: set[str]) -> dict[str, Weight]:
    """The weights by their full names, those that are `idle` as buffers; one that stands twice is Invalid."""
    own: dict[str, Weight] = {}
    for weight in stored.weights:
        if weight.name not in text:
            continue
        buffer = weight.buffer or family.is_buffer(weight.name) or family.full(weight.name) in idle
        first = own.setdefault(family.full(weight.name), weight._replace(buffer=buffer))
        if first.name != weight.name:
            raise Invalid(Problem(weight.header.file, f"is also stored as {first.name}", weight.name))
    return own


class _Said(NamedTuple):
    """What config.json beside the weights says otherwise than the spec, and otherwise than the headers."""

    checks: tuple[Check, ...] = ()
    not_compared: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _said_beside(stored: Stored, found: Found) -> _Said:
    """config.json held against the spec, if it is not what the spec was read from."""
    from archcalc_reference.weights.configuration import contradictions, described, read_config
    from archcalc_reference.weights.families import OWN

    folder = stored.folder
    path = os.path.join(folder, CONFIG)
    config = read_config(folder)
    if not config or config.get("model_type") is None:
        return _Said()
    warnings = tuple(_of_types(config, stored))
    try:
        problems = contradictions(found.model, folder, described(folder, OWN))
    except ArchcalcError as error:
        return _Said(not_compared=(f"{path}: {error.problems[0].message}",), warnings=warnings)
    return _Said(tuple(_row(problem) for problem in problems), warnings=warnings)


def _row(problem: Problem) -> Check:
    """A comparison that a line about a file tells."""
    what = f"{os.path.basename(problem.file)} {problem.path}".strip()
    return Check(what, None, problem.value, equal=False, reason=f"DIFFERS: {problem.message}")


_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}


def _of_types(config: dict[str, Any], stored: Stored) -> list[str]:
    """A line where config.json says another type than that of most numbers that are not packed."""
    said = config.get("dtype") or config.get("torch_dtype")
    wanted = _TYPES.get(str(said).removeprefix("torch."))
    plain = Counter[str]()
    for weight in stored.weights:
        if not weight.packed and not weight.buffer:
            plain[weight.format] += weight.parameters or 0
    others = {form: count for form, count in plain.items() if form != wanted and count}
    if wanted is None or not others:
        return []
    listed = ", ".join(f"{count:,} parameters are {form}" for form, count in others.items())
    return [f"{CONFIG} says {said}; {listed}"]
