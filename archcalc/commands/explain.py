"""The command explain."""

import re
from typing import Annotated, Any, Literal, cast

import typer

from archcalc.commands.base import COUNT, AnyAttention, AnyBatch, Output, Seq, Spec, app
from archcalc.commands.completing import quantity_words
from archcalc.commands.flags import (
    Accumulate,
    ActivationOf,
    Again,
    CacheOf,
    Context,
    Dropout,
    For,
    LogitsOf,
    OptimizerOf,
    Pairs,
    Phases,
    PrecisionOf,
    Tokens,
    keeping,
    memory_run,
    work_run,
)
from archcalc.commands.planning import Planned, is_flag, takes_plan
from archcalc.counts.quantities import Asked, depends_on
from archcalc.errors import LONGEST_VALUE, Invalid, Problem, cut, nearest, shown
from archcalc.report.explain import explanation_sheet, latex
from archcalc.report.explained import OF_ALL_RANKS
from archcalc.report.output import emit, write
from archcalc.report.sheet import Format
from archcalc.spec.catalogue import find
from archcalc.tape.run import FLOPS_KERNEL, MEMORY_KERNEL

_OF_THE_OUTPUT = ("--format", "--output")


def refuse_unused(called: typer.Context, path: str) -> None:
    """Raises Invalid for a flag that cannot change the number at a path."""
    flags = depends_on(path)
    for parameter in called.command.params:
        flag = max(parameter.opts, key=len)
        given: Any = called.params.get(parameter.name or "")
        if is_flag(flag):
            continue
        if flag.startswith("--") and flag not in (*flags, *_OF_THE_OUTPUT) and given != parameter.default:
            fix = _TAKES_FLAGS.get(path.partition(".")[0])
            raise Invalid(Problem(flag, f"does not change {cut(path, LONGEST_VALUE)}", suggestion=fix))


def is_rule(spec: str) -> bool:
    """Whether a rule is asked for, by an identifier or a name of one: no model is called so."""
    if re.fullmatch("ac[0-9]{1,9}", spec, re.IGNORECASE):
        return True
    from archcalc.spec.catalogue import is_path

    if "-" not in spec or is_path(spec) or "@" in spec:
        return False
    from archcalc.checks.lint.every import RULES

    return spec in {rule.name for rule in RULES.values()}


def _explain_rule(called: typer.Context, word: str, path: str | None, form: str | None, output: str | None) -> None:
    """Show a rule. Raises Invalid for one that does not exist, and for flags, which change nothing of it."""
    from archcalc.checks.lint.every import RULES
    from archcalc.report.rules import rule_sheet

    by_name = {rule.name: rule for rule in RULES.values()}
    rule = by_name.get(word) or RULES.get(word.upper())
    if rule is None:
        near = [name for name in RULES if name.startswith(word.upper())][:3] or nearest(word, list(RULES), 3)
        fix = f"nearest: {', '.join(near)}" if near else "`archcalc list rules` shows all"
        raise Invalid(Problem(word, "is not a rule", suggestion=fix))
    if path is not None:
        raise Invalid(Problem("QUANTITY", f"applies only to a SPEC, and {rule.id} is a rule", value=shown(path)))
    for parameter in called.command.params:
        flag, given = max(parameter.opts, key=len), called.params.get(parameter.name or "")
        if flag.startswith("--") and flag not in _OF_THE_OUTPUT and given != parameter.default:
            raise Invalid(Problem(flag, f"applies only to a SPEC, and {rule.id} is a rule"))
    if form == "latex" or (form is None and output is not None and output.endswith(".tex")):
        raise Invalid(Problem("--format", "latex shows a number, not a rule"))
    emit(rule_sheet(rule), cast("Format | None", form), output)


# What report counts for one context alone, and what counts the same for other runs.
_TAKES_FLAGS = {
    "inference": "explain memory.total --for inference takes it",
    "devices": "`archcalc memory --device` takes it",
}


@app.command(rich_help_panel=COUNT)
@takes_plan
def explain(
    called: typer.Context,
    spec: Spec,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="QUANTITY",
            autocompletion=quantity_words,
            show_default=False,
            help="number of `list quantities`, or path in JSON; default: all",
        ),
    ] = None,
    batch: AnyBatch = None,
    seq: Seq = None,
    attention: AnyAttention = None,
    phase: Phases = "training",
    context: Context = None,
    logits: LogitsOf = None,
    causal: Pairs = "full",
    tokens: Tokens = None,
    purpose: For = "training",
    precision: PrecisionOf = None,
    optimizer: OptimizerOf = None,
    recompute: Again = None,
    accumulate: Accumulate = False,
    activation_kernel: ActivationOf = "fused",
    dropout: Dropout = False,
    kv_precision: CacheOf = None,
    form: Annotated[
        Literal["table", "markdown", "latex", "json", "csv"] | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            show_default=False,
            help="format: table, markdown, latex, json or csv",
        ),
    ] = None,
    output: Output = None,
    plan: Planned | None = None,
) -> None:
    """Explain a number (formula, terms, source) or a rule of lint.

    Example: archcalc explain gpt2 flops.per_token --format latex
    """
    if is_rule(spec):
        _explain_rule(called, spec, path, form, output)
        return
    refused = None
    if path is not None:
        try:
            refuse_unused(called, path.strip().replace(" ", "_"))
        except Invalid as error:
            refused = error
    if plan is not None and tokens is not None and path is None:
        what, fix = OF_ALL_RANKS["run"]
        raise Invalid(Problem("--tokens", what, suggestion=fix))
    found = find(spec)
    model = found.model
    try:
        kept = keeping(
            purpose,
            precision,
            optimizer,
            recompute,
            kv_precision,
            accumulate=accumulate,
            dropout=dropout,
            plan=plan and plan.plan,
        )
        each = "1" if plan or batch is None else batch
        run, amount = work_run(model, phase, each, seq, context, logits, causal, attention or FLOPS_KERNEL, tokens)
        held = memory_run(model, purpose, each, seq, attention or MEMORY_KERNEL, activation_kernel, dropout=dropout)
        of_work = path is not None and path.strip().startswith("flops")
        chosen, where = (None, "") if plan is None else (plan.of(run if of_work else held, batch), plan.where)
    except Invalid as error:
        raise refused or error from None
    asked = Asked(model, run, held, kept)
    if path is not None and refused is not None:
        explanation_sheet(found, path, asked, amount, chosen, where)  # a number that does not exist comes first
        raise refused
    if form is None and output is not None and output.endswith(".tex"):
        form = "latex"
    if form != "latex":
        emit(explanation_sheet(found, path, asked, amount, chosen, where), form, output)
    elif path is None:
        raise Invalid(
            Problem("--format", "latex shows one number", suggestion="name a QUANTITY, such as flops.per_token")
        )
    else:
        write(latex(found, path, asked, amount, chosen, where), output)
