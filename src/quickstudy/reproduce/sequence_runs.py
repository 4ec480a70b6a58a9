"""What the reproductions with a memory share: runs of several seeds, bit errors, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.memory import Cell, LSTMCell
from quickstudy.core.types import Episode, Params
from quickstudy.evaluation.drawing import drawn_tasks, in_parts
from quickstudy.learners.base import Learner
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Work
from quickstudy.tasks.base import TaskSource
from quickstudy.training.options import FitOptions

AT_ONCE = 50
"""Test tasks that are run together."""


@dataclass(frozen=True)
class Trained:
    """Training runs of one learner, one for each seed.

    Attributes:
        params: of each seed.
        losses: of each update of the first seed.
        seconds: of all runs, pieces of a stopped run included.
        cpu_seconds: as `seconds`, without the time that the processor spent on something else.
    """

    params: Mapping[int, Params]
    losses: tuple[float, ...]
    seconds: float
    cpu_seconds: float

    @property
    def facts(self) -> dict[str, int]:
        """Updates, parameters and processor seconds of one run, for a row."""
        return {
            "updates": len(self.losses),
            "parameters": sum(tensor.numel() for tensor in self.params[0].values()),
            "cpu_seconds_of_a_run": round(self.cpu_seconds / len(self.params)),
        }


def train(work: Work, label: str, learner: Learner, tasks: TaskSource, options: FitOptions) -> Trained:
    """Runs called `label`-0, `label`-1 and so on, each to its last update."""
    params: dict[int, Params] = {}
    losses: tuple[float, ...] = ()
    for seed in range(work.seeds):
        fitted = work.trained(f"{label}-{seed}", learner, tasks, replace(options, seed=seed))
        params[seed] = fitted.params
        losses = losses or tuple(row["loss"] for row in fitted.history)
    took = work.spent(f"{label}-{seed}" for seed in params)
    return Trained(params, losses, took.wall, took.processor)


@dataclass(frozen=True)
class Mismatched(TaskSource):
    """Tasks whose query is that of another task: nothing that was written helps."""

    tasks: TaskSource

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode made of two."""
        episode = self.tasks.sample(generator)
        return replace(episode, query=self.tasks.sample(generator).query)


def over_test_tasks(
    function: Callable[[Params, Episode], Tensor], params: Params, tasks: TaskSource, episodes: int
) -> Tensor:
    """[task, ...]: what `function` gives for each of the tasks of `SEED_OF_TEST_TASKS`."""
    drawn = drawn_tasks(tasks, episodes, SEED_OF_TEST_TASKS)
    return torch.cat(in_parts(function, params, drawn, AT_ONCE)).double()


def wrong_bits(learner: Learner, params: Params, tasks: TaskSource, episodes: int) -> Tensor:
    """[task, row]: how many bits of each query row are answered wrongly; 0 in rows of weight 0.

    Tasks are those of `SEED_OF_TEST_TASKS`, all with as many query rows.
    """

    def wrong(params: Params, episode: Episode) -> Tensor:
        query = episode.query
        means = learner.predict(params, learner.adapt(params, episode.support), query.inputs).mean
        return ((means > 0.5) != (query.targets > 0.5)).sum(-1) * (query.weights > 0)

    return over_test_tasks(wrong, params, tasks, episodes)


def picture_losses(work: Work, curves: Mapping[str, Sequence[float]], label: str, axis: str) -> None:
    """Training losses of each run, means of 1 % of its updates."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, losses in curves.items():
            part = max(len(losses) // 100, 1)
            means = torch.tensor(losses[: len(losses) // part * part]).view(-1, part).mean(1)
            axes.plot(part * torch.arange(1, len(means) + 1), means.clamp(min=1e-6), label=name)
        axes.set(xlabel="updates", ylabel=axis, yscale="log")
        axes.legend()

    work.picture(draw, label)


def lstm_as_large_as(cell: Cell) -> LSTMCell:
    """The smallest LSTM that reads and answers the same and has at least as many parameters as `cell`."""

    def count(other: Cell) -> int:
        return sum(tensor.numel() for tensor in other.init(torch.Generator().manual_seed(0)).values())

    wanted, hidden = count(cell), 1
    while count(LSTMCell(cell.inputs, cell.outputs, hidden)) < wanted:
        hidden += 1
    return LSTMCell(cell.inputs, cell.outputs, hidden)
