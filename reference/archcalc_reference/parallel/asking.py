"""The arguments of `python -m archcalc_reference.train`: a spec, a plan, how to learn. Nothing here takes PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

from archcalc.errors import Invalid, Problem, shown
from archcalc.plan.description import Plan
from archcalc.plan.reading import find_plan
from archcalc.spec.scalars import resolve
from archcalc.spec.settings import DEFAULTS, MOST_STEPS, Said, Settings
from archcalc.spec.source import Document
from archcalc.spec.validation import validate
from archcalc.units import parse_length

PROGRAM = "python -m archcalc_reference.train"
PLANNED = (
    *("dp", "tp", "zero", "sharding", "sequence_parallel", "micro_batch", "accumulation"),
    *("reshard_after_forward", "prefetch", "recompute_layers"),
)
"""The fields of a plan that have flags; a plan's file may say all."""
_SETTINGS = {"steps": "steps", "seq": "sequence", "lr": "rate", "warmup": "warmup", "seed": "seed"}
"""The settings by their flags, where those are numbers."""
_EXAMPLE = """\
Under torchrun each process is a rank of the plan; by itself this trains one process.

  torchrun --nproc-per-node 2 -m archcalc_reference.train gpt2@n_layers=4 \\
      --dp 2 --zero 3 --sharding per-tensor --micro-batch 4 --data book.txt --out run

The same command continues from the last checkpoint in --out, also with a plan for another number of ranks.
At the end `archcalc generate run --prompt TEXT` writes with it; --export makes that possible earlier.
"""


class Asked(NamedTuple):
    """What was asked for. `numbers` are the settings that flags gave; `losses` is where each step's loss goes."""

    spec: str | None
    plan: Plan
    numbers: dict[str, Any]
    data: tuple[str, ...]
    data_as: Said | None
    out: Path | None
    every: int | None
    losses: Path | None
    export: bool
    device: str | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Invalid(Problem(PROGRAM, message, suggestion="--help lists the arguments"))


def read(arguments: Sequence[str] | None) -> Asked:
    """The arguments as they were typed. Raises Invalid or Missing for what cannot be."""
    given = _parser().parse_args(arguments)
    changes = {name: _plain(getattr(given, name)) for name in PLANNED if getattr(given, name) is not None}
    if given.recompute:
        changes["recompute"] = "full"
    plan = find_plan(given.plan, changes)
    refuse_unobeyed(plan)
    typed = {setting: getattr(given, flag) for flag, setting in _SETTINGS.items()}
    numbers = {setting: _plain(text) for setting, text in typed.items() if text is not None}
    numbers |= {name: text for name in ("precision", "attention") if (text := getattr(given, name)) is not None}
    if plan.precision is not None:
        numbers.setdefault("precision", PRECISIONS[bool(plan.zero)][plan.precision])
    if given.out == "":
        raise Invalid(Problem("--out", "is empty"))
    if given.data_as is not None and not given.data:
        raise Invalid(Problem("--data-as", "needs a --data", value=shown(given.data_as)))
    return Asked(
        given.spec,
        plan,
        numbers,
        tuple(given.data or ()),
        given.data_as,
        None if given.out is None else Path(given.out),
        None if given.every is None else _count("--every", given.every),
        None if given.losses is None else Path(given.losses),
        given.export,
        given.device,
    )


PRECISIONS = {False: {"fp32": "fp32", "bf16": "bf16"}, True: {"fp32": "fp32", "fsdp-bf16": "bf16"}}
"""What the training calls a plan's recipe, by whether ranks share weights."""


def refuse_unobeyed(plan: Plan) -> None:
    """Raise Invalid for a plan that says of a step what is not done here: other recipes, optimizers, recomputation."""

    def refuse(field: str, fix: str | None = None) -> Invalid:
        value = str(getattr(plan, field)).lower()
        return Invalid(Problem(plan.name, "is not in the reference", field, value=value, suggestion=fix))

    known = PRECISIONS[bool(plan.zero)]
    if plan.precision is not None and plan.precision not in known:
        raise refuse("precision", f"one of {', '.join(known)}")
    if plan.optimizer not in (None, "adamw", "adamw-fused", "adamw-foreach"):
        raise refuse("optimizer", "only adamw")
    if plan.recompute == "selective":
        raise refuse("recompute", "none or full")
    if plan.offload_optimizer:
        raise refuse("offload_optimizer")


def settings(asked: Asked, context: int, kept: Mapping[str, Any]) -> Settings:
    """The settings that flags and plan say, those `kept` in a checkpoint, and defaults, in this order.

    Raises Invalid for a setting out of its bounds, and for one that is another than when the training began: all but
    the number of steps, and of the parts in which a batch is computed.
    """
    plan = asked.plan
    given = {**asked.numbers, "batch": plan.dp * plan.micro_batch * plan.accumulation, "accumulate": plan.accumulation}
    if asked.export:  # nothing is learned
        given = {**asked.numbers}
    for name, value in given.items():
        if name not in ("steps", "accumulate") and name in kept and kept[name] != value:
            fix = "as it was, or choose another --out"
            raise Invalid(
                Problem(_flag(name), f"was {kept[name]} when the training began", value=str(value), suggestion=fix)
            )
    chosen = {**DEFAULTS, "sequence": context, **kept, **given}
    if isinstance(chosen["steps"], int):
        chosen.setdefault("warmup", -(-chosen["steps"] // 20))
    try:
        found = validate(Document("settings", chosen), Settings)
    except Invalid as error:
        raise Invalid(*(Problem(_flag(one.path), one.message, value=one.value) for one in error.problems)) from None
    if found.sequence > context:
        raise Invalid(Problem("--seq", f"must be at most the context, {context:,}", value=f"{found.sequence:,}"))
    if found.warmup > found.steps:
        raise Invalid(Problem("--warmup", f"must be at most the steps, {found.steps:,}", value=f"{found.warmup:,}"))
    return found


def _flag(name: str) -> str:
    """The flag of a setting; the batch is the product of three of the plan's."""
    spelled = {setting: flag for flag, setting in _SETTINGS.items()}
    return "--dp x --micro-batch x --accumulation" if name == "batch" else f"--{spelled.get(name, name)}"


def _plain(text: Any) -> Any:
    """A number as it was typed (32k is 32,768), or the text that is none."""
    if not isinstance(text, str):
        return text
    length = parse_length(text.strip())
    return resolve(text.strip()) if length is None else length


def _count(flag: str, text: str) -> int:
    found = _plain(text)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= MOST_STEPS:
        raise Invalid(Problem(flag, f"must be an integer from 1 to {MOST_STEPS:,}", value=shown(text)))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        PROGRAM,
        "torchrun --nproc-per-node N -m archcalc_reference.train [SPEC] [--plan PLAN] [options]",
        "Train a model under a parallel plan, with PyTorch's FSDP2 (zero 3, per-tensor), DTensor (tp) and gradients\n"
        "that data-parallel ranks average (zero 0).",
        _EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="as for archcalc; default: the checkpoint's, or tiny")
    plan = parser.add_argument_group("plan (flags win over the file; a step learns dp x micro-batch x accumulation)")
    plan.add_argument("--plan", metavar="PLAN", help="name of `archcalc list plans`, or a YAML file")
    for name in PLANNED:
        field = Plan.model_fields[name]
        flag, said = f"--{name.replace('_', '-')}", (field.description or "").replace("%", "%%")
        if field.annotation is bool:
            plan.add_argument(flag, action=argparse.BooleanOptionalAction, help=said)
        else:
            plan.add_argument(flag, metavar="HOW" if name in ("sharding", "prefetch") else "N", help=said)
    learn = parser.add_argument_group("training")
    for flag, metavar, said in (
        ("--steps", "N", f"optimizer steps in total; default: {DEFAULTS['steps']}"),
        ("--seq", "S", "tokens per sequence; default: the context length"),
        ("--lr", "RATE", f"peak learning rate; default: {DEFAULTS['rate']}"),
        ("--warmup", "N", "warm-up steps, then cosine; default: 5%% of --steps"),
        ("--seed", "N", "seed of initial weights and data order; default: 0"),
    ):
        learn.add_argument(flag, metavar=metavar, help=said)
    learn.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="fp32 (default) or bf16; with zero 3 weights are fp32, gathered in bf16, and gradients reduced in fp32",
    )
    learn.add_argument("--attention", choices=("math", "flash"), help="attention kernel; default: flash")
    learn.add_argument("--recompute", action="store_true", help="compute each layer again in the backward pass")
    learn.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if available, one GPU a rank")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--data", action="append", metavar="FILE", help="text or tokens, as for archcalc train; default: its sources"
    )
    files.add_argument("--data-as", choices=get_args(Said), help="content of --data; default: by header or suffix")
    files.add_argument(
        "--out", metavar="DIR", help="folder of checkpoints, one for all ranks; continued if it has any"
    )
    files.add_argument("--every", metavar="N", help="steps between checkpoints; default: 1/5 of --steps")
    files.add_argument(
        "--export", action="store_true", help="write the newest checkpoint in --out for archcalc's commands, and end"
    )
    files.add_argument("--losses", metavar="FILE", help="append step, loss, norm and learning rate as lines of JSON")
    return parser
