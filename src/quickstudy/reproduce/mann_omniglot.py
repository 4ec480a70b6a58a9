"""Omniglot drawings whose class is told one drawing late, by a memory-augmented network (Santoro et al. 2016)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.memory import Cell, LRUCell
from quickstudy.core.types import Batch, Episode, Params
from quickstudy.deltas.full import Full
from quickstudy.evaluation.intervals import interval
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.memory.mann import MANN
from quickstudy.learners.network import Network
from quickstudy.learners.sequences import tell_rows
from quickstudy.reproduce.base import Reproduction, Row, Work, measured
from quickstudy.reproduce.sequence_runs import lstm_as_large_as, over_test_tasks, train
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.training.options import FitOptions

METRIC = "accuracy, percent"
SOURCE = "Santoro et al. 2016, arXiv 1605.06065"
PUBLISHED = {
    "MANN": {1: 36.4, 2: 82.8, 3: 91.0, 4: 92.6, 5: 94.9, 10: 98.1},
    "LSTM": {1: 24.4, 2: 49.5, 3: 55.3, 4: 61.0, 5: 63.6, 10: 62.5},
}
SEEN = {("MANN", 2), ("MANN", 5)}
"""Values that were seen in a source; the others are unverified."""


@dataclass(frozen=True)
class Plan:
    """How large the run is.

    Attributes:
        ways: classes of a sequence.
        shots: drawings of each class in a sequence.
        network: what makes features of a drawing.
        cell: of the memory; the LSTM has at least as many parameters.
        options: of every training run.
        episodes: sequences that are tested on.
    """

    ways: int
    shots: int
    network: Network
    cell: LRUCell
    options: FitOptions
    episodes: int

    def tasks(self, test: bool) -> Omniglot:
        """Sequences of the 1,200 characters for training or of the 423 for testing, all in four turns."""
        return Omniglot("test" if test else "train+validation", self.ways, self.shots, queries=1)

    def cells(self) -> dict[str, Cell]:
        """Name -> cell."""
        return {"MANN": self.cell, "LSTM": lstm_as_large_as(self.cell)}


def plan(quick: bool) -> Plan:
    """The full size, or one of seconds: 3 classes, 4 drawings of each."""
    if quick:
        small = Network(Conv4(widths=(16, 16, 16), shrink="stride", norm="group"), Full())
        cell = LRUCell(small.backbone.width + 3, 3, rows=16, columns=80, hidden=64, heads=1, controller="feedforward")
        options = FitOptions(200, 16, lr=3e-3, clip=1.0, mode="vmap", checkpoint_every=200)
        return Plan(3, 4, small, cell, options, 100)
    network = Network(Conv4(widths=(32, 32, 32, 32), shrink="stride", norm="group"), Full())
    width = network.backbone.width
    cell = LRUCell(width + 5, 5, rows=60, columns=80, hidden=128, heads=1, controller="feedforward")
    options = FitOptions(6000, 16, lr=2e-3, schedule="cosine", clip=1.0, mode="vmap")
    return Plan(5, 10, network, cell, options, 1000)


def by_instance(learner: MANN, params: Params, tasks: TaskSource, episodes: int) -> Tensor:
    """[task, instance]: share of the first, second and further rows of each class that are named rightly.

    Every row is answered before its own target is told. Tasks are those of `SEED_OF_TEST_TASKS`, with the same number
    of rows of each class.
    """

    def right(params: Params, episode: Episode) -> Tensor:
        support = episode.support
        answers, _ = tell_rows(learner.cell, learner.network, params, support)
        named = (answers[:, : support.ways].argmax(-1) == support.targets).to(answers)
        return named @ one_hot(instances(support) - 1, len(named) // support.ways).to(answers) / support.ways

    return over_test_tasks(right, params, tasks, episodes)


def instances(batch: Batch) -> Tensor:
    """[example]: 1 where a row is the first of its class, 2 where it is the second, and so on."""
    classes = one_hot(batch.targets, batch.ways)
    return (classes.cumsum(0) * classes).sum(1)


def run(work: Work) -> list[Row]:
    """Accuracy at each instance of the memory and of the LSTM, then of the memory on shuffled labels.

    Draws the accuracy by instance.
    """
    wanted = plan(work.quick)
    rows: list[Row] = []
    curves: dict[str, Tensor] = {}
    for name, cell in wanted.cells().items():
        learner = MANN(cell, wanted.network)
        trained = train(work, name.lower(), learner, wanted.tasks(test=False), wanted.options)
        sources: dict[str, TaskSource] = {"": wanted.tasks(test=True)}
        if name == "MANN":
            sources[", shuffled labels"] = ShuffledLabels(wanted.tasks(test=True))
        for ending, source in sources.items():
            began, values = time.perf_counter(), _kept(work, name + ending, learner, trained.params, source)
            seconds = trained.seconds + time.perf_counter() - began
            curves[name + ending] = 100 * torch.stack(list(values.values())).mean(0)
            found = _rows(name, ending, values, seconds, trained.facts)
            rows += [replace(row, published=None, published_source="") for row in found] if work.quick else found
    _draw(work, curves)
    return rows


def _kept(work: Work, label: str, learner: MANN, params: Mapping[int, Params], source: TaskSource) -> dict[int, Tensor]:
    """Seed -> [task, instance]; read where a stopped run had measured it."""
    episodes = plan(work.quick).episodes

    def make() -> list[Any]:
        return [by_instance(learner, each, source, episodes).tolist() for each in params.values()]

    settings = [repr(learner), repr(source), episodes, list(params), repr(plan(work.quick).options)]
    kept = work.once(f"accuracy-{label.lower().replace(', ', '-').replace(' ', '-')}", settings, make)
    return {seed: torch.tensor(each, dtype=torch.float64) for seed, each in zip(params, kept, strict=True)}


def _rows(name: str, ending: str, values: Mapping[int, Tensor], seconds: float, facts: Mapping[str, Any]) -> list[Row]:
    """A row for each instance that the paper has; for shuffled labels for the last only."""
    last = next(iter(values.values())).shape[1]
    shown = name if name == "MANN" and not ending else f"control: {name}"
    rows = []
    for instance in (1, 2, 3, 4, 5, 10):
        if instance > last or (ending and instance < last):
            continue
        published = None if ending else PUBLISHED[name][instance]
        source = SOURCE if (name, instance) in SEEN else f"{SOURCE}, unverified"
        parts = {seed: 100 * each[:, instance - 1] for seed, each in values.items()}
        cited = {"published": published, "published_source": source if published is not None else ""}
        rows.append(measured(f"{shown}, instance {instance}{ending}", METRIC, parts, seconds, facts=facts, **cited))
    return rows


def _draw(work: Work, curves: Mapping[str, Tensor]) -> None:
    """Accuracy by instance, with 95 % intervals over tasks."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, values in curves.items():
            scores = [interval(column) for column in values.unbind(1)]
            means = torch.tensor([score.mean for score in scores])
            widths = torch.tensor([score.ci95 for score in scores])
            numbers = torch.arange(1, len(means) + 1)
            axes.plot(numbers, means, marker="o", label=name)
            axes.fill_between(numbers, means - widths, means + widths, alpha=0.2)
        axes.set(xlabel="instance of a class", ylabel=METRIC, ylim=(0, 100))
        axes.legend()

    work.picture(draw, "instances")


MANN_OMNIGLOT = Reproduction(
    "mann_omniglot",
    "Omniglot classes told one drawing late, by a memory with least recently used access; an LSTM beside it",
    run,
    needs="QUICKSTUDY_DATA",
    hours=0.8,
)
