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
gc.set_threshold(50_000)

import typer  # noqa: E402

from archcalc.blocks.base import LARGEST_SIZE  # noqa: E402
from archcalc.catalogue import broken_promises, find, names  # noqa: E402
from archcalc.errors import ArchcalcError, Invalid, Missing, Problem, shown  # noqa: E402

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

        print(f"archcalc {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(rich_help_panel=COUNT)
def report(spec: Spec, form: Form = None, output: Output = None) -> None:
    """One screen: the shape, where the weights live, what was printed, what is assumed."""
    from archcalc.report.overview import report_sheet

    _emit(report_sheet(find(spec)), form, output)


@app.command(rich_help_panel=COUNT)
def params(
    spec: Spec,
    by: Annotated[Literal["category", "layer", "tensor"], typer.Option(help="what a row stands for")] = "category",
    form: Form = None,
    output: Output = None,
) -> None:
    """Every weight, in eight categories of matrices, and the bridge to what a checkpoint stores."""
    from archcalc.report.params import params_sheet

    _emit(params_sheet(find(spec), by), form, output)


@app.command(rich_help_panel="Run")
def trace(
    spec: Spec,
    batch: Annotated[str, typer.Option(metavar="B", help="sequences")] = "1",
    seq: Annotated[
        str | None,
        typer.Option(metavar="S", show_default=False, help="positions (1k = 1,024); the whole context if none"),
    ] = None,
    attention: Annotated[
        Literal["math", "flash"], typer.Option(help="flash keeps the scores inside its kernel")
    ] = "math",
    form: Form = None,
    output: Output = None,
) -> None:
    """The way of the data: its shape at each step, the matrices met, the running total of weights."""
    from archcalc.report.trace import trace_sheet
    from archcalc.run import Run

    found = find(spec)
    context = found.model.context_length
    sequence = context if seq is None else _number("--seq", seq, context)
    run = Run(batch=_number("--batch", batch, LARGEST_SIZE), sequence=sequence, attention=attention)
    _emit(trace_sheet(found, run), form, output)


@app.command(rich_help_panel=TRUST)
def check(specs: Specs = None, form: Form = None, output: Output = None) -> None:
    """Are these good specs, and do their counts hold to the figures that were printed? Exit code 1 if not."""
    from archcalc.audit import audit, unreadable
    from archcalc.report.verdict import verdict_sheet

    verdicts, bad = [], []
    for spec in specs or names():
        try:
            found = find(spec)
        except Invalid as unread:
            if not _is_file(spec):
                raise
            bad.append(unread)
            verdicts.append(unreadable(spec, unread.problems))
        else:
            verdicts.append(audit(found.model))
            bad.append(Invalid(*broken_promises(found)))
    for error in bad:
        _say(error)
    _emit(verdict_sheet(verdicts, ("counted", "printed")), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@app.command(rich_help_panel=TRUST)
def verify(specs: Specs = None, form: Form = None, output: Output = None) -> None:
    """Build the model in PyTorch from the same spec: is every tensor the one that was counted? Exit code 1 if not."""
    from archcalc.report.verdict import verdict_sheet
    from archcalc.witness import prove

    verdicts = [prove(find(spec).model) for spec in specs or names()]
    _emit(verdict_sheet(verdicts, ("counted", "built")), form, output)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@app.command(name="list", rich_help_panel=FILES)
def list_(form: Form = None, output: Output = None) -> None:
    """The specs of the catalogue."""
    from archcalc.report.listing import listing_sheet

    _emit(listing_sheet([find(name).model for name in names()]), form, output)


@app.command(rich_help_panel=FILES)
def schema(output: Output = None) -> None:
    """The JSON Schema of a spec, for editors and validators."""
    from archcalc.schema import schema_text

    _write(schema_text(), output)


def _number(flag: str, text: str, most: int) -> int:
    """A flag's number, from 1 to `most`; 32k is 32,768."""
    from archcalc.source import resolve
    from archcalc.units import parse_length

    number = parse_length(text) or resolve(text.strip())
    if not isinstance(number, int) or isinstance(number, bool):
        raise Invalid(Problem(flag, "must be an integer; 32k is 32,768", value=shown(text)))
    if not 1 <= number <= most:
        raise Invalid(Problem(flag, f"must be from 1 to {most:,}", value=f"{number:,}"))
    return number


def _is_file(spec: str) -> bool:
    return spec == "-" or os.path.isfile(spec)


_SUFFIXES: dict[str, Any] = {".txt": "table", ".md": "markdown", ".json": "json", ".csv": "csv"}


def _emit(sheet: Any, form: Any, output: str | None) -> None:
    """Write a sheet in the format asked for, or the one that the file's suffix means."""
    from archcalc.report.render import WIDEST, render

    if form is None:
        suffix = os.path.splitext(output or ".txt")[1] if output else ".txt"
        form = _SUFFIXES.get(suffix)
        if form is None:
            listed = ", ".join(_SUFFIXES)
            raise Invalid(
                Problem("--output", f"has no suffix of {listed}", value=shown(output), suggestion="say --format")
            )
    terminal = output is None and sys.stdout.isatty()
    width = WIDEST
    if output is None and (terminal or "COLUMNS" in os.environ):
        import shutil

        width = shutil.get_terminal_size((WIDEST, 40)).columns
    _write(render(sheet, form, width, style=terminal and not os.environ.get("NO_COLOR")), output)


def _write(text: str, output: str | None) -> None:
    """To standard output, or whole to a file: a temporary one beside it, then renamed."""
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    import tempfile

    try:
        folder = os.path.dirname(output) or "."
        if os.path.isdir(output):
            raise IsADirectoryError(21, "Is a directory")
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".archcalc-")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, output)
        except BaseException:
            os.unlink(temporary)
            raise
    except FileNotFoundError:
        raise Missing(Problem(output, "cannot be written: its folder is not there")) from None
    except OSError as error:
        raise Invalid(Problem(output, f"cannot be written: {error.strerror}")) from None
    print(f"wrote {output}", file=sys.stderr)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _say(error: ArchcalcError) -> None:
    if error.problems:
        print(error, file=sys.stderr)


def _usage(error: Any) -> Problem:
    """Typer's complaint about the arguments in our grammar."""
    context, parameter = error.ctx, getattr(error, "param", None)
    where = context.command_path if context else "archcalc"
    message = error.format_message()
    if parameter is not None and parameter.param_type_name == "option":
        where = max(parameter.opts, key=len)
        message = error.message.removeprefix("Value error, ")
    message = " ".join(message.split()).rstrip(".").replace(". Did you", "; did you")
    return Problem(where, message[:1].lower() + message[1:])


def main(arguments: Iterable[str] | None = None) -> None:
    """The entry point. Every way out ends here, with one line where something was wrong."""
    sys.exit(_main(None if arguments is None else list(arguments)))


def _main(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, prog_name="archcalc", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ArchcalcError as error:
        _say(error)
        return error.exit_code
    except typer.TyperException as error:
        print(_usage(error), file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("ARCHCALC_DEBUG") == "1":
            raise
        print(
            Problem(
                "archcalc",
                f"a bug of ours: {type(error).__name__}: {error}",
                suggestion="ARCHCALC_DEBUG=1 shows where",
            ),
            file=sys.stderr,
        )
        return 70
