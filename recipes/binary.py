"""Synthetic binary tasks in the plane, 5 examples of each class or 5 in all: Reptile's start against a random one.

Half-planes, rings and XOR, turned by any angle, stretched, with half of the tasks' classes swapped. A few points hardly
tell them apart; a learned start knows which boundaries there are.

    python -m recipes.binary --out docs/results/binary.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from quickstudy.backbones import MLP
from quickstudy.core import SGD, InnerLoop
from quickstudy.core.files import write_json
from quickstudy.core.types import Json, Params
from quickstudy.deltas import Full
from quickstudy.evaluation import evaluate, interval
from quickstudy.learners import Network
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.optimisation.reptile import Reptile
from quickstudy.tasks import BinaryTasks, TaskSource
from quickstudy.training import FitOptions, fit

RATES = (0.03, 0.1, 0.3, 1.0)
STEPS = (10, 30)
"""Of the inner loop in the test; both starts choose their own on tasks drawn for that."""

CHOOSING, TESTING = 1, 2
"""Seeds of the tasks that settings are chosen on and of the test tasks; training draws from streams of its own."""


def recipe(support: int = 10, seed: int = 0) -> tuple[Reptile, BinaryTasks, FitOptions]:
    """The learner, the training tasks and the options.

    Args:
        support: examples of a task, both classes together.
        seed: of the training run.
    """
    tasks = BinaryTasks(support=support, query=50 - support, noise=(0.0, 0.0))
    network = Network(MLP((2, 64, 64, 64, 64), "tanh"), Full(), outputs=2)
    learner = Reptile(network, InnerLoop(steps=10, optimiser=SGD(0.3)))
    return learner, tasks, FitOptions(steps=6000, tasks_per_step=8, lr=5e-3, schedule="linear", mode="vmap", seed=seed)


def chosen(learner: Reptile, params: Params, tasks: TaskSource, episodes: int = 200) -> Reptile:
    """The learner with the inner rate and number of steps that serve this start best."""
    loops = [InnerLoop(steps, SGD(rate)) for steps in STEPS for rate in RATES]
    candidates = [replace(learner, inner=loop) for loop in loops]
    scores = [evaluate(each, params, tasks, episodes, CHOOSING, "vmap").mean for each in candidates]
    return candidates[scores.index(max(scores))]


def compare(support: int, seeds: Sequence[int], steps: int | None = None, episodes: int = 600) -> list[Json]:
    """The rows for one number of support examples; `steps` stands in for the number of updates."""
    found: dict[str, list[Tensor]] = {}
    for seed in seeds:
        learner, train, options = recipe(support, seed)
        options = replace(options, steps=steps or options.steps)
        test = replace(train, query=100)
        start = learner.init(torch.Generator().manual_seed(seed))
        learned = fit(learner, train, options, start=start).params
        tuned, own = chosen(learner, learned, test), chosen(learner, start, test)
        still = replace(learner, inner=InnerLoop(0))
        for what, method, params, tasks in (
            ("start meta-learned by Reptile", tuned, learned, test),
            ("random start, its own rate and steps", own, start, test),
            ("random start, no adaptation", still, start, test),
            ("meta-learned start, no adaptation", still, learned, test),
            ("meta-learned start, shuffled support labels", tuned, learned, ShuffledLabels(test)),
        ):
            values = evaluate(method, params, tasks, episodes, TESTING, "vmap").values
            found.setdefault(f"{what}, {support} examples in all", []).append(values)
            print(seed, support, what, round(100 * float(values.mean()), 2), method.inner, flush=True)
    return [_row(what, draws) for what, draws in found.items()]


def _row(what: str, draws: Sequence[Tensor]) -> Json:
    found = interval(torch.stack(list(draws)).mean(0))
    means = [round(100 * float(each.mean()), 2) for each in draws]
    percent = {"mean": round(100 * found.mean, 2), "ci95": round(100 * found.ci95, 2)}
    return {"what": what, **percent, "tasks": found.tasks, "seeds": len(draws), "seed_means": means}


def main() -> None:
    """Meta-trains, compares and writes the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results/binary.json"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    rows = [row for support in (10, 5) for row in compare(support, range(arguments.seeds))]
    result = {
        "name": "Synthetic binary tasks: half-planes, rings, XOR; any angle, scale 0.5 to 2, classes swapped at random",
        "metric": "accuracy, percent; the interval is over tasks",
        "rows": rows,
        "seconds": round(time.perf_counter() - began),
        "device": f"CPU, 1 thread, torch {torch.__version__}",
        "command": f"python -m recipes.binary --seeds {arguments.seeds}",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
