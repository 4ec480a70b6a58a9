"""`quickstudy reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_rows, tell
from quickstudy.cli.settings import use_threads


def reproduce(
    name: Annotated[str | None, typer.Argument(help="Which one; else all are listed.", show_default=False)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small version that takes seconds.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of training runs.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option("--out", help="Folder of the result and its plots.")] = Path("docs/results"),
    again: Annotated[bool, typer.Option("--again", help="Forget what a stopped or finished run has kept.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a published result again and show it beside the published figure.

    A run that was stopped goes on where it was. Checkpoints are kept in runs/reproduce.
    """
    use_threads(threads)
    tell("starting")
    from quickstudy.reproduce import RunOptions, reproduction, reproductions, run_reproduction

    if name is None:
        listed = [[found.name, found.about, f"{found.hours:g}", found.needs] for found in reproductions()]
        header = ["name", "what", "hours", "needs"]
        if as_json:
            print_json([dict(zip(header, row, strict=True)) for row in listed])
        else:
            print_rows(header, listed)
        return
    found = reproduction(name)
    chosen = RunOptions(quick, seeds, device, out, again=again)
    result = run_reproduction(found, chosen, tell)
    if as_json:
        print_json(result)
        return
    columns = ["name", "metric", "published", "mean", "ci95", "tasks"]
    print_rows(columns, [["" if row[key] is None else row[key] for key in columns] for row in result["rows"]])
    tell(f"written to {out / found.name}.json")
