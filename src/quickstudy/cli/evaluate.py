"""`quickstudy evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import counted, print_json, print_pairs, tell, tell_notes
from quickstudy.cli.settings import columns_of, refuse, refuse_other, use_threads

DRAWN = ("split", "ways", "shots", "queries", "episodes")
LABELS = (*DRAWN, "no_class_names")
LANGUAGE_MODELS = ("most", "steps", "rate", "batch", "recompute")
"""Options that are for these alone, here and in `LABELS`; those in `DRAWN` are for drawn tasks."""


def evaluate(
    context: typer.Context,
    file: options.File,
    train_split: Annotated[str | None, typer.Option("--train-split", help="Adapt to the rows of this split.")] = None,
    test_split: Annotated[str | None, typer.Option("--test-split", help="Judge on the rows of this split.")] = None,
    test_file: Annotated[Path | None, typer.Option("--test-file", help="Judge on the rows of this file.")] = None,
    split: options.SplitOption = None,
    ways: Annotated[int, typer.Option(help="Classes of each task.")] = 5,
    shots: Annotated[int, typer.Option(help="Examples of each class to adapt to.")] = 1,
    queries: Annotated[int, typer.Option(help="Examples of each class to be judged on.")] = 15,
    episodes: Annotated[int, typer.Option(help="Number of tasks.")] = 600,
    method: options.MethodOption = None,
    base: options.BaseOption = "minilm",
    no_class_names: options.NoClassNames = False,
    most: options.Most = 256,
    steps: options.Steps = None,
    rate: options.Rate = None,
    batch: options.Batch = None,
    recompute: options.Recompute = False,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a method.

    With --test-split or --test-file it adapts to one set and is judged on the other. Without, many small tasks are
    drawn from the file, and the accuracy is their mean with its 95 % interval. A language model is judged by how often
    it writes the very completion, on splits only.
    """
    use_threads(threads)
    tell("starting")
    from quickstudy.backbones.kinds import is_language_model
    from quickstudy.lifecycle.adapting import read_split
    from quickstudy.lifecycle.classifier import FewShotClassifier
    from quickstudy.lifecycle.evaluating import EpisodePlan, evaluate_episodes, evaluate_splits
    from quickstudy.lifecycle.writer import FewShotWriter
    from quickstudy.lifecycle.writing_files import evaluate_pairs, read_pairs
    from quickstudy.lifecycle.writing_methods import Steps, language_model_of

    writes = is_language_model(base)
    refuse_other(context, writes, LABELS, LANGUAGE_MODELS)
    columns = columns_of(writes, text_column, label_column, split_column)
    classifier = FewShotClassifier(method or "auto", base, not no_class_names, None, seed)
    if test_split is None and test_file is None:
        if train_split is not None:
            raise typer.BadParameter("--train-split came without --test-split or --test-file; give one of these")
        if writes:
            raise typer.BadParameter("to judge a language model, give --train-split and --test-split, or --test-file")
        table = read_split(file, columns, split)
        tell_notes(table.notes)
        plan = EpisodePlan(ways, shots, queries, episodes, seed)
        with counted("tasks", episodes) as progress:
            report = evaluate_episodes(table, classifier, plan, lambda _: progress.advance(progress.task_ids[0]))
    else:
        refuse(context, DRAWN, "for drawn tasks; to judge on a split, give --train-split and --test-split")
        if test_split is not None and test_file is None and train_split is None:
            raise typer.BadParameter("to judge on a split, give --train-split and --test-split")
        read = read_pairs if writes else read_split
        train, test = read(file, columns, train_split), read(test_file or file, columns, test_split)
        tell_notes(list(dict.fromkeys([*train.notes, *test.notes])))
        tell(f"adapting to {len(train)} examples, judging on {len(test)}")
        if writes:
            model = replace(language_model_of(base), recompute=recompute)
            report = evaluate_pairs(
                train, test, FewShotWriter(model, method or "auto", most, steps=Steps(steps, rate, batch), seed=seed)
            )
        else:
            report = evaluate_splits(train, test, classifier)
    if as_json:
        print_json(report)
        return
    print_pairs(file.name if writes else f"{file.name}, class names {'off' if no_class_names else 'on'}", report)
