"""Black-box learners on sine waves and on classes: a hypernetwork that writes weights, and a recurrent one.

No table of Ha et al. 2016 (arXiv 1609.09106) or Hochreiter et al. 2001 has these tasks, so nothing is published beside
them; sine waves from ten points have two unknowns and no noise, so an exact learner would reach 0.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from quickstudy.backbones.identity import Identity
from quickstudy.backbones.mlp import MLP
from quickstudy.core.types import Params
from quickstudy.deltas.full import Full
from quickstudy.deltas.head import Head
from quickstudy.evaluation.protocol import evaluate
from quickstudy.learners.base import Learner
from quickstudy.learners.blackbox.hypernetwork import Hypernetwork
from quickstudy.learners.blackbox.recurrent import Recurrent
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.network import Network
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.loop import Fitted
from quickstudy.training.options import FitOptions


@dataclass(frozen=True)
class Case:
    """A learner on tasks.

    Attributes:
        label: of its runs.
        name: of its row.
        learner: what is trained.
        tasks: on which.
        tests: what it is tested on.
        options: of the training.
    """

    label: str
    name: str
    learner: Learner
    tasks: TaskSource
    tests: TaskSource
    options: FitOptions


def cases(quick: bool, device: str) -> list[Case]:
    """Both learners on both kinds of tasks."""
    width = 48 if quick else 128
    body, depth = (MLP((1, 32, 32)), 32) if quick else (MLP((1, 64, 64)), 64)
    waves, tests = Sinusoids(10, 10), Sinusoids(10, 20 if quick else 100)
    ways = 2 if quick else 5
    blobs = GaussianBlobs(ways, shots=3, queries=5)
    options = FitOptions(300 if quick else 10_000, 32, lr=2e-3, schedule="cosine", clip=1.0, mode="vmap")
    options = replace(options, warmup=50, checkpoint_every=1000)
    longer = replace(options, steps=700 if quick else options.steps, lr=5e-3 if quick else 2e-3)
    short = replace(options, steps=150 if quick else 3000)
    written = Hypernetwork(Network(body, Full(), 1, device), width=width, pool="mean")
    classes = Hypernetwork(Network(MLP((2, depth)), Full(), device=device), width=width, pool="attention")
    recurrent = Recurrent(Network(MLP((1, depth)), Full(), device=device), width=width)
    labelled = Recurrent(Network(MLP((2, depth)), Full(), device=device), outputs=ways, width=width)
    return [
        Case("hypernetwork-waves", "hypernetwork, sine waves K=10", written, waves, tests, options),
        Case("recurrent-waves", "LSTM, sine waves K=10", recurrent, waves, tests, longer),
        Case("hypernetwork-blobs", f"hypernetwork, {ways}-way 3-shot blobs", classes, blobs, blobs, short),
        Case(
            "recurrent-blobs",
            f"LSTM, {ways}-way 3-shot blobs",
            labelled,
            blobs,
            blobs,
            replace(short, steps=2 * short.steps),
        ),
    ]


def run(work: Work) -> list[Row]:
    """A row of each case, each followed by its controls; draws the training curves."""
    rows: list[Row] = []
    curves: dict[str, list[float]] = {}
    for case in cases(work.quick, work.device):
        runs: dict[int, Fitted] = {}
        for seed in range(work.seeds):
            label, options = f"{case.label}-{seed}", replace(case.options, seed=seed)
            runs[seed] = work.trained(label, case.learner, case.tasks, options)
        seconds = work.spent(f"{case.label}-{seed}" for seed in runs).wall
        curves[case.name] = [row["loss"] for row in runs[0].history]
        rows += _rows(work, case, {seed: found.params for seed, found in runs.items()}, seconds)
    rows.append(_prototypes(work))
    _draw(work, curves)
    return rows


def _rows(work: Work, case: Case, params: dict[int, Params], seconds: float) -> list[Row]:
    """The case, the same untrained, and the same with the targets of the support dealt out anew."""
    untrained = {seed: case.learner.init(torch.Generator().manual_seed(seed)) for seed in params}
    wanted: dict[str, tuple[str, dict[int, Params], TaskSource, float]] = {
        "": (case.name, params, case.tests, seconds),
        "-untrained": (f"control: untrained {case.name}", untrained, case.tests, 0.0),
        "-shuffled": (f"control: {case.name}, shuffled targets", params, ShuffledLabels(case.tests), 0.0),
    }

    def made(label: str) -> Row:
        name, starts, tests, spent = wanted[label]
        facts = {"updates": case.options.steps, "tasks_per_update": case.options.tasks_per_step}
        return _measured(work, name, case.learner, starts, tests, seconds=spent, facts=facts)

    settings = [repr(case), str(work.seeds)]
    return [work.row(f"row-{case.label}{label}", settings, partial(made, label)) for label in wanted]


def _prototypes(work: Work) -> Row:
    """What class means reach on the blobs, whose best answer they nearly are."""
    tests = cases(work.quick, work.device)[-1].tests
    learner = ProtoNet(Network(Identity(2), Head()))
    return _measured(work, "control: class means, blobs", learner, {0: {}}, tests)


def _measured(
    work: Work, name: str, learner: Learner, params: dict[int, Params], tests: TaskSource, **more: Any
) -> Row:
    began = time.perf_counter()
    episodes = 200 if work.quick else 1000
    found = {seed: evaluate(learner, p, tests, episodes, SEED_OF_TEST_TASKS, mode="vmap") for seed, p in params.items()}
    classes = all(scores.metric == "accuracy" for scores in found.values())
    values = {seed: (100 if classes else 1) * scores.values for seed, scores in found.items()}
    seconds = more.pop("seconds", 0.0) + time.perf_counter() - began
    return measured(name, "accuracy, percent" if classes else "mean squared error", values, seconds, **more)


def _draw(work: Work, curves: dict[str, list[float]]) -> None:
    """Training losses, means over a hundredth of the run."""

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, len(curves))
        for axes, (name, losses) in zip(panels, curves.items(), strict=True):
            width = max(len(losses) // 100, 1)
            means = torch.tensor(losses)[: len(losses) // width * width].reshape(-1, width).mean(1)
            axes.plot(torch.arange(1, len(means) + 1) * width, means)
            axes.set(title=name, xlabel="updates", yscale="log")
        panels[0].set_ylabel("training loss")

    work.picture(draw, size=(3.6 * len(curves), 3.4))


BLACKBOX = Reproduction(
    "blackbox", "a hypernetwork and a recurrent meta-learner on sine waves and classes, beside controls", run, hours=1.0
)
