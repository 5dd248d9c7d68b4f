"""The command line: arguments and exit codes, nothing else.

Exit codes: 0 answered; 1 `check` or `verify` found something; 2 the question cannot be understood; 3 something is
missing; 130 interrupted; 70 a bug of ours.
"""

import gc
import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

# Start-up: pydantic would look through every installed package for plugins, and the garbage collector through
# thousands of new objects that all stay.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
gc.set_threshold(1_000_000)

import typer  # noqa: E402

from archcalc.blocks.base import LARGEST_SIZE  # noqa: E402
from archcalc.catalogue import broken_promises, find, is_readable, names  # noqa: E402
from archcalc.errors import LONGEST_PLACE, LONGEST_VALUE, ArchcalcError, Invalid, Problem, cut, shown  # noqa: E402
from archcalc.output import emit, silence, tell, write  # noqa: E402
from archcalc.source import STDIN  # noqa: E402

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COUNT, TRUST, FILES = "Count", "Trust", "Files"

Spec = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        show_default=False,
        help="a catalogue name, a path, or - for standard input; @field=value,... asks about a changed spec",
    ),
]
Specs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SPEC]...", show_default=False, help="as for the other commands; all the catalogue if none"
    ),
]
Batch = Annotated[str, typer.Option(metavar="B", help="sequences")]
Seq = Annotated[
    str | None,
    typer.Option(metavar="S", show_default=False, help="positions of each (1k = 1,024); the whole context if none"),
]
Attention = Annotated[Literal["math", "flash"], typer.Option(help="flash keeps the scores inside its kernel")]
Form = Annotated[
    Literal["table", "markdown", "json", "csv"] | None,
    typer.Option("--format", "-f", show_default=False, help="of the output; a table, or what FILE's suffix says"),
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", show_default=False, help="write there (.txt, .md, .json or .csv)"),
]


@app.callback(invoke_without_command=True)
def _archcalc(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Count what a transformer is made of, from one description, and prove it by running the model."""
    if version:
        from archcalc import __version__

        write(f"archcalc {__version__}\n", None)
        raise typer.Exit
    if context.invoked_subcommand is None:
        write(context.get_help() + "\n", None)


@app.command(rich_help_panel=COUNT)
def report(spec: Spec, form: Form = None, output: Output = None) -> None:
    """One screen: the shape, where the weights live, the work of training on one context, what is assumed."""
    from archcalc.report.overview import report_sheet

    emit(report_sheet(find(spec)), form, output)


@app.command(rich_help_panel=COUNT)
def params(
    spec: Spec,
    by: Annotated[Literal["category", "layer", "tensor"], typer.Option(help="what a row stands for")] = "category",
    form: Form = None,
    output: Output = None,
) -> None:
    """Every weight, in eight categories of matrices, and the bridge to what a checkpoint stores."""
    from archcalc.report.params import params_sheet

    emit(params_sheet(find(spec), by), form, output)


@app.command(rich_help_panel=COUNT)
def flops(
    spec: Spec,
    phase: Annotated[Literal["training", "prefill", "decode"], typer.Option(help="what the pass is for")] = "training",
    batch: Batch = "1",
    seq: Seq = None,
    context: Annotated[
        str | None, typer.Option(metavar="T", show_default=False, help="positions that decode reads, its own included")
    ] = None,
    logits: Annotated[
        Literal["all", "last"] | None, typer.Option(show_default=False, help="of which positions; all, in training")
    ] = None,
    causal: Annotated[Literal["full", "half", "exact"], typer.Option(help="which pairs of positions count")] = "full",
    attention: Attention = "math",
    tokens: Annotated[
        str | None, typer.Option(metavar="N", show_default=False, help="to train on (300B = 300,000,000,000)")
    ] = None,
    form: Form = None,
    output: Output = None,
) -> None:
    """What is multiplied: FLOPs by category, forward and backward, and for a training run beside 6 N D."""
    from archcalc.report.work import flops_sheet
    from archcalc.run import Run

    found = find(spec)
    most = found.model.context_length
    if phase == "decode" and seq is not None:
        raise Invalid(Problem("--seq", "decode adds one position to each sequence", suggestion="say --context"))
    if phase != "decode" and context is not None:
        raise Invalid(
            Problem("--context", f"is what decode reads; {phase} reads what it is given", suggestion="say --seq")
        )
    if phase == "training" and logits == "last":
        raise Invalid(Problem("--logits", "training scores the logits of all positions", value=shown(logits)))
    if phase != "training" and tokens is not None:
        raise Invalid(Problem("--tokens", "are trained on", suggestion="say --phase training"))
    read = most if context is None else _number("--context", context, most)
    run = Run(
        phase,
        _number("--batch", batch, LARGEST_SIZE),
        1 if phase == "decode" else most if seq is None else _number("--seq", seq, most),
        read if phase == "decode" else None,
        attention=attention,
        causal=causal,
        logits=logits or "all",
    )
    amount = None if tokens is None else _number("--tokens", tokens, 10**18, count=True)
    emit(flops_sheet(found, run, amount), form, output)


@app.command(rich_help_panel="Run")
def trace(
    spec: Spec,
    batch: Batch = "1",
    seq: Seq = None,
    attention: Attention = "math",
    form: Form = None,
    output: Output = None,
) -> None:
    """The way of the data: its shape at each step, the matrices met, the running total of weights."""
    from archcalc.report.trace import trace_sheet
    from archcalc.run import Run

    found = find(spec)
    most = found.model.context_length
    sequence = most if seq is None else _number("--seq", seq, most)
    run = Run("prefill", _number("--batch", batch, LARGEST_SIZE), sequence, attention=attention)
    emit(trace_sheet(found, run), form, output)


@app.command(rich_help_panel=TRUST)
def check(specs: Specs = None, form: Form = None, output: Output = None) -> None:
    """Are these good specs, and do their counts hold to the figures that were printed? Exit code 1 if not."""
    from archcalc.audit import audit, unreadable
    from archcalc.report.verdict import verdict_sheet

    verdicts, worst = [], 0
    for spec in specs or names():
        try:
            found = find(spec)
        except ArchcalcError as error:
            problems, code = error.problems, 1 if is_readable(spec) else error.exit_code
            verdicts.append(unreadable(spec, problems))
        else:
            verdict = audit(found.model)
            problems, code = tuple(broken_promises(found)), 0 if verdict.passed else 1
            verdicts.append(verdict._replace(spec=found.name))
        worst = max(worst, code)
        if problems:
            tell(str(Invalid(*problems)))
    emit(verdict_sheet(verdicts, "printed"), form, output)
    if worst:
        raise typer.Exit(worst)


@app.command(rich_help_panel=TRUST)
def verify(
    specs: Specs = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="names and shapes alone, no pass: faster")] = False,
    form: Form = None,
    output: Output = None,
) -> None:
    """Build the model in PyTorch: does it have the tensors, FLOPs and saved bytes counted? Exit code 1 if not."""
    from archcalc.report.verdict import verdict_sheet
    from archcalc.witness import prove

    every = [find(spec) for spec in specs or names()]  # what is no spec is told before any is proven
    verdicts = []
    for found in every:
        if len(every) > 1 and sys.stderr is not None and sys.stderr.isatty():
            tell(f"proving {found.name}")
        verdicts.append(prove(found.model, passes=not tensors)._replace(spec=found.name))
    emit(verdict_sheet(verdicts, "measured"), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@app.command(name="list", rich_help_panel=FILES)
def list_(form: Form = None, output: Output = None) -> None:
    """The specs of the catalogue."""
    from archcalc.report.listing import listing_sheet

    emit(listing_sheet([find(name).model for name in names()]), form, output)


@app.command(rich_help_panel=FILES)
def schema(
    of: Annotated[Literal["model", "device"], typer.Option("--of", help="what the YAML describes")] = "model",
    output: Output = None,
) -> None:
    """The JSON Schema of a spec, for editors and validators."""
    from archcalc.schema import schema_text

    write(schema_text(of), output)


def _number(flag: str, text: str, most: int, *, count: bool = False) -> int:
    """A flag's number, from 1 to `most`: a length (32k is 32,768) or a count (300B is 3e11)."""
    from archcalc.source import resolve
    from archcalc.units import parse_count, parse_length

    stripped = text.strip()
    suffixed = parse_count(stripped) if count else parse_length(stripped)
    number = resolve(stripped) if suffixed is None else suffixed
    if not isinstance(number, int) or isinstance(number, bool):
        example = "300B is 300,000,000,000" if count else "32k is 32,768"
        raise Invalid(Problem(flag, f"must be an integer; {example}", value=shown(text)))
    if not 1 <= number <= most:
        raise Invalid(Problem(flag, f"must be from 1 to {most:,}", value=cut(f"{number:,}", LONGEST_VALUE)))
    return number


def _usage(error: Any) -> Problem:
    """Typer's complaint about the arguments in our grammar."""
    context, parameter = error.ctx, getattr(error, "param", None)
    where = context.command_path if context else "archcalc"
    message = error.format_message()
    if parameter is not None and parameter.param_type_name == "option":
        where = max(parameter.opts, key=len)
        message = error.message.removeprefix("Value error, ")
    message = " ".join(message.split()).rstrip(".").replace(". Did you", "; did you")
    return Problem(where, cut(message[:1].lower() + message[1:], LONGEST_PLACE))


def main(arguments: Iterable[str] | None = None) -> None:
    """The entry point. Every way out ends here, with one line where something was wrong."""
    sys.exit(_main(None if arguments is None else list(arguments)))


def _with_stdin(arguments: list[str]) -> list[str]:
    """`-@field=value` asks about standard input; it is no option."""
    return [STDIN + text[1:] if text.startswith("-@") else text for text in arguments]


def _main(arguments: list[str] | None) -> int:
    try:
        code = app(
            _with_stdin(sys.argv[1:] if arguments is None else arguments), prog_name="archcalc", standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except ArchcalcError as error:
        tell(str(error))
        return error.exit_code
    except typer.TyperException as error:
        tell(str(_usage(error)))
        return 2
    except BrokenPipeError:
        silence()
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is not None:  # a file of ours, such as the catalogue of a broken installation
            tell(str(Problem(str(error.filename), f"cannot be read: {error.strerror}")))
            return 3
        silence()  # help, which typer prints by itself
        tell(str(Problem("standard output", f"cannot be written: {error.strerror}")))
        return 2
    except Exception as error:
        if os.environ.get("ARCHCALC_DEBUG") == "1":
            raise
        what = f"a bug of ours: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        tell(str(Problem("archcalc", what, suggestion="ARCHCALC_DEBUG=1 shows where")))
        return 70
