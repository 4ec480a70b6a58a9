"""SQL dialects never seen, from ten examples each: meta-learned LoRA on the base that ships, with controls.

Nothing is published for these tasks: the dialects are invented or left out of all training, and sqlglot's tree is the
judge. The other starts take as many examples forward and backward as the first one's meta-training took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from quickstudy.deltas.head import Head
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.network import Network
from quickstudy.reproduce import sql_curves
from quickstudy.reproduce.base import Reproduction, Row, Work, measured
from quickstudy.reproduce.sql_arms import (
    METRIC,
    QUICK,
    Arm,
    Sizes,
    asked_tasks,
    equal_trees,
    judged,
    language_model,
    percents,
    plain,
    random_arms,
    trained_arms,
)
from quickstudy.tasks.sql.scores import copy_input, nearest_known
from quickstudy.tasks.sql.tasks import SQLTask
from quickstudy.tasks.text_tasks import Pair

MODELLESS = {"copy the input": copy_input, "nearest known dialect": nearest_known}


def run(work: Work) -> list[Row]:
    """Rows of the arms, those of the controls, then those of the curves; draws the accuracies and the curves."""
    base = language_model(work.device)
    sizes = QUICK if work.quick else Sizes()
    drawn = asked_tasks(sizes, sizes.tests, sizes.shots)
    random = random_arms(work, base, sizes)
    trained = trained_arms(work, base, sizes)
    still = Network(base, Head(), device=base.device)
    others = [
        Arm("context", "the examples before each query", Demonstrations(still), {0: {}}),
        Arm("unadapted", "control: the base as it is", plain(base, 0, 1e-2), random[-1].params),
    ]
    rows = [judged(work, arm, base, drawn, sizes) for arm in (*trained, *random, *others)]
    shuffled = [_shuffled(task, number) for number, task in enumerate(drawn)]
    for arm in trained:
        control = replace(arm, label=f"{arm.label}-shuffled", name=f"control: {arm.name}, completions dealt out anew")
        rows.append(judged(work, control, base, shuffled, sizes))
    rows += [_written(work, name, write, drawn, sizes) for name, write in MODELLESS.items()]
    work.picture(partial(_draw, list(rows)), size=(7.0, 4.5))
    return [*rows, *sql_curves.rows(work, base, (trained[0], *random), sizes)]


def _written(
    work: Work, name: str, write: Callable[[SQLTask], Sequence[str]], drawn: Sequence[SQLTask], sizes: Sizes
) -> Row:
    """The row of a control without a model."""

    def make() -> Row:
        began = time.perf_counter()
        more: dict[str, list[float]] = {"exact": [], "parses": []}
        values = torch.tensor([equal_trees(more, task, write(task)) for task in drawn])
        seconds = time.perf_counter() - began
        return measured(f"control: {name}", METRIC, {0: values}, seconds, facts=percents(more))

    return work.row(f"row-{name}", [name, repr(sizes)], make)


def _shuffled(task: SQLTask, number: int) -> SQLTask:
    """The task with the completions of its support dealt out anew."""
    order = torch.randperm(len(task.support), generator=torch.Generator().manual_seed(number)).tolist()
    pairs = zip(task.support, order, strict=True)
    return replace(task, support=tuple(Pair(pair.prompt, task.support[other].completion) for pair, other in pairs))


def _draw(rows: Sequence[Row], figure: Any) -> None:
    """A bar for each row, the best on top."""
    axes = figure.subplots()
    order = sorted(rows, key=lambda row: row.mean)
    axes.barh([row.name for row in order], [row.mean for row in order], xerr=[row.ci95 or 0.0 for row in order])
    axes.set(xlabel=METRIC, xlim=(0, 100))


SQL_DIALECTS = Reproduction(
    "sql_dialects",
    "SQL dialects never seen, from ten examples: meta-learned LoRA and HyperLoRA, with controls",
    run,
    hours=7.0,
)
