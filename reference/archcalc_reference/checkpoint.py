"""A folder of weights by its headers: which tensors are in which file, of which shape and type. No number is read.

The format is safetensors (github.com/huggingface/safetensors): model.safetensors, or model.safetensors.index.json and
the shards that it names. Nothing here takes PyTorch.
"""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

from archcalc.checkpoints import INDEX, WHOLE
from archcalc.errors import Invalid, Missing, Problem, cut, shown
from archcalc.spec import Model
from archcalc.units import shape as sizes
from archcalc_reference.files import LONGEST_REASON, extra, names_in, read_object
from archcalc_reference.layouts import HEAD, PREFIX, TOKENS, Entry, Shape, gpt2, is_mask, own, spoken_by, why_no_gpt2

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
GPT2_HEAD = "lm_head.weight"
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Those that are read, by safetensors' names and PyTorch's."""
MOST_TOLD = 5  # tensors, a line each, that are wrong in a model; of more it is another model


class Header(NamedTuple):
    """A stored tensor as its file announces it."""

    file: str
    name: str
    shape: Shape
    type: str


class Checkpoint(NamedTuple):
    """Every parameter's place in the files; `head` is a tied head that is stored a second time."""

    places: list[tuple[Entry, Header]]
    head: Header | None

    @property
    def types(self) -> list[str]:
        """PyTorch's names of the types that it is stored in."""
        return sorted({TYPES[header.type] for _, header in self.places})


def no_weights(spec: str) -> Missing:
    """What a command that needs weights says where none are named, with the ways out."""
    ways = f"`archcalc train {spec}` makes them, --weights DIR reads them"
    published = "GPT-2's are published at huggingface.co/openai-community/gpt2"
    return Missing(Problem("--weights", f"{spec} has no weights here", suggestion=f"{ways}; {published}"))


def package() -> Any:
    """The package safetensors; Missing says how to install it."""
    return extra("safetensors", "weights")


def find_weights(model: Model, parameters: dict[str, Shape], folder: str) -> Checkpoint:
    """Where each of a model's parameters is stored in a folder, told from the headers alone.

    Raises Missing where there are no weights or a shard is gone, Invalid with a line for each tensor that is missing,
    unexpected, of another shape or of a type that is not read; with one line where those are many.
    """
    headers = read_headers(folder)
    names = [header.name for header in headers]
    tongue = spoken_by(names)
    if tongue is None:
        first = ", ".join(names[:3]) or "no tensor"
        message = "holds weights of another architecture: names neither of GPT-2's nor of archcalc's"
        raise Invalid(Problem(folder, message, value=shown(first)))
    why = why_no_gpt2(model) if tongue == "gpt2" else None
    if why is not None:
        raise Invalid(Problem(folder, f"holds weights of GPT-2's architecture; {model.name} has {why}"))
    prefix = PREFIX if tongue == "gpt2" and not any(name.startswith(PREFIX) for name in names) else ""
    entries = gpt2(parameters) if tongue == "gpt2" else own(parameters)
    wanted = {entry.name: entry for entry in entries}
    head = GPT2_HEAD if tongue == "gpt2" else HEAD

    problems, places, again = [], [], None
    for header in headers:
        if tongue == "gpt2" and is_mask(header.name):
            continue
        name = header.name if header.name == head else prefix + header.name
        entry = wanted.pop(name, None)
        shape = entry.shape if entry else None
        if entry is None and name == head and model.unembedding.tied:
            again, shape = header, parameters[TOKENS]
        problem = _mismatch(model, header, shape)
        if problem:
            problems.append(problem)
        elif entry:
            places.append((entry, header))
    for entry in wanted.values():
        expected = f"{model.name} expects {sizes(entry.shape)}"
        problems.append(Problem(folder, "is missing", entry.name.removeprefix(prefix), suggestion=expected))
    if len(problems) > MOST_TOLD:
        one, count = problems[0], f"{len(problems):,} tensors differ"
        what = f"holds weights of another model than {model.name}: {count}, first {one.path}"
        raise Invalid(Problem(folder, what, value=one.value, suggestion=one.suggestion))
    if problems:
        raise Invalid(*problems)
    return Checkpoint(places, again)


def _mismatch(model: Model, header: Header, expected: Shape | None) -> Problem | None:
    """What is wrong with a stored tensor where one of shape `expected`, or none, should be."""
    if expected is None:
        return Problem(header.file, f"is no tensor of {model.name}", header.name, value=sizes(header.shape))
    if header.shape != expected:
        fix = f"{model.name} expects {sizes(expected)}"
        message = "is of another shape"
        return Problem(header.file, message, header.name, value=sizes(header.shape) or "a number", suggestion=fix)
    if header.type not in TYPES:
        fix = f"one of {', '.join(TYPES)} is"
        return Problem(header.file, "is of a type that is not read", header.name, value=header.type, suggestion=fix)
    return None


def read_headers(folder: str) -> list[Header]:
    """Every tensor that a folder's weights announce; where they are whole and sharded too, whole."""
    there = names_in(folder)
    if WHOLE in there:
        return _announced(os.path.join(folder, WHOLE))
    if INDEX not in there:
        raise _nothing(folder, there)
    index = os.path.join(folder, INDEX)
    promised = _promises(index)
    shards = sorted(set(promised.values()))
    gone = [shard for shard in shards if shard not in there]
    if gone:
        raise Missing(*(Problem(os.path.join(folder, shard), f"is not there, and {INDEX} names it") for shard in gone))
    found: dict[str, Header] = {}
    problems = []
    for shard in shards:
        for header in _announced(os.path.join(folder, shard)):
            first = found.setdefault(header.name, header)
            if first is not header:
                problems.append(Problem(header.file, f"is in {os.path.basename(first.file)} too", header.name))
    for name, shard in promised.items():
        if name not in found:
            problems.append(Problem(os.path.join(folder, shard), f"is not in it, and {INDEX} says so", name))
    if problems:
        raise Invalid(*problems)
    return list(found.values())


def _nothing(folder: str, there: list[str]) -> Invalid | Missing:
    pickles = [name for name in there if name.endswith(PICKLES)]
    if pickles:
        fix = "where you trust it: GPT2LMHeadModel.from_pretrained(DIR).save_pretrained(NEW), of transformers"
        message = f"holds {pickles[0]} and no {WHOLE}; a pickle can run code when it is read, so none is"
        return Invalid(Problem(folder, message, suggestion=f"convert it {fix}"))
    others = [name for name in there if name.endswith(".safetensors")]
    if others:
        return Missing(Problem(folder, f"holds no {WHOLE} and no {INDEX}", value=shown(others[0])))
    return Missing(Problem(folder, f"holds no weights: no {WHOLE} and no {INDEX}"))


def _promises(index: str) -> dict[str, str]:
    """Which shard has which tensor, as the index says."""
    promised = read_object(index).get("weight_map")
    if not isinstance(promised, dict) or not promised:
        raise Invalid(Problem(index, "is no index of shards: it maps no tensor to a file", "weight_map"))
    for name, shard in promised.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or os.path.basename(shard) != shard:
            raise Invalid(Problem(index, "must name a .safetensors file beside it", name, value=shown(shard)))
    return promised


def _announced(path: str) -> list[Header]:
    with open_tensors(path, "numpy") as file:  # what it announces takes no PyTorch, BF16 included
        slices = [(name, file.get_slice(name)) for name in file.keys()]  # noqa: SIM118  (no mapping)
        return [Header(path, name, tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices]


def open_tensors(path: str, framework: Literal["numpy", "pt"]) -> Any:
    """A file of weights, mapped into memory: what is not asked for is not read. Invalid where it is none, or cut."""
    try:
        return package().safe_open(path, framework=framework)
    except (OSError, ValueError, package().SafetensorError) as error:
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            raise Invalid(Problem(path, "is empty")) from None
        reason = cut(str(error), LONGEST_REASON)
        raise Invalid(Problem(path, f"is no safetensors file, or not all of one: {reason}")) from None
