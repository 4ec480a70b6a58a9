"""`quickstudy adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs, tell, tell_notes
from quickstudy.cli.settings import unknown_of, use_threads


def adapt(
    file: options.File,
    name: Annotated[str, typer.Option("--name", help="Name of the adapter.", show_default=False)],
    method: options.MethodOption = "auto",
    out: Annotated[Path, typer.Option("--out", help="Folder that the adapter's folder is made in.")] = Path("adapters"),
    base: options.BaseOption = "minilm",
    no_class_names: options.NoClassNames = False,
    unknown: Annotated[
        str | None,
        typer.Option(help="Answer unknown below this probability; auto to fit it on held-out examples."),
    ] = None,
    text_column: options.TextColumn = "text",
    label_column: options.LabelColumn = "label",
    split_column: options.SplitColumn = None,
    split: options.SplitOption = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Do not keep the examples in the adapter.")
    ] = False,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Make an adapter from a file of examples and say how good it is."""
    use_threads(threads)
    below = unknown_of(unknown)
    tell("starting")
    from quickstudy.lifecycle.adapting import TableColumns, adapt_file, adapter_place, read_split
    from quickstudy.lifecycle.classifier import FewShotClassifier

    place = adapter_place(name, out, force)
    table = read_split(file, TableColumns(text_column, label_column, split_column), split)
    classifier = FewShotClassifier(method, base, not no_class_names, below, seed, keep_examples=not no_examples)
    tell(f"adapting to {len(table)} examples of {len(table.classes)} classes")
    report = adapt_file(table, place, classifier)
    tell_notes(report["notes"])
    if as_json:
        print_json(report)
        return
    hidden = ("notes", "name", "labels")
    print_pairs(f"adapter {name}", {key: value for key, value in report.items() if key not in hidden})
