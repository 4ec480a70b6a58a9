"""Associative recall and walks on a graph whose edges are replaced, by a differentiable neural computer.

Graves et al. 2016 report answers on graphs and on bAbI for other sizes; so rows here carry no published value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from quickstudy.backbones.memory import DNCCell
from quickstudy.core.types import Params
from quickstudy.learners.base import Learner
from quickstudy.learners.memory.dnc import DNC
from quickstudy.learners.memory.ntm import NTM
from quickstudy.reproduce.base import Reproduction, Row, Work, measured
from quickstudy.reproduce.sequence_runs import (
    Mismatched,
    Trained,
    lstm_as_large_as,
    picture_losses,
    train,
    wrong_bits,
)
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.recall import AssociativeRecall, GraphRecall
from quickstudy.training.options import FitOptions

METRIC = "answers with a wrong bit, percent"


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        name: of its rows.
        trained: what is trained on.
        tested: what is tested on, all of one length.
        cell: of the computer; the LSTM has at least as many parameters.
        options: of every training run.
        parts: name of a row -> which query rows it counts, as (first, step).
    """

    name: str
    trained: TaskSource
    tested: TaskSource
    cell: DNCCell
    options: FitOptions
    parts: Mapping[str, tuple[int, int]]

    def learners(self) -> dict[str, Learner]:
        """Name -> learner."""
        return {"DNC": DNC(self.cell, bits=True), "LSTM": NTM(lstm_as_large_as(self.cell), bits=True)}


def cases(quick: bool) -> list[Case]:
    """The two tasks at full size, or the first in seconds."""
    if quick:
        options = FitOptions(500, 16, lr=6e-3, schedule="cosine", clip=1.0, mode="vmap", checkpoint_every=500)
        cell = DNCCell(6 + 1 + 6 + 1, 6, rows=8, columns=16, hidden=48, reads=1, controller="feedforward")
        tasks = AssociativeRecall((2, 4), 6)
        return [Case("recall of 4 pairs", tasks, AssociativeRecall(4, 6), cell, options, {"": (0, 1)})]
    options = FitOptions(1500, 16, lr=6e-3, schedule="cosine", clip=1.0, mode="vmap")
    longer = replace(options, steps=6000)
    smaller = GraphRecall(nodes=(2, 4), replaced=(0, 2), hops=(1, 3))
    graph = GraphRecall(nodes=4, replaced=2, hops=3)
    pairs = DNCCell(8 + 1 + 8 + 1, 8, rows=16, columns=32, hidden=64, reads=1, controller="feedforward")
    walker = DNCCell(6 + 2 + 1 + 6 + 1, 6, rows=16, columns=32, hidden=64, reads=2, controller="feedforward")
    hops = {f", hop {hop + 1} of 3": (hop, 3) for hop in range(3)}
    return [
        Case("recall of 10 pairs", AssociativeRecall(), AssociativeRecall(10), pairs, options, {"": (0, 1)}),
        Case("walks on a graph", smaller, graph, walker, longer, hops),
    ]


def run(work: Work) -> list[Row]:
    """Wrong answers of the computer, then of the controls: the computer asked about another task, and an LSTM.

    Draws the losses of each task.
    """
    rows: list[Row] = []
    for case in cases(work.quick):
        curves = {}
        for name, learner in case.learners().items():
            trained = train(work, f"{name.lower()}-{_dashed(case.name)}", learner, case.trained, case.options)
            curves[name] = trained.losses
            rows += _rows(work, case, name, learner, trained)
        picture_losses(work, curves, _dashed(case.name), "cross-entropy, nats a bit")
    return rows


def _rows(work: Work, case: Case, name: str, learner: Learner, trained: Trained) -> list[Row]:
    """One for each part of the query; for the computer one more, whose query is that of another task."""
    episodes, clock = (200 if work.quick else 1000), trained.seconds
    facts = {**trained.facts, "task": repr(case.tested)}

    def taken(about: str, tasks: TaskSource, first: int, step: int) -> Row:
        def make() -> Row:
            began = time.perf_counter()
            values = {
                seed: _percent(learner, each, tasks, episodes, first, step) for seed, each in trained.params.items()
            }
            return measured(about, METRIC, values, clock + time.perf_counter() - began, facts=facts)

        return work.row(f"row-{_dashed(about)}", [repr(case), repr(tasks), episodes, work.seeds], make)

    shown = name if name == "DNC" else f"control: {name}"
    rows = [taken(f"{shown}, {case.name}{part}", case.tested, *where) for part, where in case.parts.items()]
    if name == "DNC":
        rows.append(taken(f"control: {name}, {case.name}, another task asked", Mismatched(case.tested), 0, 1))
    return rows


def _percent(learner: Learner, params: Params, tasks: TaskSource, episodes: int, first: int, step: int) -> Tensor:
    """[task]: percent of the query rows `first`, `first` + `step` and so on that have a wrong bit."""
    return 100 * (wrong_bits(learner, params, tasks, episodes)[:, first::step] > 0).double().mean(1)


def _dashed(text: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


DNC_RECALL = Reproduction(
    "dnc_recall", "associative recall and walks on a graph by a differentiable neural computer", run, hours=0.3
)
