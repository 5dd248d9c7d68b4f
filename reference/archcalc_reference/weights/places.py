"""Where each parameter of a model is stored in a folder, told from the headers and the files beside them.

What is missing, unexpected, of another shape or of a type that is not read is refused before a number is read.
Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from archcalc.errors import Invalid, Problem, shown, written
from archcalc.huggingface.headers import Header
from archcalc.spec.catalogue import gguf_in
from archcalc.spec.configs import GGUF
from archcalc.spec.model import Model
from archcalc.units import shape as sizes
from archcalc_reference.files import CONFIG
from archcalc_reference.weights.configuration import (
    TIE,
    Tie,
    contradictions,
    contradictions_of_gguf,
    described,
    read_config,
    refuse_what_is_not_read,
)
from archcalc_reference.weights.entries import Entry, Shape
from archcalc_reference.weights.families import Family, Unnamed
from archcalc_reference.weights.ggufs import NAMES, named_in_gguf, open_gguf
from archcalc_reference.weights.headers import TYPES, open_tensors, read_headers, refuse_quantized
from archcalc_reference.weights.layouts import TOKENS, of_the_text_model, whose

MOST_TOLD = 5  # tensors, a line each, that are wrong in a model; of more it is another model


class Checkpoint(NamedTuple):
    """Every parameter's place in the files; `head` is stored beside the token table, and may be the same as it.

    `tie` is what config.json says of the two. `constants` are numbers of the files that must be what they are. `open`
    opens a file of them.
    """

    places: list[tuple[Entry, Header]]
    head: Header | None
    tie: Tie | None
    constants: list[tuple[Header, float]]
    open: Callable[[str], AbstractContextManager[Any]] = partial(open_tensors, framework="pt")

    @property
    def types(self) -> list[str]:
        """PyTorch's names of the types that it is read in: that which it is stored in, for blocks of GGUF float32."""
        return sorted({TYPES.get(header.type, "float32") for _, header in self.places})


def find_weights(model: Model, parameters: dict[str, Shape], folder: str) -> Checkpoint:
    """Where each of a model's parameters is stored in a folder, told from the headers and the files beside them.

    Raises Missing where there are no weights or a shard is gone, Invalid with a line for each tensor that is missing,
    unexpected, of another shape or of a type that is not read, with one line where those are many; then with a line
    for each fact in the files beside that the spec has otherwise.
    """
    if path := folder if folder.endswith(GGUF) else gguf_in(folder):
        return _find_in_gguf(model, parameters, path)
    refuse_what_is_not_read(folder)
    config = read_config(folder)
    headers = read_headers(folder)
    refuse_quantized(headers)
    family = _family(folder, headers, config).as_named(header.name for header in headers)
    named = of_the_text_model((header.name for header in headers), config, family)
    expected = family.constants_of(model)
    constants = [(header, expected[name]) for header in headers if (name := family.full(header.name)) in expected]
    idle = family.idle_of(model)
    headers = [header for header in headers if header.name in named and not family.is_buffer(header.name)]
    headers = [header for header in headers if family.full(header.name) not in idle]
    try:
        entries = family.entries(model, parameters)
    except Unnamed as missing:
        what = f"holds weights of {family.name}'s architecture; {model.name} has {missing}, which that has not"
        raise Invalid(Problem(folder, what)) from None
    wanted = {entry.name for entry in entries}
    headers = [one for one in headers if family.full(one.name) in wanted or not one.name.endswith(family.unread)]
    stored = {family.full(header.name) for header in headers}
    entries = [one for one in entries if one.name in stored or not one.name.endswith(family.lacked)]
    said = described(folder, family)
    tie = said.tie if said else None
    found, problems = _by_name(headers, family)
    table = next(entry for entry in entries if TOKENS in entry.parameters)
    again = found.get(family.head)
    untrue = list(_contradicted_tie(model, tie, found.get(table.name), again))
    if untrue:
        raise Invalid(*untrue, *contradictions(model, folder, said))
    if model.unembedding.tied and again:
        del found[family.head]
        found.setdefault(table.name, again)
        if found[table.name] is not again and (wrong := _mismatch(model, again, table.shape, family)):
            problems.append(wrong)
    places = _placed(model, folder, entries, found, problems, family)
    problems = list(contradictions(model, folder, said))
    if problems:
        raise Invalid(*problems)
    beside = again if again and found[table.name] is not again else None
    return Checkpoint(places, beside, tie, constants)


def _find_in_gguf(model: Model, parameters: dict[str, Shape], path: str) -> Checkpoint:
    """The same of a GGUF file, whose keys are held against the spec first: shapes alone do not tell heads."""
    if problems := list(contradictions_of_gguf(model, path)):
        raise Invalid(*problems)
    named = named_in_gguf(model, parameters, path)
    found, problems = _by_name(named.headers, NAMES)
    table = next(entry for entry in named.entries if TOKENS in entry.parameters)
    head = found.pop(NAMES.head, None) if model.unembedding.tied else None
    if head is not None and (wrong := _mismatch(model, head, table.shape, NAMES)):
        problems.append(wrong)
    places = _placed(model, path, named.entries, found, problems, NAMES)
    return Checkpoint(places, head, None, [], partial(open_gguf, undo=named.undo))


def _family(folder: str, headers: list[Header], config: dict[str, Any]) -> Family:
    """Whose names the tensors have. Raises Invalid where nobody's."""
    names = [header.name for header in headers]
    family = whose(names, config, os.path.join(folder, CONFIG))
    if family is None:
        first = ", ".join(names[:3]) or "no tensor"
        kind = config.get("model_type")
        expected = f"as those of {kind} nor as archcalc's" if kind else "as those of a known family nor as archcalc's"
        message = f"holds weights of another architecture: its tensors are named neither {expected}"
        raise Invalid(Problem(folder, message, value=shown(first)))
    return family


def _by_name(headers: list[Header], family: Family) -> tuple[dict[str, Header], list[Problem]]:
    """The tensors by their names in full; a problem for each that stands twice."""
    found: dict[str, Header] = {}
    problems = []
    for header in headers:
        first = found.setdefault(family.full(header.name), header)
        if first is not header:
            problems.append(Problem(header.file, f"is also stored as {first.name}", header.name))
    return found, problems


def _contradicted_tie(model: Model, tie: Tie | None, table: Header | None, head: Header | None) -> Iterator[Problem]:
    """What is wrong with the tie of token table and head, before their numbers are compared."""
    tied, both = model.unembedding.tied, table is not None and head is not None
    if tie is not None and tied != tie.tied and (tied or not both):
        yield otherwise_tied(model, tie)
    for one in (table, head):
        if one is not None and one.same_as and not tied:
            message = f"is the same tensor as {one.same_as}; {model.name} has a head of its own"
            yield Problem(one.file, message, one.name, suggestion="unembedding.tied=true describes that model")


def otherwise_tied(model: Model, tie: Tie) -> Problem:
    """The line for a tie that the spec has otherwise than config.json."""
    wanted = model.unembedding.tied
    what = (
        f"must be {written(wanted)}, as in {model.name}" if tie.said else "is missing, and transformers assumes true"
    )
    value = written(tie.tied) if tie.said else None
    return Problem(
        tie.file, what, TIE, value=value, suggestion=f"unembedding.tied={written(not wanted)} describes that model"
    )


def _placed(
    model: Model,
    folder: str,
    entries: list[Entry],
    found: dict[str, Header],
    problems: list[Problem],
    family: Family,
) -> list[tuple[Entry, Header]]:
    """Each tensor that is expected with its place. Raises Invalid for `problems` and whatever is wrong beside."""
    wanted = {entry.name: entry for entry in entries}
    places, turned, upright = [], [], 0
    for name, header in found.items():
        entry = wanted.pop(name, None)
        problem = _mismatch(model, header, entry.shape if entry else None, family)
        if problem:
            problems.append(problem)
        if entry:
            matrix = (
                len(entry.shape) == 2
                and entry.shape[0] != entry.shape[1]
                and entry.parameters[0].startswith("layers.")
            )
            upright += matrix and header.shape == entry.shape
            if matrix and _is_turned(header, entry.shape):
                turned.append(problem)
            places.append((entry, header))
    if turned and not upright and turned[0]:
        layout = f"(in, out), as {family.name} stores them" if family.transposed else "(out, in)"
        what = f"is transposed, as are all matrices of this folder; {model.name} expects {layout}"
        raise Invalid(Problem(folder, what, turned[0].path, value=turned[0].value, suggestion=turned[0].suggestion))
    prefix = "" if any(header.name.startswith(family.prefix) for header in found.values()) else family.prefix
    for entry in wanted.values():
        expected = f"{model.name} expects {sizes(entry.shape)}"
        problems.append(Problem(folder, "is missing", entry.name.removeprefix(prefix), suggestion=expected))
    if len(problems) > MOST_TOLD:
        one, count = problems[0], f"{len(problems):,} tensors differ"
        what = f"holds weights of another model than {model.name}: {count}, first {one.path}"
        raise Invalid(Problem(folder, what, value=one.value, suggestion=one.suggestion))
    if problems:
        raise Invalid(*problems)
    return places


def _is_turned(header: Header, expected: Shape) -> bool:
    return len(expected) == 2 and header.shape == expected[::-1] != expected


def _mismatch(model: Model, header: Header, expected: Shape | None, family: Family) -> Problem | None:
    """What is wrong with a stored tensor where one of shape `expected`, or none, should be."""
    if expected is None:
        return Problem(header.file, f"is not a tensor of {model.name}", header.name, value=sizes(header.shape))
    if header.shape != expected:
        fix = f"{model.name} expects {sizes(expected)}"
        message = "is transposed" if _is_turned(header, expected) else "has another shape"
        return Problem(header.file, message, header.name, value=sizes(header.shape) or "a number", suggestion=fix)
    if header.type not in TYPES and not header.file.endswith(GGUF):
        fix = f"supported: {', '.join(TYPES)}"
        return Problem(header.file, "has an unsupported type", header.name, value=header.type, suggestion=fix)
    if header.same_as and family.full(header.name) not in (family.table, family.head):
        message = f"is the same tensor as {header.same_as}: layers that share weights are not supported"
        return Problem(header.file, message, header.name)
    return None
