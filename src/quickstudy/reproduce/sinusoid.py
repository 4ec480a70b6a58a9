"""Sine waves from ten points: MAML, Meta-SGD, CAVIA, iMAML, a ridge head on meta-trained features, and controls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.mlp import MLP
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Params
from quickstudy.deltas.full import Full
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.intervals import interval
from quickstudy.evaluation.protocol import evaluate, query_scores
from quickstudy.learners.base import Learner
from quickstudy.learners.closed_form.ridge import Ridge
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.cavia import CAVIA
from quickstudy.learners.optimisation.imaml import IMAML
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.maml_plus_plus import MAMLPlusPlus
from quickstudy.learners.optimisation.meta_sgd import MetaSGD
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

METRIC = "mean squared error"
RATE = 0.01
RATES = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1)
"""Inner rates among which a control takes its own best one, on tasks of their own."""

REPOSITORY = "repository 63days/Meta-SGD, one run of 100 tasks"
CAVIA_SOURCE = "Zintgraf et al. 2019, arXiv 1810.03642, unverified"


@dataclass(frozen=True)
class Case:
    """One learner, trained and tested with the same number of shots.

    Attributes:
        label: of its run.
        name: of its row.
        learner: as it is meta-trained and tested.
        options: of its training.
        shots: support points.
        published: as in `Row`.
        source: `published_source` of `Row`.
    """

    label: str
    name: str
    learner: Learner
    options: FitOptions
    shots: int = 10
    published: float | None = None
    source: str = ""


def network(inputs: int = 1, activation: str = "relu", outputs: int = 1) -> Network:
    """Two hidden layers of 40 units."""
    return Network(MLP((inputs, 40, 40), activation), Full(), outputs)


def maml(steps: int, rate: float) -> MAML:
    """MAML on the network of the paper."""
    return MAML(network(), InnerLoop(steps, SGD(rate)))


def cases(quick: bool) -> list[Case]:
    """The learners that are meta-trained; the first is the one that the controls go with."""

    def options(steps: int, lr: float = 2e-3, tasks: int = 25) -> FitOptions:
        if quick:
            steps, lr, tasks = 200, 5e-3, 16
        return FitOptions(steps, tasks, lr=lr, schedule="cosine", clip=10.0, mode="vmap", checkpoint_every=500)

    context = CAVIA(network(inputs=6), InnerLoop(1, SGD(1.0)), context=5)
    # A larger inner rate, or a weaker pull, leaves the inner problem unsolved where the waves are high.
    implicit = IMAML(network(), InnerLoop(8, SGD(RATE)), strength=1.0, solver_steps=3)
    # Its learned rates grow; without the limit a high wave throws a step far enough to make the loss infinite.
    plus = MAMLPlusPlus(network(), InnerLoop(5, SGD(RATE), clip=10.0), multi_step_for=100 if quick else 2000)
    ridge = Ridge(network(activation="tanh", outputs=0), regularisation=0.1)
    found = [
        Case("maml-1-step", "MAML, 1 step", maml(1, RATE), options(20_000), published=0.6702, source=REPOSITORY),
        Case(
            "meta-sgd-1-step",
            "Meta-SGD, 1 step",
            MetaSGD(network(), InnerLoop(1, SGD(RATE))),
            options(20_000),
            published=0.3145,
            source=REPOSITORY,
        ),
        Case("cavia-1-step", "CAVIA, 1 step", context, options(15_000), published=0.21, source=CAVIA_SOURCE),
        Case("maml-plus-plus-5-steps", "MAML++, 5 steps", plus, options(6_000, 1e-3)),
        Case("ridge", "ridge head on meta-trained features", ridge, options(6_000)),
    ]
    for shots in () if quick else (5, 10, 20):
        label, name = f"maml-10-steps-{shots}-shot", "MAML, 10 steps"
        found.append(Case(label, name, maml(10, RATE), options(6_000, 1e-3), shots))
    found.append(Case("imaml", "iMAML, 8 steps", implicit, options(1_500, 1e-3)))
    return found


def run(work: Work) -> list[Row]:
    """Rows of the learners, then of the controls; draws the error after each gradient step, and one wave."""
    rows: list[Row] = []
    trained: dict[str, dict[int, Params]] = {}
    for case in cases(work.quick):
        trained[case.label] = _trained(work, case)
        seconds = work.spent(f"{case.label}-{seed}" for seed in trained[case.label]).wall
        rows.append(_row(work, case, trained[case.label], seconds))
    case = cases(work.quick)[0]
    starts = {
        "random": {seed: _drawn(case.learner, seed) for seed in range(work.seeds)},
        "pooled": _trained(work, replace(case, label="pooled", learner=maml(0, 0.0))),
        "MAML": trained[case.label],
    }
    rows += _controls(work, case, starts)
    _draw_curves(work, starts)
    _draw_wave(work, case, starts["MAML"][0])
    return rows


def _trained(work: Work, case: Case) -> dict[int, Params]:
    """Seed -> meta-parameters."""
    tasks = Sinusoids(case.shots, queries=case.shots)
    return {
        seed: work.trained(f"{case.label}-{seed}", case.learner, tasks, replace(case.options, seed=seed)).params
        for seed in range(work.seeds)
    }


def _drawn(learner: Learner, seed: int) -> Params:
    return learner.init(torch.Generator().manual_seed(seed))


def _tests(work: Work, shots: int) -> Sinusoids:
    return Sinusoids(shots, queries=20 if work.quick else 100)


def _errors(work: Work, learner: Learner, params: Params, tasks: TaskSource) -> Tensor:
    """[test task]"""
    episodes = 100 if work.quick else 1000
    return evaluate(learner, params, tasks, episodes, SEED_OF_TEST_TASKS, mode="vmap").values


def _row(work: Work, case: Case, params: dict[int, Params], seconds: float) -> Row:
    def make() -> Row:
        began = time.perf_counter()
        tasks = _tests(work, case.shots)
        values = {seed: _errors(work, case.learner, each, tasks) for seed, each in params.items()}
        facts = {"shots": case.shots, "updates": case.options.steps, "tasks_per_update": case.options.tasks_per_step}
        name, total = f"{case.name}, K={case.shots}", seconds + time.perf_counter() - began
        more: dict[str, Any] = {"published": case.published, "published_source": case.source, "facts": facts}
        return measured(name, METRIC, values, total, **more)

    return work.row(f"row-{case.label}", _settings(work, case), make)


def _settings(work: Work, case: Case) -> list[str]:
    return [repr(case), repr(_tests(work, case.shots)), str(work.seeds)]


def _controls(work: Work, case: Case, starts: dict[str, dict[int, Params]]) -> list[Row]:
    """What the first case reaches without adapting or with the support's targets dealt out anew, and other starts."""
    tasks = _tests(work, case.shots)

    def made(name: str, learner: Learner, start: str, source: TaskSource, **facts: Any) -> Row:
        began = time.perf_counter()
        values = {seed: _errors(work, learner, each, source) for seed, each in starts[start].items()}
        return measured(f"control: {name}", METRIC, values, time.perf_counter() - began, facts=facts)

    def tuned(start: str, name: str, steps: int) -> Row:
        rate = _best_rate(starts[start], steps, case.shots)
        ending = f"{steps} step{'s' if steps > 1 else ''}, K={case.shots}"
        return made(f"{name} at its own best rate, {ending}", maml(steps, rate), start, tasks, rate=rate)

    wanted: dict[str, Callable[[], Row]] = {
        "unadapted": lambda: made("MAML without adapting", maml(0, 0.0), "MAML", tasks),
        "shuffled": lambda: made("MAML, shuffled targets", case.learner, "MAML", ShuffledLabels(tasks)),
    }
    for steps in (1, 10):
        wanted[f"random-{steps}"] = partial(tuned, "random", "random start", steps)
        wanted[f"pooled-{steps}"] = partial(tuned, "pooled", "one network for all waves", steps)
    settings = _settings(work, case)
    return [work.row(f"control-{label}", settings, make) for label, make in wanted.items()]


def _best_rate(params: dict[int, Params], steps: int, shots: int) -> float:
    """The rate of `RATES` with the smallest mean error over the seeds, on validation tasks."""
    episodes = stack_episodes(list(drawn_tasks(Sinusoids(shots, queries=50), 200, SEED_OF_VALIDATION_TASKS)))

    def error(rate: float) -> float:
        found = torch.stack([query_scores(maml(steps, rate), each, episodes).mean() for each in params.values()])
        return float(found.mean().nan_to_num(nan=math.inf))

    return min(RATES, key=error)


def _draw_curves(work: Work, starts: dict[str, dict[int, Params]]) -> None:
    """Error against gradient steps, K=10, first seed; 95 % intervals over tasks."""
    steps = range(4 if work.quick else 11)
    episodes = stack_episodes(list(drawn_tasks(_tests(work, 10), 200, SEED_OF_TEST_TASKS)))
    curves = {}
    for name, params in starts.items():
        rate = RATE if name == "MAML" else _best_rate(params, max(steps), 10)
        found = [interval(query_scores(maml(each, rate), params[0], episodes)) for each in steps]
        curves[f"{name}, rate {rate}"] = found

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, scores in curves.items():
            means = torch.tensor([score.mean for score in scores])
            widths = torch.tensor([score.ci95 for score in scores])
            axes.plot(steps, means, label=name)
            axes.fill_between(steps, means - widths, means + widths, alpha=0.2)
        axes.set(xlabel="gradient steps on 10 points", ylabel=METRIC, ylim=(0, None))
        axes.legend()

    work.picture(draw, "steps")


def _draw_wave(work: Work, case: Case, params: Params) -> None:
    """One test wave, its ten points, and the network before and after one and ten steps."""
    episode = _tests(work, case.shots).sample(torch.Generator().manual_seed(SEED_OF_TEST_TASKS))
    x = torch.linspace(-5, 5, 201)[:, None]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        points, wave = (torch.as_tensor(side.inputs)[:, 0] for side in (episode.support, episode.query))
        order = wave.argsort()
        axes.plot(wave[order], episode.query.targets[order, 0], "k", label=episode.task)
        axes.plot(points, episode.support.targets[:, 0], "k^", label="support")
        for steps in (0, 1, 10):
            learner = maml(steps, RATE)
            with torch.no_grad():
                y = learner.predict(params, learner.adapt(params, episode.support), x).mean
            axes.plot(x[:, 0], y[:, 0], "--", label=f"{case.name.partition(',')[0]} after {steps} steps")
        axes.set(xlabel="x", ylabel="y")
        axes.legend()

    work.picture(draw, "wave")


SINUSOID = Reproduction(
    "sinusoid", "sine waves from ten points: gradient-based learners, a ridge head, and controls", run, hours=0.5
)
