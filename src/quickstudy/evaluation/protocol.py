"""Episodes to scores: adapt to the support of many tasks, score the query of each."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Batch, Episode, Params
from quickstudy.core.vectorise import Mode, OverTasks, over_tasks
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.intervals import Interval, interval
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import accuracy, weighted_loss, weighted_mean
from quickstudy.tasks.base import TaskSource

Metric: TypeAlias = Literal["accuracy", "mse", "cross_entropy"]

_AT_ONCE = 64
_TIMED = 25


@dataclass(frozen=True)
class Scores:
    """How well a learner did.

    Attributes:
        values: [task], in the order in which the tasks were drawn.
        metric: "accuracy" of classes, "mse" of regression, "cross_entropy" of writing, in nats a token.
        adapt_seconds_median: of adapting to one task alone, after the first one.
    """

    values: Tensor
    metric: Metric
    adapt_seconds_median: float

    @property
    def mean(self) -> float:
        """The mean over tasks."""
        return self.interval.mean

    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval over tasks."""
        return self.interval.ci95

    @property
    def interval(self) -> Interval:
        """Mean and 95 % interval over tasks."""
        return interval(self.values)


def evaluate(
    learner: Learner,
    params: Params,
    tasks: TaskSource,
    episodes: int = 600,
    seed: int = 0,
    mode: Mode = "auto",
) -> Scores:
    """Scores on `episodes` tasks drawn with `seed`; `params` stay as they are and no graph is kept.

    Tasks with the same number of ways are run together as `mode` says, those with others apart, so that no task sees
    the padded classes of another. Some are adapted to once more, alone, to take the time.

    Raises:
        ValueError: `episodes` is below 1.
    """
    device = next((tensor.device for tensor in params.values()), torch.device("cpu"))
    source = (tree_map(lambda leaf: leaf.to(device), episode) for episode in drawn_tasks(tasks, episodes, seed))
    seconds: list[float] = []
    values: list[Tensor] = []
    metric: Metric = "accuracy"
    run = over_tasks(partial(query_score, learner), mode)
    with torch.no_grad():
        while part := list(islice(source, _AT_ONCE)):
            metric = _metric(part[0].query)
            missing = max(_TIMED + 1 - len(seconds), 0)
            seconds += [_adapt_seconds(learner, params, episode) for episode in part[:missing]]
            values.append(_scored(run, params, part))
    return Scores(torch.cat(values).cpu(), metric, statistics.median(seconds[1:] or seconds))


def query_score(learner: Learner, params: Params, episode: Episode) -> Tensor:
    """What `Scores.metric` says of the query after adapting to the support: a scalar."""
    query = episode.query
    means = learner.predict(params, learner.adapt(params, episode.support), query.inputs).mean
    if query.ways:
        return accuracy(means, query)
    if means.dim() == 3:
        return weighted_loss(means, query)
    errors = (means - query.targets).square().mean(-1)
    return weighted_mean(torch.where(query.weights > 0, errors, 0.0), query.weights)


def each_score(learner: Learner, params: Params, tasks: TaskSource, episodes: int, seed: int) -> Tensor:
    """[task]: the values of `evaluate`, each task by itself and once, since no times are taken."""
    with torch.no_grad():
        return torch.stack([query_score(learner, params, each) for each in drawn_tasks(tasks, episodes, seed)])


def query_scores(learner: Learner, params: Params, episodes: Episode) -> Tensor:
    """[task]: `query_score` of each of a stack of episodes, all of as many ways; takes no times, keeps no graph."""
    with torch.no_grad():
        found: Tensor = over_tasks(partial(query_score, learner), "vmap")(params, episodes)
    return found


def _metric(query: Batch) -> Metric:
    if query.ways:
        return "accuracy"
    return "mse" if query.targets.is_floating_point() else "cross_entropy"


def _scored(run: OverTasks, params: Params, part: list[Episode]) -> Tensor:
    """[task], in the order of `part`."""
    ways = [episode.support.ways for episode in part]
    found: dict[int, Tensor] = {}
    for each in sorted(set(ways)):
        numbers = [number for number, count in enumerate(ways) if count == each]
        scores = run(params, stack_episodes([part[number] for number in numbers]))
        found.update(zip(numbers, scores.unbind(), strict=True))
    return torch.stack([found[number] for number in range(len(part))])


def _adapt_seconds(learner: Learner, params: Params, episode: Episode) -> float:
    began = time.perf_counter()
    adapter = learner.adapt(params, episode.support)
    if any(tensor.is_cuda for tensor in adapter.tensors.values()):
        torch.cuda.synchronize()
    return time.perf_counter() - began
