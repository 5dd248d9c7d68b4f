"""The command line: arguments and exit codes, nothing else.

Exit codes: 0 answered; 1 `check` or `verify` found something, or what must fit does not; 2 the question cannot be
understood; 3 something is missing, memory too; 130 interrupted; 70 an internal error.
"""

import errno
import gc
import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Annotated, Any

# Start-up: pydantic would look through every installed package for plugins, and the garbage collector through
# thousands of new objects that all stay.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
gc.set_threshold(1_000_000)

import typer  # noqa: E402

from archcalc.commands import shells  # noqa: E402
from archcalc.commands.base import app, remarks  # noqa: E402
from archcalc.docstrings import restore  # noqa: E402
from archcalc.errors import LONGEST_PLACE, ArchcalcError, Problem, cut, did_you_mean  # noqa: E402
from archcalc.report.output import ReaderGone, one_way_out, tell, write  # noqa: E402
from archcalc.spec.source import STDIN  # noqa: E402
from archcalc.spec.unsupported import feature  # noqa: E402

# Where each command is. Only the module of the one that is asked for is loaded; for help all are.
_HOMES = {
    "parameters": ("report", "params"),
    "flops": ("flops",),
    "memory": ("memory",),
    "traffic": ("traffic",),
    "plans": ("plan",),
    "explain": ("explain",),
    "sweep": ("sweep",),
    "diff": ("diff",),
    "check": ("check",),
    "verify": ("verify",),
    "generation": ("generate",),
    "prediction": ("predict",),
    "chat": ("chat",),
    "trace": ("trace",),
    "training": ("train",),
    "softmax": ("softmax",),
    "embed": ("embed",),
    "tokens": ("tokens",),
    "listing": ("list",),
    "schema": ("schema",),
    "huggingface": ("import", "export"),
}


def _load(arguments: list[str]) -> None:
    """Register the commands that these arguments may mean."""
    asked = [home for home, commands in _HOMES.items() if arguments[:1] and arguments[0] in commands]
    for home in asked or _HOMES:
        import_module(f"archcalc.commands.{home}")
        restore(f"archcalc.commands.{home}")
    restore(__name__)


@cache
def _command(_: int) -> Any:
    """The command line as it is with so many commands registered; making it takes as long as a short command."""
    return typer.main.get_command(app)


@app.callback(invoke_without_command=True)
def _archcalc(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """\b
    Count a transformer's parameters, FLOPs and memory, and prove the counts.
    SPEC is a name of `archcalc list`, a YAML file or a Hugging Face config.json.
    """  # noqa: D301  (a backspace, which keeps lines apart)
    if version:
        from archcalc import __version__

        write(f"archcalc {__version__}\n", None)
        raise typer.Exit
    if context.invoked_subcommand is None:
        write(context.get_help() + "\n", None)


def _usage(error: Any) -> Problem:
    """Typer's complaint about the arguments in our grammar."""
    context, parameter = error.ctx, getattr(error, "param", None)
    where = context.command_path if context else "archcalc"
    message = error.format_message()
    if parameter is not None and parameter.param_type_name == "option":
        where = max(parameter.opts, key=len)
        message = error.message.removeprefix("Value error, ") or "is missing"
    elif parameter is not None and error.message:
        message = error.message.removeprefix("Value error, ")
    message = " ".join(message.split()).rstrip(".").replace(". Did you", "; did you")
    message = cut(message[:1].lower() + message[1:], 2 * LONGEST_PLACE)  # a flag has 25 choices
    if found := re.match("no such option: (--[^ ;]+)", message):  # typer's guesses are of any two words alike
        options = [name for one in getattr(context and context.command, "params", ()) for name in one.opts]
        from archcalc.commands.planning import TAKING, is_flag

        if is_flag(found[1]):
            return Problem(where, found[0], suggestion=f"{', '.join(TAKING)} take a parallel plan")
        message = f"{found[0]}: {unsupported}" if (unsupported := feature(found[1])) else found[0]
        return Problem(where, message, suggestion=None if unsupported else did_you_mean(found[1], options))
    if message.startswith("missing argument") and "standard input" in (getattr(parameter, "help", None) or ""):
        return Problem(where, message, suggestion="- reads standard input")
    return Problem(where, message)


def main(arguments: Iterable[str] | None = None) -> None:
    """The entry point. Every way out ends here, with one line where something was wrong."""
    _hold_standard_places()
    code = _main(None if arguments is None else list(arguments))
    gc.freeze()  # Python would look through all that was loaded once more before it ends, a fifth of a short command
    sys.exit(code)


# What begins with a dash and is a value all the same, to commands that take such: a negative number, a sum whose first
# word is taken away.
_SIGNED = ("softmax", "embed")
_VALUE = re.compile(r"-\.?[0-9].*|-(?:inf|infinity|nan)|- .*", re.IGNORECASE | re.DOTALL)


def _no_options(arguments: list[str]) -> list[str]:
    """`-@field=value` asks about standard input, and -1 is a number to softmax: neither is an option.

    A space before a number hides its dash from typer; whoever reads numbers or sums does not see it.
    """
    if arguments[:1] == ["tokens"]:
        return arguments  # a text that begins so is a text
    if arguments[:1] and arguments[0] in _SIGNED:
        return [f" {text}" if _VALUE.fullmatch(text) else text for text in arguments]
    return [STDIN + text[1:] if text.startswith("-@") else text for text in arguments]


def _hold_standard_places() -> None:
    """Give nowhere to standard input, output and error that are closed: else a file that is opened takes their place.

    Python has none of them then, and what a library prints would go into that file.
    """
    for place in range(3):
        try:
            os.fstat(place)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the first place that is free: this one


def _main(arguments: list[str] | None) -> int:
    arguments = _no_options(sys.argv[1:] if arguments is None else arguments)
    remarks.clear()
    with one_way_out():
        try:
            if shells.asked():
                return _complete()
            _load(arguments)
            command = _command(len(app.registered_commands))
            code = command(arguments, prog_name="archcalc", standalone_mode=False, complete_var="")
            if code == 1 and arguments[:1] and arguments[0] in _COMPLETION:
                return 3  # typer found no shell that it knows
            for line in remarks:
                tell(line)
            return code if isinstance(code, int) else 0
        except ArchcalcError as error:
            tell(str(error))
            return error.exit_code
        except typer.TyperException as error:
            tell(str(_usage(error)))
            return 2
        except SystemExit as left:  # how typer ends once it has written a shell's script
            return left.code if isinstance(left.code, int) else 0
        except ReaderGone:
            return 0
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if os.environ.get("ARCHCALC_DEBUG") == "1":
                raise
            return _unforeseen(error)


_COMPLETION = ("--install-completion", "--show-completion")


def _complete() -> int:
    """Answer a shell that asks how a command line may go on."""

    def complete() -> None:
        _load(shells.typed())
        command = _command(len(app.registered_commands))
        command([], prog_name="archcalc", standalone_mode=False, complete_var=shells.VARIABLE)

    code, said = shells.answer(complete)
    write(said, None)
    return code


def _unforeseen(error: Exception) -> int:
    """Say in one line what nobody raised on purpose, and give its exit code."""
    if _is_memory(error):
        fix = "ask about a smaller shape, or use a machine with more memory"
        tell(str(Problem("archcalc", "is out of memory", suggestion=fix)))
        return 3
    if isinstance(error, RecursionError):
        tell(str(Problem("archcalc", "the input is nested too deeply")))
        return 2
    if isinstance(error, OSError) and error.filename is not None:  # the catalogue of a broken installation
        tell(str(Problem(str(error.filename), f"cannot be read: {error.strerror}")))
        return 3
    what = f"internal error: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    tell(str(Problem("archcalc", what, suggestion="please report it; ARCHCALC_DEBUG=1 shows the traceback")))
    return 70


def _is_memory(error: Exception) -> bool:
    """Whether memory ran out, as Python, the system or PyTorch says it."""
    said = isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))
    return isinstance(error, MemoryError) or bool(said) or getattr(error, "errno", None) == errno.ENOMEM


_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|t allocate memory")
