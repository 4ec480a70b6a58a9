"""A learned optimiser on random quadratics and on small networks, beside hand-written ones at their own best rates.

What is the paper's: the quadratics, the small sigmoid network and its exchange for one of rectified units, the
coordinate-wise LSTM of two layers of 20 units, the preprocessing, the truncated unrolls. What is not: the LSTM gives
the rate and the decay of a momentum step in place of the step itself, its start imitates momentum, a step is bounded;
meta-training lowers the logarithm of the loss, differentiates through the gradients, and its unrolls grow; the network
is trained on drawn clouds of points, not on digits. The paper's rule and loss, with gradients held still, are a row of
their own. A mean over quadratics is ruled by the few that are nearly singular, on which no walk gets far in 100 steps:
the rows compare the means of log10 of the loss, and tell the plain means beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from quickstudy.backbones.linear import Linear
from quickstudy.backbones.mlp import MLP
from quickstudy.core.types import Params
from quickstudy.deltas.full import Full
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.learners.learned_rule import LearnedRule
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.learned_optimiser import L2O
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.reproduce.walks import HAND_WRITTEN, RATES, ByHand, Learned, Walker, best_rate, losses
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.optimisees import Quadratics, StartedTasks
from quickstudy.training.options import FitOptions

RULE = LearnedRule(output="relative")
ORDERS = "log10 of the loss"


@dataclass(frozen=True)
class Stage:
    """One part of the meta-training.

    Attributes:
        unroll: steps of a walk.
        updates: of the rule.
        lr: of the updates, falling to 0 by half a cosine.
        tasks: walks side by side.
    """

    unroll: int
    updates: int
    lr: float
    tasks: int = 32


@dataclass(frozen=True)
class Family:
    """Functions to minimise and how a rule is trained on them.

    Attributes:
        name: of the rows.
        label: of runs and pictures.
        network: what is moved.
        tasks: where functions come from.
        stages: of the meta-training of `rule`.
        rule: the learned rule.
        weighting: as in `L2O`.
        order: as in `L2O`.
        times: what the mean over a function's rows is multiplied with.
        logarithm: whether figures are `ORDERS`, else losses.
        tests: number of test functions.
        validations: number of functions on which rates are tuned.
    """

    name: str
    label: str
    network: Network
    tasks: TaskSource
    stages: tuple[Stage, ...]
    rule: LearnedRule = field(default_factory=lambda: RULE)
    weighting: Literal["sum", "log"] = "log"
    order: Literal["first", "second"] = "second"
    times: float = 1.0
    logarithm: bool = False
    tests: int = 1000
    validations: int = 200

    def score(self, values: Tensor) -> Tensor:
        """What the rows show of losses [..., task]."""
        return (self.times * values).clamp_min(1e-30).log10() if self.logarithm else self.times * values

    @property
    def metric(self) -> str:
        """Of the rows."""
        return ORDERS if self.logarithm else "loss"


def quadratics(quick: bool) -> Family:
    """|Wp - y|^2 in ten dimensions."""
    width = 4 if quick else 10
    stages = (Stage(50, 200, 1.5e-2), Stage(100, 900, 1e-2), Stage(200, 150, 2e-3))
    return Family(
        "quadratics",
        "quadratics",
        Network(Linear(width), Full()),
        Quadratics(width),
        (Stage(20, 100, 2e-2, 16),) if quick else stages,
        replace(RULE, hidden=10, layers=1) if quick else RULE,
        times=width,
        logarithm=True,
        tests=200 if quick else 1000,
        validations=50 if quick else 300,
    )


def papers(quick: bool) -> Family:
    """The same with the paper's own rule and loss."""
    family = quadratics(quick)
    stages = family.stages if quick else (Stage(20, 1000, 5e-3), Stage(100, 1000, 3e-3))
    rule = replace(family.rule, output="direct")
    return replace(family, label="papers", rule=rule, stages=stages, weighting="sum", order="first")


def networks() -> Family:
    """One hidden layer of 20 sigmoid units on clouds of points that overlap."""
    clouds = GaussianBlobs(ways=5, shots=30, queries=10, width=10, spread=0.4)
    return Family(
        "small networks",
        "networks",
        small_network("sigmoid"),
        StartedTasks(clouds, (10, 20, 5)),
        (Stage(50, 120, 5e-3, 4), Stage(100, 60, 1e-3, 4)),
        replace(RULE, limit=0.1, hold=True),
        tests=600,
        validations=30,
    )


def small_network(activation: str) -> Network:
    """Ten inputs, 20 units, five classes."""
    return Network(MLP((10, 20), activation), Full(), 5)


@dataclass(frozen=True)
class Bench:
    """A trained family, its test functions, and how far walks go.

    Attributes:
        work: as given.
        family: what is measured.
        weights: seed -> of the rule.
        seconds: of training.
    """

    work: Work
    family: Family
    weights: dict[int, Params]
    seconds: float

    @property
    def steps(self) -> int:
        """The horizon of the figures; ten times that is where nothing may have blown up."""
        return 20 if self.work.quick else 100

    def walks(self, walker: Walker, steps: int, network: Network | None = None, tests: int | None = None) -> Tensor:
        """[step, task]: scores along the walks on the first `tests` test functions, or all of them."""
        episodes = list(drawn_tasks(self.family.tasks, tests or self.family.tests, SEED_OF_TEST_TASKS))
        return self.family.score(losses(network or self.family.network, episodes, walker, steps))

    def learned(self, seed: int = 0) -> Walker:
        """The trained rule."""
        return Learned(self.family.rule, self.weights[seed])

    def by_hand(self, name: str, network: Network | None = None) -> ByHand:
        """A hand-written optimiser at the rate that is best by the mean score after `steps` on validation functions."""
        family, optimiser = self.family, HAND_WRITTEN[name]
        label = f"rate-{family.label}-{name}" + ("" if network is None else "-transferred")
        network = network or family.network
        rates = RATES[4::4] if self.work.quick else RATES

        def best() -> float:
            episodes = list(drawn_tasks(family.tasks, family.validations, SEED_OF_VALIDATION_TASKS))
            return best_rate(network, episodes, optimiser, family.score, self.steps, rates)

        settings = [repr(family), repr(network), name, self.steps, list(rates)]
        rate = self.work.once(label, settings, best)
        return ByHand(replace(optimiser, rate=rate))  # type: ignore[type-var] # each optimiser is a dataclass

    def row(self, label: str, name: str, make: Callable[[], tuple[dict[int, Tensor], dict[str, Any]]]) -> Row:
        """The row of what `make` returns: seed -> scores [task], and facts."""

        def made() -> Row:
            began = time.perf_counter()
            values, facts = make()
            total = self.seconds + time.perf_counter() - began
            return measured(f"{self.family.name}: {name}", self.family.metric, values, total, facts=facts)

        settings = [repr(self.family), name, self.steps, self.work.seeds]
        return self.work.row(f"row-{self.family.label}-{label}", settings, made)


def run(work: Work) -> list[Row]:
    """Rows of all families, controls included; draws the losses along the walks."""
    main = _trained(work, quadratics(work.quick))
    rows = [*_learned_rows(main, ""), *_control_rows(main)]
    _draw(main)
    if not work.quick:
        small = _trained(work, networks())
        rows += [*_learned_rows(small, ""), *_control_rows(small), *_transferred_rows(small)]
        _draw(small)
    return rows + _learned_rows(_trained(work, papers(work.quick)), ", the paper's rule and loss")


def _trained(work: Work, family: Family) -> Bench:
    weights, labels = {}, []
    for seed in range(work.seeds):
        start: Params | None = None
        for number, stage in enumerate(family.stages):
            learner = L2O(family.network, family.rule, stage.unroll, weighting=family.weighting, order=family.order)
            options = FitOptions(
                stage.updates,
                stage.tasks,
                lr=stage.lr,
                schedule="cosine",
                clip=1.0,
                mode="vmap",
                seed=1000 * number + seed,
            )
            labels.append(f"{family.label}-{seed}-{number}")
            start = work.trained(labels[-1], learner, family.tasks, options, start=start).params
        assert start is not None, "a family has at least one stage"
        weights[seed] = start
    return Bench(work, family, weights, work.spent(labels).wall)


def _learned_rows(bench: Bench, ending: str) -> list[Row]:
    """After the horizon of training, and after ten times that."""

    def reached(steps: int) -> tuple[dict[int, Tensor], dict[str, Any]]:
        walks = {seed: bench.walks(bench.learned(seed), steps) for seed in bench.weights}
        above = torch.stack([(walk[-1] > walk[bench.steps]).double().mean() for walk in walks.values()]).mean()
        facts = _facts(bench, {seed: walk[-1] for seed, walk in walks.items()})
        return {seed: walk[-1] for seed, walk in walks.items()}, {
            **facts,
            "percent_above_the_horizon": 100 * float(above),
        }

    return [
        bench.row(f"learned-{steps}", f"learned optimiser{ending}, {steps} steps", partial(reached, steps))
        for steps in (bench.steps, 10 * bench.steps)
    ]


def _control_rows(bench: Bench) -> list[Row]:
    """Hand-written optimisers at their own best rates, and a rule that was not trained."""

    def tuned(name: str) -> tuple[dict[int, Tensor], dict[str, Any]]:
        walker = bench.by_hand(name)
        values = {0: bench.walks(walker, bench.steps)[-1]}
        return values, {"rate": walker.optimiser.rate, "rates_tried": len(RATES), **_facts(bench, values)}

    def untrained() -> tuple[dict[int, Tensor], dict[str, Any]]:
        rule, values = bench.family.rule, {}
        for seed in bench.weights:
            weights = rule.init(torch.Generator().manual_seed(seed))
            values[seed] = bench.walks(Learned(rule, weights), bench.steps)[-1]
        return values, _facts(bench, values)

    wanted = {"untrained": (f"control: untrained LSTM, {bench.steps} steps", untrained)}
    for name in HAND_WRITTEN:
        wanted[name] = f"control: {name} at its own best rate, {bench.steps} steps", partial(tuned, name)
    return [bench.row(label, title, make) for label, (title, make) in wanted.items()]


def _transferred_rows(bench: Bench) -> list[Row]:
    """The rule that was trained on sigmoid units, on rectified ones, beside hand-written ones tuned there."""
    relu = small_network("relu")

    def learned(steps: int) -> tuple[dict[int, Tensor], dict[str, Any]]:
        return {seed: bench.walks(bench.learned(seed), steps, relu)[-1] for seed in bench.weights}, {}

    def tuned(name: str) -> tuple[dict[int, Tensor], dict[str, Any]]:
        walker = bench.by_hand(name, relu)
        return {0: bench.walks(walker, bench.steps, relu)[-1]}, {"rate": walker.optimiser.rate}

    name = "ReLU in place of sigmoid"
    rows = [
        bench.row(f"relu-{steps}", f"{name}, learned optimiser, {steps} steps", partial(learned, steps))
        for steps in (bench.steps, 10 * bench.steps)
    ]
    for each in ("momentum", "Adam"):
        label = f"{name}, control: {each} at its own best rate, {bench.steps} steps"
        rows.append(bench.row(f"relu-{each}", label, partial(tuned, each)))
    return rows


def _facts(bench: Bench, values: dict[int, Tensor]) -> dict[str, Any]:
    """The plain mean, the median and the largest of the losses, all seeds together."""
    found = torch.cat(list(values.values())).double()
    found = 10**found if bench.family.logarithm else found
    return {"plain_mean": float(found.mean()), "median": float(found.median()), "largest": float(found.max())}


def _draw(bench: Bench) -> None:
    """Median loss against steps, both axes logarithmic; the first seed, ten times the horizon."""
    steps = 10 * bench.steps
    rule = bench.family.rule
    walkers: dict[str, Walker] = {"learned optimiser": bench.learned()}
    for name in HAND_WRITTEN:
        by_hand = bench.by_hand(name)
        walkers[f"{name}, rate {by_hand.optimiser.rate:.3g}"] = by_hand
    walkers["untrained LSTM"] = Learned(rule, rule.init(torch.Generator().manual_seed(0)))
    tests = min(bench.family.tests, 100)
    curves = {name: bench.walks(walker, steps, tests=tests).median(1).values for name, walker in walkers.items()}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, values in curves.items():
            axes.plot(range(1, steps + 2), 10**values if bench.family.logarithm else values, label=name)
        axes.axvline(bench.steps + 1, color="0.7", linewidth=0.8)
        axes.set(xlabel="steps + 1", ylabel=f"median loss, {bench.family.name}", xscale="log", yscale="log")
        axes.legend(fontsize="small")

    bench.work.picture(draw, bench.family.label)


LEARNED_OPTIMISER = Reproduction(
    "learned_optimiser", "an LSTM as optimiser, on quadratics and small networks", run, hours=0.5
)
