"""The command line: parses, calls the library, prints. Exits with 2 for a user's mistake, 1 for ours, 130 on Ctrl-C."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from quickstudy.cli.adapt import adapt
from quickstudy.cli.allocation import keep_freed_memory
from quickstudy.cli.demo import demo
from quickstudy.cli.doctor import doctor
from quickstudy.cli.estimate import estimate
from quickstudy.cli.evaluate import evaluate
from quickstudy.cli.export import export
from quickstudy.cli.info import info
from quickstudy.cli.output import tell
from quickstudy.cli.predict import predict
from quickstudy.cli.reproduce import reproduce
from quickstudy.cli.train import train
from quickstudy.version import VERSION

COMMANDS: tuple[Callable[..., None], ...] = (
    *(adapt, predict, evaluate, info, export, train, reproduce, estimate, demo, doctor),
)

SPIN = "10000"
"""How long torch's threads wait for each other without sleeping. The default of GNU's OpenMP made adapting 30 times
slower where other programs kept the processors busy."""

_UsageErrors: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises where an argument or option is wrong; its own name for it moved between versions."""


def app() -> typer.Typer:
    """The commands."""
    made = typer.Typer(
        name="quickstudy",
        help="Adapt text classifiers and language models from a handful of examples.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(start)
    for command in COMMANDS:
        made.command()(command)
    return made


def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Adapt text classifiers and language models from a handful of examples."""
    if version:
        typer.echo(f"quickstudy {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that `arguments` (by default those of the process) say; returns the exit code."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    keep_freed_memory()
    command = typer.main.get_command(app())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            returned = command(args=arguments, prog_name="quickstudy", standalone_mode=False)
        except KeyboardInterrupt:
            returned = 130
        except Exception as error:
            return _failed(error)
    if returned == 130:
        tell("stopped; nothing half-written is left behind")
    return returned if isinstance(returned, int) else 0


def _failed(error: Exception) -> int:
    """The exit code, after one line about a user's mistake, or all there is to know about one of ours."""
    from quickstudy.core.errors import InputError, Interrupted, NotAvailable, QuickstudyError

    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 1
    if isinstance(error, Interrupted):
        tell(str(error))
        return 130
    if isinstance(error, _UsageErrors):
        message: str = getattr(error, "format_message", error.__str__)()
        tell(f"error: {_one_line(message)}; see --help")
        return 2
    if isinstance(error, InputError | NotAvailable | OSError):
        tell(f"error: {_one_line(str(error))}")
        return 2
    if isinstance(error, QuickstudyError | MemoryError):
        tell(f"error: {_one_line(str(error)) or 'out of memory'}")
        return 1
    traceback.print_exc()
    tell("error: this is a fault of quickstudy, not yours; please report it with the lines above")
    return 1


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    tell(f"note: {_one_line(str(message))}")
