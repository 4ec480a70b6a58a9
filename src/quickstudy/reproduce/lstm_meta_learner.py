"""The LSTM meta-learner on sine waves and on clouds of points, beside its start, fixed rates and shuffled labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.mlp import MLP
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Episode, Params
from quickstudy.deltas.full import Full
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.protocol import query_scores
from quickstudy.learners.base import Learner
from quickstudy.learners.blackbox.lstm_meta_learner import LSTMMetaLearner
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Among which the control with a fixed rate takes its best one, on tasks of its own."""

CONTROL = "control: random start, gradient descent at its own best rate"


@dataclass(frozen=True)
class Setting:
    """Tasks and the learner for them.

    Attributes:
        name: of the rows.
        learner: as it is trained and tested.
        tasks: test tasks come from here too, by another seed.
        metric: of the rows; accuracy where the tasks have classes.
        options: of its training.
    """

    name: str
    learner: LSTMMetaLearner
    tasks: TaskSource
    metric: str
    options: FitOptions


def settings(quick: bool) -> list[Setting]:
    """Sine waves of 10 points, and 5 classes of 2 points each."""
    waves = Sinusoids(shots=10, queries=10 if quick else 50)
    clouds = GaussianBlobs(ways=5, shots=2, queries=5, width=4, spread=2.0)
    steps, units, hidden = (3, 20, 10) if quick else (5, 40, 20)
    wave_options = FitOptions(200, 8, lr=2e-2) if quick else FitOptions(6000, 16, lr=3e-3)
    cloud_options = FitOptions(200, 8, lr=2e-2) if quick else FitOptions(1500, 16, lr=1e-2)
    return [
        Setting(
            "sine waves, K=10",
            LSTMMetaLearner(Network(MLP((1, units, units), "tanh"), Full(), 1), steps, hidden, rate=0.02),
            waves,
            "mean squared error",
            replace(wave_options, schedule="cosine", clip=10.0, mode="vmap"),
        ),
        Setting(
            "clouds of points, 5-way 2-shot",
            LSTMMetaLearner(Network(MLP((4, units)), Full(), 5), steps, hidden, rate=0.3),
            clouds,
            "accuracy, percent",
            replace(cloud_options, schedule="cosine", clip=10.0, mode="vmap"),
        ),
    ]


def run(work: Work) -> list[Row]:
    """Rows of both settings with their controls; draws their figures against the number of updates."""
    rows: list[Row] = []
    for setting in settings(work.quick):
        label = setting.name.split(",")[0].replace(" ", "-")
        params = {
            seed: work.trained(
                f"{label}-{seed}", setting.learner, setting.tasks, replace(setting.options, seed=seed)
            ).params
            for seed in range(work.seeds)
        }
        rows += _rows(work, setting, label, params, work.spent(f"{label}-{seed}" for seed in params).wall)
        _draw(work, setting, label, params[0])
    return rows


def _rows(work: Work, setting: Setting, label: str, params: dict[int, Params], seconds: float) -> list[Row]:
    learner, tasks = setting.learner, setting.tasks
    drawn = {seed: learner.init(torch.Generator().manual_seed(seed)) for seed in params}

    def row(name: str, values: Callable[[], tuple[dict[int, Tensor], dict[str, Any]]], trained: bool) -> Row:
        def make() -> Row:
            began = time.perf_counter()
            found, facts = values()
            total = time.perf_counter() - began + (seconds if trained else 0)
            facts = {"updates": learner.steps, **facts}
            return measured(f"{setting.name}: {name}", setting.metric, found, total, facts=facts)

        kept = name.replace(" ", "-").replace(":", "").replace(",", "")
        return work.row(f"row-{label}-{kept}", [repr(setting), work.seeds], make)

    def of(who: Learner, weights: dict[int, Params], source: TaskSource = tasks) -> dict[int, Tensor]:
        episodes = stack_episodes(list(drawn_tasks(source, 100 if work.quick else 1000, SEED_OF_TEST_TASKS)))
        return {seed: scores(who, each, episodes) for seed, each in weights.items()}

    def descended() -> tuple[dict[int, Tensor], dict[str, Any]]:
        starts = {seed: learner.network.init(torch.Generator().manual_seed(seed)) for seed in params}
        rate = _best_rate(setting, starts, 50 if work.quick else 200)
        return of(_descent(setting, rate), starts), {"rate": rate}

    shuffled = ShuffledLabels(tasks)
    return [
        row("LSTM meta-learner", lambda: (of(learner, params), {}), True),
        row("control: its start, not adapted", lambda: (of(replace(learner, steps=0), params), {}), True),
        row("control: its start, gates as drawn", lambda: (of(learner, _drawn_gates(params, drawn)), {}), True),
        row("control: untrained", lambda: (of(learner, drawn), {}), False),
        row(CONTROL, descended, False),
        row("control: shuffled labels", lambda: (of(learner, params, shuffled), {}), True),
    ]


def scores(learner: Learner, params: Params, episodes: Episode) -> Tensor:
    """[task]: percent of right answers, or mean squared errors."""
    return (100 if episodes.query.ways else 1) * query_scores(learner, params, episodes)


def _drawn_gates(params: dict[int, Params], drawn: dict[int, Params]) -> dict[int, Params]:
    """The trained starts with the gates as they were before training: nearly gradient descent."""
    return {
        seed: {name: (tensor if name.startswith("start.") else drawn[seed][name]) for name, tensor in each.items()}
        for seed, each in params.items()
    }


def _descent(setting: Setting, rate: float) -> MAML:
    """As many steps of gradient descent on the same network."""
    return MAML(setting.learner.network, InnerLoop(setting.learner.steps, SGD(rate)))


def _best_rate(setting: Setting, starts: dict[int, Params], tasks: int) -> float:
    """The rate of `RATES` with the best mean over the seeds, on validation tasks."""
    episodes = stack_episodes(list(drawn_tasks(setting.tasks, tasks, SEED_OF_VALIDATION_TASKS)))
    sign = -1 if episodes.query.ways else 1

    def loss(rate: float) -> float:
        found = torch.stack([scores(_descent(setting, rate), each, episodes).mean() for each in starts.values()])
        value = sign * float(found.mean())
        return value if math.isfinite(value) else math.inf

    return min(RATES, key=loss)


def _draw(work: Work, setting: Setting, label: str, params: Params) -> None:
    """The figure of the rows against the number of updates, first seed."""
    episodes = stack_episodes(list(drawn_tasks(setting.tasks, 100 if work.quick else 400, SEED_OF_TEST_TASKS)))
    steps = range(setting.learner.steps + 3)
    starts = {0: setting.learner.network.init(torch.Generator().manual_seed(0))}
    rate = _best_rate(setting, starts, 50 if work.quick else 200)
    learned = [scores(replace(setting.learner, steps=n), params, episodes).mean() for n in steps]
    by_hand = [
        scores(MAML(setting.learner.network, InnerLoop(n, SGD(rate))), starts[0], episodes).mean() for n in steps
    ]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(steps, learned, label="LSTM meta-learner")
        axes.plot(steps, by_hand, label=f"random start, gradient descent, rate {rate}")
        axes.set(xlabel="updates on the support", ylabel=f"{setting.metric}, {setting.name}")
        axes.legend()

    work.picture(draw, label)


LSTM_META_LEARNER = Reproduction(
    "lstm_meta_learner", "an LSTM whose cell state is the learner's parameters, on waves and clouds", run, hours=0.2
)
