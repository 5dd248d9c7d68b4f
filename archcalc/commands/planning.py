"""The flags of a parallel plan, the same on every command that takes one; a flag wins over the plan's file."""

import inspect
from collections.abc import Callable, Iterable
from copy import copy
from functools import wraps
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import typer

from archcalc.arguments import LARGEST_SIZE
from archcalc.commands.base import number
from archcalc.commands.completing import plan_words
from archcalc.commands.flags import Again, OptimizerOf, PrecisionOf
from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.batches import of_batch
from archcalc.plan.description import Gathered, Plan, Prefetch, Schedule, Sharding
from archcalc.plan.frameworks import Framework
from archcalc.plan.reading import find_plan
from archcalc.tape.optimizers import Optimizer
from archcalc.tape.precision import RECIPES, Recompute
from archcalc.tape.run import Run


def _size(help_: str, metavar: str = "N") -> Any:
    return Annotated[str | None, typer.Option(metavar=metavar, show_default=False, help=help_)]


def _word(kind: Any, metavar: str, help_: str) -> Any:
    listed = ", ".join(get_args(kind))
    return Annotated[kind | None, typer.Option(metavar=metavar, show_default=False, help=f"{help_}: {listed}")]


FLAGS: dict[str, Any] = {
    "plan": Annotated[
        str | None,
        typer.Option(
            metavar="PLAN",
            autocompletion=plan_words,
            show_default=False,
            help="parallel plan: name, YAML file or REV:PATH; its fields are flags: `plan -h`",
        ),
    ],
    "dp": _size("data-parallel ranks, expert ranks included"),
    "tp": _size("tensor-parallel ranks"),
    "sequence_parallel": Annotated[
        bool | None,
        typer.Option(
            "--sequence-parallel/--no-sequence-parallel",
            show_default=False,
            help="cut the residual stream's positions over the tp ranks",
        ),
    ],
    "cp": _size("context-parallel ranks, which share a sequence's positions"),
    "pp": _size("pipeline stages"),
    "schedule": _word(Schedule, "KIND", "pipeline schedule"),
    "chunks": _size("chunks of layers of each stage, interleaved"),
    "stage_layers": _size("layers of each stage (and chunk), such as 11,12,12,13", "N,N,..."),
    "ep": _size("expert-parallel ranks, among the dp ranks"),
    "etp": _size("ranks that share each expert; default: --tp"),
    "zero": _size("share optimizer state (1), gradients (2), weights (3) over dp", "0-3"),
    "sharding": _word(Sharding, "HOW", "how ZeRO cuts"),
    "reshard_after_forward": Annotated[
        bool | None,
        typer.Option(
            "--reshard-after-forward/--no-reshard-after-forward",
            show_default=False,
            help="ZeRO 3: drop gathered weights after the forward pass (default), or keep them",
        ),
    ],
    "prefetch": _word(Prefetch, "WHEN", "ZeRO 3: passes that gather the next layer's weights early"),
    "gathered_inputs": _word(Gathered, "HOW", "inputs that sequence parallelism gathers"),
    "micro_batch": _size("sequences that a rank computes at a time", "B"),
    "accumulation": _size("micro-batches of a step", "M"),
    "vocab_divisible_by": _size("pad the vocabulary to a multiple of this x tp"),
    "cache_block": _size("inference: positions of a block of the cache"),
    "framework": _word(Framework, "NAME", "whose habits hold where the plan says nothing"),
    "recompute_layers": _size("recompute full: first K layers of each stage", "K"),
    "offload_optimizer": Annotated[
        bool | None,
        typer.Option(
            "--offload-optimizer/--no-offload-optimizer",
            show_default=False,
            help="optimizer state in the host's memory",
        ),
    ],
}
"""Each flag by the field of the plan that it sets."""

TAKING = ("report", "params", "flops", "memory", "traffic", "explain", "plan", "diff", "sweep", "verify")
"""The commands that take a plan."""

_SIZES = (
    "dp",
    "tp",
    "cp",
    "pp",
    "chunks",
    "ep",
    "etp",
    "micro_batch",
    "accumulation",
    "vocab_divisible_by",
    "cache_block",
    "recompute_layers",
)
_RECIPE = {"precision": PrecisionOf, "optimizer": OptimizerOf, "recompute": Again}
"""Flags of commands that are fields of a plan too."""


class Planned(NamedTuple):
    """A plan as it was asked for: `where` is what its errors are placed at."""

    plan: Plan
    where: str

    def of(self, run: Run, batch: str | None) -> Plan:
        """The plan with the batch of a step, where one is asked for: see `of_batch`."""
        if batch is None:
            return self.plan
        return of_batch(self.plan, number("--batch", batch, LARGEST_SIZE), trains=run.phase == "training")


def needed(command: str, plan: Planned | None) -> Planned:
    """The plan of a command that cannot do without. Raises Invalid where none was asked for."""
    if plan is None:
        fix = "--plan NAME, or flags such as --tp 8; `archcalc list plans` shows the catalogue's"
        raise Invalid(Problem(f"archcalc {command}", "needs a plan", suggestion=fix))
    return plan


def takes_plan(command: Callable[..., None], *, told: bool = False) -> Callable[..., None]:
    """A decorator of commands with a parameter `plan: Planned | None`, which the flags of FLAGS fill.

    They are `told` by the help of one command; that of all others has --plan, which says where they are.
    """
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    recipe = [name for name, kind in _RECIPE.items() if hints.get(name) == kind]
    flags = {name: kind if told or name == "plan" else _hidden(kind) for name, kind in FLAGS.items()}
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in flags.items()
    ]
    others = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in signature.parameters.items()
        if name != "plan"
    ]
    at = next((i for i, one in enumerate(others) if one.name == "form"), len(others))

    @wraps(command)
    def run(**given: Any) -> None:
        flags = {name: given.pop(name) for name in FLAGS}
        also = {name: given[name] for name in recipe if given[name] is not None}
        command(plan=_planned(flags, _last_values(given.get("vary") or ()) | also), **given)

    parameters = [*others[:at], *made, *others[at:]]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    del run.__wrapped__
    return run


_ALONE = ("vocab_divisible_by", "cache_block")  # not varied
VARIED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*(name for name in _SIZES if name not in _ALONE), "zero"), ()),
    "sequence_parallel": ("false", "true"),
    "schedule": get_args(Schedule),
    "sharding": get_args(Sharding),
    "gathered_inputs": get_args(Gathered),
    "precision": tuple(RECIPES),
    "optimizer": get_args(Optimizer),
    "recompute": get_args(Recompute),
}
"""What `sweep --vary` varies of a plan, with the words that it may be; none for sizes."""


def is_varied(name: str) -> bool:
    """Whether a name is one of what is varied of a plan."""
    return name in VARIED


def varied(name: str, text: str) -> list[Any]:
    """The values of a field of a plan. Raises Invalid for one that it cannot have."""
    if not VARIED[name]:
        least, most = (0, 3) if name == "zero" else (1, LARGEST_SIZE)
        return [number(f"--vary {name}", part, most, least=least) for part in text.split(",")]
    words = [part.strip() for part in text.split(",")]
    for word in words:
        if word not in VARIED[name]:
            fix = f"one of {', '.join(VARIED[name])}"
            raise Invalid(Problem("--vary", f"has a value that {name} cannot be", value=shown(word), suggestion=fix))
    return [word == "true" for word in words] if name == "sequence_parallel" else words


def is_flag(flag: str) -> bool:
    """Whether --flag sets a field of a plan, or names one."""
    return flag.removeprefix("--").removeprefix("no-").replace("-", "_") in FLAGS


def _hidden(kind: Any) -> Any:
    """A flag that the help leaves out."""
    plain, (option, *_) = get_args(kind)[0], get_args(kind)[1:]
    quiet = copy(option)
    quiet.hidden = True
    return Annotated[plain, quiet]


def _last_values(vary: Iterable[str]) -> dict[str, Any]:
    """Fields of a plan that are varied, each with the value that others may need: the largest, or the last word."""
    pairs = (text.partition("=")[::2] for text in vary)
    named = {name.strip(): values for name, values in pairs}
    known = VARIED.keys() & Plan.model_fields.keys()
    return {name: _needed(name, varied(name, text)) for name, text in named.items() if name in known and text}


def _needed(name: str, values: list[Any]) -> Any:
    if not VARIED[name] or name == "sequence_parallel":
        return max(values)
    return "full" if name == "recompute" and "full" in values else values[-1]


def _planned(given: dict[str, Any], also: dict[str, Any]) -> Planned | None:
    """The plan that the flags ask for, with fields that make none by themselves; None where none does."""
    name = given.pop("plan")
    changes = {field: _value(field, text) for field, text in given.items() if text is not None}
    if name is None and not changes:
        return None
    changes = also | changes
    return Planned(find_plan(name, changes), name or "plan")


def _value(field: str, text: Any) -> Any:
    flag = f"--{field.replace('_', '-')}"
    if field in _SIZES:
        return number(flag, text, LARGEST_SIZE)
    if field == "zero":
        return number(flag, text, 3, least=0)
    if field == "stage_layers":
        parts = text.split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() and len(part) <= 12 for part in parts):
            raise Invalid(Problem(flag, "must be whole numbers with commas between", value=shown(text)))
        return [int(part) for part in parts]
    return text
