"""What the commands print: results on the standard output, everything else on the standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from quickstudy.core.types import Json


def tell(message: str) -> None:
    """Says what goes on, on the standard error, at once."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def tell_notes(notes: Sequence[str]) -> None:
    """Says each note."""
    for note in notes:
        tell(f"note: {note}")


def print_json(values: Json) -> None:
    """One line, the last one."""
    typer.echo(json.dumps(values, allow_nan=False, ensure_ascii=False))


def print_pairs(title: str, values: Mapping[str, Json]) -> None:
    """Two columns: names and values; without those that are None."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        if value is not None:
            table.add_row(name.replace("_", " "), shown(value))
    _console().print(table)


def print_rows(header: Sequence[str], rows: Sequence[Sequence[Json]]) -> None:
    """A table with a header."""
    table = Table(*header)
    for row in rows:
        table.add_row(*map(shown, row))
    _console().print(table)


def shown(value: Json) -> str:
    """A value for people: four digits, lists with commas, words for truth."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items())
    return str(value)


@contextmanager
def counted(what: str, total: int) -> Iterator[Progress]:
    """A bar on the standard error, if that is a terminal, that counts to `total`; advance its task 0."""
    console = Console(stderr=True)
    columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        progress.add_task(what, total=total)
        yield progress


def _console() -> Console:
    """Rich marks are off, so that texts of the user are shown as they are."""
    return Console(markup=False, highlight=False)
