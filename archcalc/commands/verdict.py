"""The commands check and verify."""

import gc
import sys
from typing import Annotated

import typer

from archcalc.commands.base import TRUST, Form, Output, Specs, app
from archcalc.commands.planning import Planned, takes_plan
from archcalc.errors import MOST_PROBLEMS_SHOWN, ArchcalcError, Invalid, Problem
from archcalc.report.output import emit, tell
from archcalc.spec.catalogue import find, is_readable, names


@app.command(rich_help_panel=TRUST)
def check(
    specs: Specs = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="weights to compare a SPEC with by their headers: a .safetensors or .gguf file, an index of shards, "
            "a folder, hf:ORG/NAME or hf:ORG/NAME/FILE",
        ),
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """Validate specs; compare counts with published figures.

    Exit code 1 if a spec is invalid or a figure differs. `archcalc schema` describes the format, which may have
    several groups of layers.

    With --weights every tensor of one SPEC is compared with a checkpoint: missing or unexpected ones, other shapes
    and types, a tied head, padded rows. No number of the weights is read.

    Example: archcalc check own.yaml
    """
    if weights is not None:
        _check_weights(specs or [], weights, form, output)
        return
    from archcalc.checks.audit import audit, unreadable
    from archcalc.checks.files import broken_promises
    from archcalc.report.sheet import warnings
    from archcalc.report.verdict import verdict_sheet

    verdicts, worst = [], 0
    told: list[Problem] = []
    for spec in specs or names():
        try:
            found = find(spec)
        except ArchcalcError as error:
            problems, code = error.problems, 1 if is_readable(spec) else error.exit_code
            verdicts.append(unreadable(spec, problems, max(MOST_PROBLEMS_SHOWN - len(told), 0)))
        else:
            verdict = audit(found.model)
            problems, code = tuple(broken_promises(found)), 0 if verdict.passed else 1
            verdicts.append(verdict._replace(spec=found.name, warnings=warnings(found)))
        worst = max(worst, code)
        told += problems
    if told:
        tell(str(Invalid(*told)))
    emit(verdict_sheet(verdicts, "printed"), form, output)
    if worst:
        raise typer.Exit(worst)


def _check_weights(specs: list[str], weights: str, form: Form, output: Output) -> None:
    """Hold a checkpoint's headers against a spec. Exit code 1 if a tensor differs."""
    from archcalc.commands.held import held_against
    from archcalc.report.verdict import verdict_sheet

    if len(specs) != 1:
        raise Invalid(Problem("--weights", "needs one SPEC to compare with", value=f"{len(specs)}"))
    verdict = held_against(find(specs[0]), weights)
    emit(verdict_sheet([verdict], "stored"), form, output)
    if not verdict.passed:
        raise typer.Exit(1)


@app.command(rich_help_panel=TRUST)
@takes_plan
def verify(
    specs: Specs = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="compare tensor names and shapes only, which is faster")
    ] = False,
    form: Form = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Build the model in PyTorch and compare it with the counts.

    Exit code 1 if tensors, FLOPs, bytes or logits differ.

    With a plan a small model of the same architecture takes steps in real processes, and what each rank holds is
    compared instead.

    Example: archcalc verify gpt2
    """
    from archcalc.report.verdict import verdict_sheet

    if plan is not None:
        if tensors:
            raise Invalid(Problem("--tensors", "cannot be combined with a plan, whose ranks take steps"))
        _verify_plan(specs or [], plan, form, output)
        return
    from archcalc.proof.witness import prove

    every = [find(spec) for spec in specs or names()]  # an invalid spec is refused before any is verified
    verdicts = []
    for found in every:
        if len(every) > 1 and sys.stderr is not None and sys.stderr.isatty():
            tell(f"verifying {found.name}")
        verdicts.append(prove(found.model, passes=not tensors)._replace(spec=found.name))
        if not tensors:
            gc.collect()  # the command line puts the collector off, and a model that was run is full of cycles
    emit(verdict_sheet(verdicts, "measured"), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def _verify_plan(specs: list[str], plan: Planned, form: Form, output: Output) -> None:
    """Hold the counts of a plan's ranks against processes that run it. Exit code 1 if something differs."""
    from archcalc.plan.rules import refuse
    from archcalc.proof.ranks import prove_plan
    from archcalc.report.verdict import verdict_sheet
    from archcalc.tape.run import Run

    if len(specs) != 1:
        raise Invalid(Problem("archcalc verify", "needs one SPEC that the plan divides", value=f"{len(specs)}"))
    found = find(specs[0])
    refuse(plan.plan, found.model, Run(batch=plan.plan.micro_batch, sequence=found.model.context_length), plan.where)
    verdict = prove_plan(found.model, plan.plan)._replace(spec=found.name)
    emit(verdict_sheet([verdict], "measured"), form, output)
    if not verdict.passed:
        raise typer.Exit(1)
