"""`quickstudy adapt`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs, tell, tell_notes
from quickstudy.cli.settings import columns_of, refuse_other, unknown_of, use_threads

LABELS = ("unknown", "no_class_names")
LANGUAGE_MODELS = ("most", "no_check", "steps", "rate", "batch", "recompute")
"""Options that are for these alone, here and in `LABELS`."""


def adapt(
    context: typer.Context,
    file: options.File,
    name: Annotated[str, typer.Option("--name", help="Name of the adapter.", show_default=False)],
    method: options.MethodOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder that the adapter's folder is made in.")] = Path("adapters"),
    base: options.BaseOption = "minilm",
    no_class_names: options.NoClassNames = False,
    unknown: Annotated[
        str | None,
        typer.Option(help="Answer unknown below this probability; auto to fit it on held-out examples."),
    ] = None,
    most: options.Most = 256,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not measure a language model's adapter.")] = False,
    steps: options.Steps = None,
    rate: options.Rate = None,
    batch: options.Batch = None,
    recompute: options.Recompute = False,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
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
    """Make an adapter from a file of examples and say how good it is.

    Examples are texts and labels; or, with a language model as the base, prompts and what is to be written after them.
    """
    use_threads(threads)
    below = unknown_of(unknown)
    tell("starting")
    from quickstudy.backbones.kinds import is_language_model
    from quickstudy.lifecycle.adapting import adapt_file, adapter_place, read_split
    from quickstudy.lifecycle.classifier import FewShotClassifier
    from quickstudy.lifecycle.writer import FewShotWriter
    from quickstudy.lifecycle.writing_files import adapt_pairs, read_pairs
    from quickstudy.lifecycle.writing_methods import Steps, language_model_of

    place = adapter_place(name, out, force)
    writes = is_language_model(base)
    refuse_other(context, writes, LABELS, LANGUAGE_MODELS)
    columns = columns_of(writes, text_column, label_column, split_column)
    if writes:
        table = read_pairs(file, columns, split)
        tell(f"adapting to {len(table)} examples")
        made = Steps(steps, rate, batch)
        model = replace(language_model_of(base), recompute=recompute)
        writer = FewShotWriter(model, method or "auto", most, not no_check, made, seed, not no_examples)
        report = adapt_pairs(table, place, writer)
    else:
        table = read_split(file, columns, split)
        tell(f"adapting to {len(table)} examples of {len(table.classes)} classes")
        classifier = FewShotClassifier(
            method or "auto", base, not no_class_names, below, seed, keep_examples=not no_examples
        )
        report = adapt_file(table, place, classifier)
    tell_notes(report["notes"])
    if as_json:
        print_json(report)
        return
    hidden = ("notes", "name", "labels")
    print_pairs(f"adapter {name}", {key: value for key, value in report.items() if key not in hidden})
