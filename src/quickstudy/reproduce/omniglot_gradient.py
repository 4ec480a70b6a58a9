"""Omniglot by gradient steps: MAML, FOMAML, Reptile, ANIL and MAML++, and controls.

Batch normalisation takes its statistics from the images at hand, in training and in testing, as the authors of all
these methods did: the queries of a test task share theirs, so these figures are transductive.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.conv4 import Conv4
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.types import Params
from quickstudy.core.vectorise import Mode
from quickstudy.deltas.full import Full
from quickstudy.evaluation.protocol import evaluate
from quickstudy.learners.base import Learner
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.anil import ANIL
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.maml_plus_plus import MAMLPlusPlus
from quickstudy.learners.optimisation.reptile import Reptile
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.training.options import FitOptions

METRIC = "accuracy, percent"
RATES = (0.01, 0.03, 0.1, 0.3)
"""Inner rates among which the random start takes its own best one, on validation characters."""

FINN = "Finn et al. 2017, arXiv 1703.03400"
NICHOL = "Nichol et al. 2018, arXiv 1803.02999"
RAGHU = "Raghu et al. 2019, arXiv 1909.09157, unverified"
ANTONIOU = "Antoniou et al. 2019, arXiv 1810.09502"


@dataclass(frozen=True)
class Case:
    """One learner, trained and tested on tasks of as many ways.

    Attributes:
        label: of its run.
        name: of its row.
        learner: as it is meta-trained and tested.
        ways: classes of a task, with one example of each.
        queries: of each class, in training.
        options: of its training.
        published: as in `Row`.
        source: `published_source` of `Row`.
    """

    label: str
    name: str
    learner: Learner
    ways: int
    queries: int
    options: FitOptions
    published: float | None = None
    source: str = ""


def network(ways: int, quick: bool, device: str, pooled: bool = False) -> Network:
    """MAML's for Omniglot: convolutions of stride 2 and the mean of each last map; or MAML++'s, pooled and flat."""
    widths = (8, 16, 16, 16) if quick else (64, 64, 64, 64)
    backbone = Conv4(widths=widths) if pooled else Conv4(widths=widths, shrink="stride", readout="mean")
    return Network(backbone, Full(), ways, device)


def cases(quick: bool, device: str = "cpu") -> list[Case]:
    """The learners that are meta-trained; those of 5 ways first, MAML first of each."""
    five, twenty = (network(ways, quick, device) for ways in (5, 20))

    def options(steps: int, tasks: int, lr: float = 2e-3) -> FitOptions:
        mode: Mode = "threads" if device == "cpu" else "vmap"
        return FitOptions(steps, tasks, lr=lr, schedule="cosine", clip=10.0, mode=mode, chunk=1, checkpoint_every=100)

    def plus(ways: int, updates: int) -> MAMLPlusPlus:
        return MAMLPlusPlus(
            network(ways, quick, device, pooled=True),
            InnerLoop(2, SGD(0.3)) if quick else InnerLoop(3, SGD(0.4)),
            per_step=("body.*.norm.*",),
            multi_step_for=updates // 10,
            first_order_for=updates // 10,
        )

    one = InnerLoop(1, SGD(0.4))
    if quick:
        small = replace(options(60, 8, 1e-2), checkpoint_every=1000)
        return [
            Case("maml-5", "MAML", MAML(five, one), 5, 3, small, 98.7, FINN),
            Case("anil-5", "ANIL", ANIL(five, InnerLoop(5, SGD(0.5))), 5, 3, small),
            Case("maml-plus-plus-5", "MAML++", plus(5, 60), 5, 3, small, 99.47, ANTONIOU),
        ]
    # Chosen on validation characters, queries and tasks of an update too, each after some five minutes of training.
    second, first = MAML(twenty, InnerLoop(1, SGD(0.7))), MAML(twenty, InnerLoop(3, SGD(0.4), order="first"))
    reptile = Reptile(twenty, InnerLoop(10, SGD(0.4)), minibatch=20)
    return [
        Case("maml-5", "MAML", MAML(five, one), 5, 3, options(12_000, 32), 98.7, FINN),
        Case("maml-plus-plus-5", "MAML++", plus(5, 36_000), 5, 5, options(36_000, 2), 99.47, ANTONIOU),
        Case("maml-20", "MAML", second, 20, 5, options(40_000, 4), 95.8, FINN),
        Case("fomaml-20", "FOMAML", first, 20, 5, options(12_000, 4), 89.4, NICHOL),
        Case("reptile-20", "Reptile", reptile, 20, 9, options(30_000, 2), 89.43, NICHOL),
        Case("anil-20", "ANIL", ANIL(twenty, InnerLoop(5, SGD(0.5))), 20, 5, options(30_000, 2), 96.2, RAGHU),
        Case("maml-plus-plus-20", "MAML++", plus(20, 20_000), 20, 5, options(20_000, 2), 97.65, ANTONIOU),
    ]


def run(work: Work) -> list[Row]:
    """Rows of the learners, each number of ways followed by its controls; draws the training losses."""
    rows: list[Row] = []
    losses: dict[str, list[float]] = {}
    found = cases(work.quick, work.device)
    for ways in sorted({case.ways for case in found}):
        those = [case for case in found if case.ways == ways]
        for case in those:
            row, trained, losses[f"{case.name}, {ways}-way"] = _measured(work, case)
            rows.append(row)
            if case is those[0]:
                controls = _controls(work, case, trained)
        rows += controls
    work.picture(partial(_draw_losses, losses))
    return rows


def _measured(work: Work, case: Case) -> tuple[Row, dict[int, Params], list[float]]:
    """The row, seed -> meta-parameters, and the training losses of the first seed."""
    tasks = Omniglot("train+validation", case.ways, 1, case.queries)
    runs = {
        seed: work.trained(f"{case.label}-{seed}", case.learner, tasks, replace(case.options, seed=seed))
        for seed in range(work.seeds)
    }
    trained = {seed: fitted.params for seed, fitted in runs.items()}

    def make() -> Row:
        began = time.perf_counter()
        spent = work.spent(f"{case.label}-{seed}" for seed in runs)
        facts = {
            "updates": case.options.steps,
            "tasks_per_update": case.options.tasks_per_step,
            "transductive": True,
            "cpu_seconds_of_a_run": round(spent.processor / len(runs)),
        }
        values = {seed: _accuracies(work, case.learner, params, _tests(case)) for seed, params in trained.items()}
        seconds = spent.wall + time.perf_counter() - began
        more: dict[str, Any] = {"published": case.published, "published_source": case.source, "facts": facts}
        return measured(f"{case.name}, {case.ways}-way 1-shot", METRIC, values, seconds, **more)

    row = work.row(f"row-{case.label}", [repr(case), str(work.seeds)], make)
    return row, trained, [float(each["loss"]) for each in runs[0].history]


def _tests(case: Case) -> Omniglot:
    return Omniglot("test", case.ways, 1, 5)


def _accuracies(work: Work, learner: Learner, params: Params, tasks: TaskSource) -> Tensor:
    """[test task], in percent."""
    episodes = 40 if work.quick else 600
    return 100 * evaluate(learner, params, tasks, episodes, SEED_OF_TEST_TASKS).values


def _controls(work: Work, case: Case, trained: dict[int, Params]) -> list[Row]:
    """MAML without adapting and with the support's labels dealt out anew, and a random start at its own best rate."""
    tasks = _tests(case)
    net = network(case.ways, work.quick, work.device)
    random = {seed: case.learner.init(torch.Generator().manual_seed(seed)) for seed in trained}

    def made(name: str, learner: Learner, params: dict[int, Params], source: TaskSource, **facts: Any) -> Row:
        began = time.perf_counter()
        values = {seed: _accuracies(work, learner, each, source) for seed, each in params.items()}
        title = f"control: {name}, {case.ways}-way 1-shot"
        return measured(title, METRIC, values, time.perf_counter() - began, facts=facts)

    def started() -> Row:
        steps = 3 if work.quick else 20
        rate = _best_rate(work, net, random[0], case.ways, steps)
        learner = MAML(net, InnerLoop(steps, SGD(rate)))
        return made("random start at its own best rate", learner, random, tasks, rate=rate, steps=steps)

    wanted = {
        "unadapted": lambda: made("MAML without adapting", MAML(net, InnerLoop(0)), trained, tasks),
        "shuffled": lambda: made("MAML, shuffled labels", case.learner, trained, ShuffledLabels(tasks)),
        "random": started,
    }
    settings = [repr(case), str(work.seeds)]
    return [work.row(f"control-{case.ways}-{label}", settings, make) for label, make in wanted.items()]


def _best_rate(work: Work, net: Network, params: Params, ways: int, steps: int) -> float:
    """The rate of `RATES` with the highest accuracy on tasks of validation characters."""
    tasks = Omniglot("validation", ways, 1, 5)

    def score(rate: float) -> float:
        return evaluate(MAML(net, InnerLoop(steps, SGD(rate))), params, tasks, 5 if work.quick else 50).mean

    return max(RATES, key=score)


def _draw_losses(losses: dict[str, list[float]], figure: Any) -> None:
    """The training losses, each point a hundredth of the run; Reptile's is a distance and not among them."""
    axes = figure.subplots()
    for name, values in losses.items():
        if values and not name.startswith("Reptile"):
            axes.plot(*_thinned(values), label=name)
    axes.set(xlabel="share of the run", ylabel="cross-entropy on the query", yscale="log")
    axes.legend()


def _thinned(values: Sequence[float]) -> tuple[list[float], list[float]]:
    parts = torch.tensor(values).tensor_split(min(100, len(values)))
    return [(number + 0.5) / len(parts) for number in range(len(parts))], [float(part.mean()) for part in parts]


OMNIGLOT_GRADIENT = Reproduction(
    "omniglot_gradient",
    "Omniglot by gradient steps: MAML, FOMAML, Reptile, ANIL and MAML++, with controls",
    run,
    needs="QUICKSTUDY_DATA",
    hours=8.0,
)
