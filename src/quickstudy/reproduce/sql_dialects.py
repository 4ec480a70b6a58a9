"""SQL dialects never seen, from ten examples each: meta-learned LoRA on the base that ships, with controls.

Nothing is published for these tasks: the dialects are invented or left out of all training, and sqlglot's tree is the
judge. Every arm starts from the same base, tunes its own rate and number of steps on validation dialects, and is judged
on the same test tasks. The warm start takes the processor time that meta-training took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from quickstudy.backbones.causal_lm import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Adam
from quickstudy.core.types import Params
from quickstudy.deltas.head import Head
from quickstudy.deltas.lora import LoRA
from quickstudy.evaluation.protocol import each_score
from quickstudy.evaluation.writing import WritingScores, evaluate_writing
from quickstudy.learners.base import Learner
from quickstudy.learners.blackbox.hyper_lora import HyperLoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.sql.scores import copy_input, nearest_known, score_task
from quickstudy.tasks.sql.tasks import SQLTask, TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks, Pair
from quickstudy.training.options import FitOptions

METRIC = "queries with the target's tree, percent"
BASE = "quickstudy-sql"
RATES = (1e-3, 3e-3, 1e-2)
STEPS = (5, 20, 60)
MODELLESS = {"copy the input": copy_input, "nearest known dialect": nearest_known}
RANK = 8
"""Of all matrices, which stand beside every linear layer."""


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        updates: of meta-training; 0 to take what ships.
        tests: test tasks.
        validations: tasks on which rates and steps are chosen.
        rates: among which each arm takes its best one.
        steps: likewise.
        shots: examples of each task.
        queries: what is asked of each test task.
        most: tokens written for each.
        tasks_per_step: of meta-training.
    """

    updates: int = 1200
    tests: int = 60
    validations: int = 12
    rates: tuple[float, ...] = RATES
    steps: tuple[int, ...] = STEPS
    shots: int = 10
    queries: int = 10
    most: int = 256
    tasks_per_step: int = 4


QUICK = Sizes(
    updates=1, tests=2, validations=1, rates=(3e-3,), steps=(2,), shots=5, queries=2, most=80, tasks_per_step=1
)


@dataclass(frozen=True)
class Start:
    """Where adapting starts from.

    Attributes:
        label: of its training run and its rows.
        name: for the table.
        learner: what is trained; its own inner loop may have another number of steps than the user's.
        shots: examples of each training task; 0 for as many as test tasks have.
        queries: what is asked of it.
        passes: examples that one training task runs forward and backward, to make the arms' computing equal.
    """

    label: str
    name: str
    learner: Learner
    shots: int
    queries: int
    passes: float


def language_model(device: str = "cpu") -> CausalLM:
    """The base, in the precision that it is stored in."""
    return CausalLM(BASE, max_tokens=2048, between="\n", dtype="bfloat16", device=device)


def network(base: CausalLM) -> Network:
    """The base with LoRA beside all its linear layers."""
    return Network(base, LoRA(RANK, 2 * RANK, base.linears), device=base.device)


def adapting(base: CausalLM, steps: int, rate: float) -> MAML:
    """So many steps of Adam on the matrices."""
    return MAML(network(base), InnerLoop(steps, Adam(rate), clip=1.0, order="first"))


def starts(base: CausalLM) -> tuple[Start, ...]:
    """What is trained: meta-learned matrices, the same by plain training on all tasks, and the hypernetwork."""
    hyper = HyperLoRA(network(base), "examples")
    return (
        Start("maml", "LoRA meta-learned (first-order MAML)", adapting(base, 5, 1e-2), 0, 6, 5 * 10 + 6),
        Start("warm", "LoRA warm start (all tasks, no inner steps)", adapting(base, 0, 1e-2), 1, 15, 15),
        Start("hyper", "HyperLoRA from the examples", hyper, 0, 6, 10 / 3 + 6),
    )


def training_tasks(base: CausalLM, start: Start, sizes: Sizes) -> EncodedTextTasks:
    """Training tasks of a start."""
    return EncodedTextTasks(TranslationTasks("train", start.shots or sizes.shots, start.queries), base.batch)


def options(start: Start, sizes: Sizes, first: Start) -> FitOptions:
    """Of the training of `start`: as many passes in all as that of `first` takes."""
    steps = round(sizes.updates * first.passes / start.passes)
    return FitOptions(
        steps,
        sizes.tasks_per_step,
        lr=1e-3,
        schedule="cosine",
        warmup=steps // 20,
        clip=1.0,
        mode="loop",
        checkpoint_every=50,
    )


def asked_tasks(sizes: Sizes) -> list[SQLTask]:
    """Tasks in test dialects."""
    source = TranslationTasks("test", sizes.shots, sizes.queries)
    generator = torch.Generator().manual_seed(SEED_OF_TEST_TASKS)
    return [source.draw(generator) for _ in range(sizes.tests)]


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
    """

    label: str
    name: str
    learner: Learner
    params: Mapping[int, Params]
    facts: Mapping[str, Any]
    seconds: float = 0.0


def run(work: Work) -> list[Row]:
    """Rows of the arms, then those of the controls; draws the accuracies."""
    base = language_model(work.device)
    sizes = QUICK if work.quick else Sizes()
    drawn = asked_tasks(sizes)
    found = trained(work, base, sizes)
    arms = [*_from_starts(work, base, found, sizes), *_without_training(work, base, sizes)]
    rows = [_row(work, arm, base, drawn, sizes) for arm in arms]
    shuffled = [_shuffled(task, number) for number, task in enumerate(drawn)]
    for arm in arms[: len(found)]:
        control = replace(arm, label=f"{arm.label}-shuffled", name=f"control: {arm.name}, completions dealt out anew")
        rows.append(_row(work, control, base, shuffled, sizes))
    rows += [_written(work, name, write, drawn, sizes) for name, write in MODELLESS.items()]
    work.picture(partial(_draw, rows), size=(7.0, 4.0))
    return rows


def trained(work: Work, base: CausalLM, sizes: Sizes) -> dict[str, tuple[Start, dict[int, Params]]]:
    """Label -> the start, and seed -> what was trained."""
    found = {}
    every = starts(base)
    for start in every:
        tasks = training_tasks(base, start, sizes)
        run = options(start, sizes, every[0])
        fits = {
            seed: work.trained(f"{start.label}-{seed}", start.learner, tasks, replace(run, seed=seed)).params
            for seed in range(work.seeds)
        }
        found[start.label] = start, fits
    return found


def tuned(work: Work, label: str, base: CausalLM, params: Params, sizes: Sizes) -> tuple[int, float]:
    """Steps and rate with the lowest cross-entropy on the queries of validation tasks."""

    def measure() -> list[list[float]]:
        tasks = EncodedTextTasks(TranslationTasks("validation", sizes.shots, sizes.queries), base.batch)
        drawing = sizes.validations, SEED_OF_VALIDATION_TASKS
        return [
            [float(each_score(adapting(base, steps, rate), params, tasks, *drawing).mean()) for rate in sizes.rates]
            for steps in sizes.steps
        ]

    losses = work.once(f"tuned-{label}", [label, repr(sizes)], measure)
    pairs = [(losses[i][j], steps, rate) for i, steps in enumerate(sizes.steps) for j, rate in enumerate(sizes.rates)]
    return min(pairs)[1:]


def _from_starts(
    work: Work, base: CausalLM, found: Mapping[str, tuple[Start, dict[int, Params]]], sizes: Sizes
) -> list[Arm]:
    arms = []
    for label, (start, params) in found.items():
        learner: Learner = start.learner
        facts: dict[str, Any] = {"rank": RANK}
        if isinstance(learner, MAML):
            steps, rate = tuned(work, label, base, params[0], sizes)
            learner, facts = adapting(base, steps, rate), facts | {"steps": steps, "rate": rate}
        spent = work.spent(f"{label}-{seed}" for seed in params)
        facts |= {"training_tasks": sizes.tasks_per_step * options(start, sizes, starts(base)[0]).steps}
        facts |= {"cpu_seconds_of_training": round(spent.processor / len(params))}
        arms.append(Arm(label, start.name, learner, params, facts, spent.wall))
    return arms


def _without_training(work: Work, base: CausalLM, sizes: Sizes) -> list[Arm]:
    random = adapting(base, 0, 1e-2).init(torch.Generator().manual_seed(0))
    steps, rate = tuned(work, "random", base, random, sizes)
    facts = {"rank": RANK, "steps": steps, "rate": rate}
    plain = Network(base, Head(), device=base.device)
    return [
        Arm("random", "LoRA from a random start", adapting(base, steps, rate), {0: random}, facts),
        Arm("context", "the examples before each query", Demonstrations(plain), {0: {}}, {}),
        Arm("nearest-context", "the 5 nearest of them", Demonstrations(plain, "nearest", 5), {0: {}}, {}),
        Arm("unadapted", "control: the base as it is", adapting(base, 0, rate), {0: random}, {}),
    ]


def _row(work: Work, arm: Arm, base: CausalLM, drawn: Sequence[SQLTask], sizes: Sizes) -> Row:
    def make() -> Row:
        began = time.perf_counter()
        scores: dict[int, WritingScores] = {}
        more: dict[str, list[float]] = {"exact": [], "parses": []}
        tasks = EncodedTextTasks(TranslationTasks("test"), base.batch)
        for seed, params in arm.params.items():
            scores[seed] = evaluate_writing(arm.learner, params, tasks, drawn, partial(equal_trees, more), sizes.most)
        seconds = arm.seconds + time.perf_counter() - began
        facts = {**arm.facts, **_percents(more)}
        facts["adapt_seconds_median"] = float(torch.cat([each.adapt_seconds for each in scores.values()]).median())
        return measured(arm.name, METRIC, {seed: each.values for seed, each in scores.items()}, seconds, facts=facts)

    return work.row(f"row-{arm.label}", [repr(arm.learner), dict(arm.facts), list(arm.params), repr(sizes)], make)


def equal_trees(more: Mapping[str, list[float]], task: SQLTask, texts: Sequence[str]) -> float:
    """Percent of the texts with the target's tree; percents that are exact and that parse are added to `more`."""
    scores = score_task(task, texts, run=False)
    for name, found in more.items():
        found.append(100 * sum(getattr(score, name) for score in scores) / len(scores))
    return 100 * sum(score.equal_tree for score in scores) / len(scores)


def _written(
    work: Work, name: str, write: Callable[[SQLTask], Sequence[str]], drawn: Sequence[SQLTask], sizes: Sizes
) -> Row:
    """The row of a control without a model."""

    def make() -> Row:
        began = time.perf_counter()
        more: dict[str, list[float]] = {"exact": [], "parses": []}
        values = torch.tensor([equal_trees(more, task, write(task)) for task in drawn])
        seconds = time.perf_counter() - began
        return measured(f"control: {name}", METRIC, {0: values}, seconds, facts=_percents(more))

    return work.row(f"row-{name}", [name, repr(sizes)], make)


def _percents(more: Mapping[str, list[float]]) -> dict[str, float]:
    return {f"{name}_percent": sum(each) / len(each) for name, each in more.items()}


def _shuffled(task: SQLTask, number: int) -> SQLTask:
    """The task with the completions of its support dealt out anew."""
    order = torch.randperm(len(task.support), generator=torch.Generator().manual_seed(number)).tolist()
    pairs = zip(task.support, order, strict=True)
    return replace(task, support=tuple(Pair(pair.prompt, task.support[other].completion) for pair, other in pairs))


def _draw(rows: Sequence[Row], figure: Any) -> None:
    """A bar for each row, the best on top."""
    axes = figure.subplots()
    order = sorted(rows, key=lambda row: row.mean)
    axes.barh([row.name for row in order], [row.mean for row in order], xerr=[row.ci95 or 0.0 for row in order])
    axes.set(xlabel=METRIC, xlim=(0, 100))


SQL_DIALECTS = Reproduction(
    "sql_dialects",
    "SQL dialects never seen, from ten examples: meta-learned LoRA and HyperLoRA, with controls",
    run,
    hours=6.0,
)
