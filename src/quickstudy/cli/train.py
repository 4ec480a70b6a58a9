"""`quickstudy train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs, tell, tell_notes
from quickstudy.cli.settings import columns_of, refuse_other, use_threads

LABELS = ("layers", "outputs", "split", "validation_split", "ways", "hard", "domain_column", "no_class_names")
LANGUAGE_MODELS = ("inner_steps", "inner_rate", "recompute")
"""Options that are for these alone, here and in `LABELS`."""


def train(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            help="File of examples, or folder of task files; for language models a folder.", show_default=False
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the initialisation.", show_default=False)],
    learner: Annotated[
        str | None, typer.Option(help="Learner to meta-train.", show_default="protonet; maml for a language model")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder that its folder is made in.")] = Path("initialisations"),
    base: options.BaseOption = "minilm",
    rank: Annotated[int, typer.Option(help="Rank of the LoRA matrices.")] = 8,
    layers: Annotated[int, typer.Option(help="Number of layers they are in, from the last one down.")] = 2,
    outputs: Annotated[int, typer.Option(help="Most classes of a later task, for learners that adapt a head.")] = 0,
    split: options.SplitOption = None,
    validation_split: Annotated[str | None, typer.Option(help="Validate on tasks of this split.")] = None,
    inner_steps: Annotated[int, typer.Option(help="Gradient steps of a language model on a task.")] = 5,
    inner_rate: Annotated[float, typer.Option(help="Learning rate of these steps.")] = 1e-2,
    ways: Annotated[int, typer.Option(help="Classes of each task.")] = 5,
    shots: Annotated[int, typer.Option(help="Examples of each class to adapt to.")] = 5,
    queries: Annotated[int, typer.Option(help="Examples of each class to be judged on.")] = 5,
    hard: Annotated[float, typer.Option(min=0, max=1, help="Part of tasks that have close classes.")] = 0.0,
    domain_column: Annotated[
        str | None, typer.Option(help="Column of domains; the classes of a task are then of one domain.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of updates.")] = 500,
    tasks_per_step: Annotated[int, typer.Option(help="Tasks of each update.")] = 4,
    lr: Annotated[float, typer.Option(help="Learning rate of AdamW.")] = 1e-3,
    recompute: options.Recompute = False,
    no_class_names: options.NoClassNames = False,
    text_column: options.TextColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    track: Annotated[
        list[str] | None, typer.Option(help="Tell the figures to tensorboard, wandb or mlflow too; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Meta-train a learner on many small tasks; give the folder it makes as --method to adapt and evaluate.

    A language model learns from a folder of files of prompts and completions, each file a task.

    Ctrl-C stops after the current step and keeps a checkpoint.
    """
    use_threads(threads)
    tell("starting")
    from quickstudy.backbones.kinds import is_language_model
    from quickstudy.backbones.text_encoder import TextEncoder
    from quickstudy.lifecycle.meta_training import Going, TaskPlan, Trained, train_file, training_place
    from quickstudy.lifecycle.writing_methods import language_model_of
    from quickstudy.lifecycle.writing_training import WritingPlan, train_pairs
    from quickstudy.training.options import FitOptions

    writes = is_language_model(base)
    refuse_other(context, writes, LABELS, LANGUAGE_MODELS)
    place, going = training_place(name, out, force, resume), Going(resume, tuple(track or ()))
    columns = columns_of(writes, text_column, label_column, split_column)
    fit_options = FitOptions(steps, tasks_per_step, lr=lr, schedule="cosine", clip=1.0, seed=seed)
    learner = learner or ("maml" if writes else "protonet")
    tell(f"training {learner}: {steps} steps of {tasks_per_step} tasks")
    if writes:
        pairs = (columns.text, columns.label)
        written = WritingPlan(learner, rank, inner_steps, inner_rate, shots, queries, pairs)
        fit_options = replace(fit_options, mode="loop")
        model = replace(language_model_of(base), recompute=recompute)
        report = train_pairs(source, place, written, fit_options, model, going)
    else:
        names = not no_class_names
        plan = TaskPlan(columns, split, validation_split, ways, shots, queries, names, hard, domain_column)
        trained = Trained(learner, rank, layers, outputs)
        report = train_file(source, place, trained, plan, fit_options, TextEncoder(base), going)
    tell_notes(report["notes"])
    if as_json:
        print_json(report)
        return
    print_pairs(f"initialisation {name}", {key: value for key, value in report.items() if key not in ("notes", "name")})
