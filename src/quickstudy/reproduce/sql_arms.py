"""The ways to a SQL dialect that are compared: what each starts from, how it adapts, and how it is judged.

Every arm starts from the base that ships, takes its own rate and number of steps on validation dialects, and is judged
on the same test tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Params
from quickstudy.deltas.lora import LoRA
from quickstudy.evaluation.protocol import each_score
from quickstudy.evaluation.writing import WritingScores, evaluate_writing
from quickstudy.learners.base import Learner
from quickstudy.learners.blackbox.hyper_lora import HyperLoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.in_context.tuned_demonstrations import TunedDemonstrations
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Row, Work, measured
from quickstudy.tasks.sql.respelled import Respelled
from quickstudy.tasks.sql.scores import score_task
from quickstudy.tasks.sql.tasks import SQLTask, TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks, TextTaskSource
from quickstudy.training.options import FitOptions

METRIC = "queries with the target's tree, percent"
BASE = "quickstudy-sql"
RANK = 8
"""Of all matrices, which stand beside every linear layer."""


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        updates: of the meta-training of the first start; the others take as much computing.
        tasks_per_step: of all training.
        tests: test tasks.
        validations: tasks on which rates and steps are chosen.
        rates: among which each arm takes its best one.
        steps: likewise.
        shots: examples of each task.
        queries: what is asked of each test task.
        most: tokens written for each.
        curve: numbers of steps of the curves.
        curve_tests: test tasks of the curves.
        examples: numbers of examples that LoRA from a random start is given.
    """

    updates: int = 400
    tasks_per_step: int = 4
    tests: int = 30
    validations: int = 6
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    steps: tuple[int, ...] = (5, 20, 50)
    shots: int = 10
    queries: int = 8
    most: int = 200
    curve: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 12, 20, 35, 60)
    curve_tests: int = 20
    examples: tuple[int, ...] = (10, 30, 100)


QUICK = Sizes(1, 1, 2, 1, (3e-3,), (2,), 5, 2, 80, (0, 2), 2, (5,))

Way: TypeAlias = Callable[[CausalLM, int, float], Learner]
"""The learner that makes so many steps at such a rate on the base."""


def language_model(device: str = "cpu") -> CausalLM:
    """The base, in the precision that it is stored in."""
    return CausalLM(BASE, max_tokens=2048, between="\n", dtype="bfloat16", device=device)


def network(base: CausalLM) -> Network:
    """The base with LoRA beside all its linear layers."""
    return Network(base, LoRA(RANK, 2 * RANK, base.linears), device=base.device)


def plain(base: CausalLM, steps: int, rate: float) -> MAML:
    """Steps of Adam on each example by itself."""
    return MAML(network(base), _steps(steps, rate))


def reading(base: CausalLM, steps: int, rate: float) -> TunedDemonstrations:
    """Steps of Adam on the examples read in context, which then stand before each query."""
    return TunedDemonstrations(network(base), _steps(steps, rate))


def _steps(steps: int, rate: float) -> InnerLoop:
    return InnerLoop(steps, Adam(rate), clip=1.0, order="first")


@dataclass(frozen=True)
class Start:
    """What is trained on the training dialects.

    Attributes:
        label: of its runs and its row.
        name: for the table.
        learner: as it is trained.
        passes: examples that it runs forward and backward for one task.
        way: how it adapts; None for the learner itself.
    """

    label: str
    name: str
    learner: Learner
    passes: float
    way: Way | None = None


def starts(base: CausalLM, sizes: Sizes) -> tuple[Start, ...]:
    """Meta-learned matrices for steps in context and for plain ones, matrices that all tasks were read with and no step
    was made, and the hypernetwork."""
    steps, shots, asked = 5, sizes.shots, QUERIES
    tuned = reading(base, steps, 3e-3)
    read = Demonstrations(network(base), along=True)
    hyper = HyperLoRA(network(base), "examples")
    return (
        Start("tuned", "steps in context, meta-learned", tuned, (steps + 1) * shots + asked, reading),
        Start("warm", "steps in context, warm start", read, shots + asked, reading),
        Start("maml", "plain steps, meta-learned (MAML)", plain(base, steps, 1e-2), steps * shots + asked, plain),
        # Reading the examples for the hypernetwork runs forward only.
        Start("hyper", "HyperLoRA from the examples", hyper, shots / 3 + asked),
    )


QUERIES = 4
"""What is asked of a training task."""


def options(start: Start, sizes: Sizes, first: Start) -> FitOptions:
    """Of the training of `start`: as many passes in all as that of `first` takes."""
    steps = max(1, round(sizes.updates * first.passes / start.passes))
    return FitOptions(
        steps,
        sizes.tasks_per_step,
        lr=1e-3,
        schedule="cosine",
        warmup=steps // 20,
        clip=1.0,
        mode="loop",
        checkpoint_every=20,
    )


@dataclass(frozen=True)
class Arm:
    """A way to adapt.

    Attributes:
        label: of its row.
        name: for the table.
        learner: how.
        params: seed of the training -> meta-parameters.
        facts: for the table.
        seconds: of the training.
        way: how its steps are made, where it makes any.
    """

    label: str
    name: str
    learner: Learner
    params: Mapping[int, Params]
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    way: Way | None = None


def trained_arms(work: Work, base: CausalLM, sizes: Sizes) -> list[Arm]:
    """The arms that are trained, each with steps and rate of its own."""
    found = []
    every = starts(base, sizes)
    for start in every:
        run = options(start, sizes, every[0])
        tasks = encoded(training_tasks(sizes), base, start.learner)
        labels = {seed: f"{start.label}-{seed}" for seed in range(work.seeds)}
        params = {
            seed: work.trained(label, start.learner, tasks, replace(run, seed=seed)).params
            for seed, label in labels.items()
        }
        spent = work.spent(labels.values())
        facts = {"training_tasks": sizes.tasks_per_step * run.steps}
        facts["cpu_seconds_of_training"] = round(spent.processor / len(params))
        arm = Arm(start.label, start.name, start.learner, params, facts, spent.wall, start.way)
        found.append(with_steps(work, base, arm, sizes))
    return found


def random_arms(work: Work, base: CausalLM, sizes: Sizes) -> tuple[Arm, Arm]:
    """Both ways from matrices that nothing was learned in, in context first."""
    params = {0: plain(base, 0, 1e-2).init(torch.Generator().manual_seed(0))}
    context = Arm("tuned-random", "steps in context, random start", reading(base, 0, 1e-2), params, way=reading)
    lora = Arm("random", "plain steps, random start (LoRA)", plain(base, 0, 1e-2), params, way=plain)
    return with_steps(work, base, context, sizes), with_steps(work, base, lora, sizes)


def with_steps(work: Work, base: CausalLM, arm: Arm, sizes: Sizes) -> Arm:
    """The arm with the number of steps and the rate of the lowest cross-entropy on queries of validation tasks."""
    way = arm.way
    if way is None:
        return arm

    def measure() -> list[tuple[float, int, float]]:
        tasks = encoded(TranslationTasks("validation", sizes.shots, sizes.queries), base, arm.learner)
        drawing = sizes.validations, SEED_OF_VALIDATION_TASKS
        settings = [(steps, rate) for steps in sizes.steps for rate in sizes.rates]
        scores = [each_score(way(base, *each), arm.params[0], tasks, *drawing) for each in settings]
        return [(float(score.mean()), *each) for score, each in zip(scores, settings, strict=True)]

    losses = work.once(f"steps-{arm.label}", [repr(arm.learner), dict(arm.facts), repr(sizes)], measure)
    loss, steps, rate = min(map(tuple, losses))
    facts = {**arm.facts, "rank": RANK, "steps": steps, "rate": rate, "validation_loss": loss}
    return replace(arm, learner=way(base, steps, rate), facts=facts)


def training_tasks(sizes: Sizes) -> Respelled:
    """Tasks in training dialects, spelled anew as those that the base has learned from: as they are, it knows them."""
    return Respelled(TranslationTasks("train", sizes.shots, QUERIES), most=0.9)


def encoded(source: TextTaskSource, base: CausalLM, learner: Learner) -> EncodedTextTasks:
    """The tasks as the learner reads them: in packed rows where each example counts by itself."""
    return EncodedTextTasks(source, partial(base.batch, pack=learner.packs))


def asked_tasks(sizes: Sizes, tests: int, shots: int) -> list[SQLTask]:
    """Tasks in test dialects."""
    source = TranslationTasks("test", shots, sizes.queries)
    generator = torch.Generator().manual_seed(SEED_OF_TEST_TASKS)
    return [source.draw(generator) for _ in range(tests)]


def judged(work: Work, arm: Arm, base: CausalLM, drawn: Sequence[SQLTask], sizes: Sizes) -> Row:
    """The row of an arm on these tasks."""

    def make() -> Row:
        began = time.perf_counter()
        scores: dict[int, WritingScores] = {}
        more: dict[str, list[float]] = {"exact": [], "parses": []}
        tasks = encoded(TranslationTasks("test"), base, arm.learner)
        for seed, params in arm.params.items():
            scores[seed] = evaluate_writing(arm.learner, params, tasks, drawn, partial(equal_trees, more), sizes.most)
        seconds = arm.seconds + time.perf_counter() - began
        facts = {**arm.facts, **percents(more)}
        for name in ("adapt_seconds", "write_seconds"):
            facts[f"{name}_median"] = float(torch.cat([getattr(each, name) for each in scores.values()]).median())
        return measured(arm.name, METRIC, {seed: each.values for seed, each in scores.items()}, seconds, facts=facts)

    settings = [repr(arm.learner), dict(arm.facts), list(arm.params), len(drawn), len(drawn[0].support), repr(sizes)]
    return work.row(f"row-{arm.label}", settings, make)


def equal_trees(more: Mapping[str, list[float]], task: SQLTask, texts: Sequence[str]) -> float:
    """Percent of the texts with the target's tree; percents that are exact and that parse are added to `more`."""
    scores = score_task(task, texts, run=False)
    for name, found in more.items():
        found.append(100 * sum(getattr(score, name) for score in scores) / len(scores))
    return 100 * sum(score.equal_tree for score in scores) / len(scores)


def percents(more: Mapping[str, list[float]]) -> dict[str, float]:
    """The means of what `equal_trees` added."""
    return {f"{name}_percent": sum(each) / len(each) for name, each in more.items()}
