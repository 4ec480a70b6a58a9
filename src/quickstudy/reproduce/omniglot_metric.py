"""Omniglot by comparing: prototypical, matching, relation and siamese networks, Lake's one-shot runs, and controls."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.conv4 import Conv4
from quickstudy.core.types import Episode, Fingerprint, Json, Params
from quickstudy.deltas.full import Full
from quickstudy.deltas.head import Head
from quickstudy.evaluation.protocol import evaluate, query_score
from quickstudy.learners.base import Learner
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.metric.matching import Matching
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.metric.relation import Relation
from quickstudy.learners.metric.siamese import Siamese
from quickstudy.learners.network import Network
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.reproduce.fixed_statistics import frozen
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.omniglot import Omniglot, Split, lake_runs
from quickstudy.training.metrics import Row as Step
from quickstudy.training.options import FitOptions

METRIC = "accuracy, percent"
SNELL = "Snell et al. 2017, arXiv 1703.05175"
VINYALS = "Vinyals et al. 2016, arXiv 1606.04080"
SUNG = "Sung et al. 2018, arXiv 1711.06025, unverified"
KOCH = "Koch et al. 2015, as quoted by Sung et al. 2018, arXiv 1711.06025, unverified"
HUMAN = "people; Lake et al. 2015, unverified"
QUERIES = 5
"""Query examples of each class, in training and in testing."""

SMOOTH = 20
"""Steps whose losses are averaged in the picture."""


@dataclass(frozen=True)
class Case:
    """A learner, its training, and what was published of it.

    Attributes:
        label: of its run.
        name: of its rows.
        learner: as it is meta-trained; `frozen` makes of it what is tested.
        ways: classes of a training task.
        options: of its training.
        published: number of ways -> accuracy at one shot.
        source: of these.
        split: characters that it is trained on.
        queries: query examples of each class of a training task.
    """

    label: str
    name: str
    learner: Learner
    ways: int
    options: FitOptions
    published: Mapping[int, float]
    source: str
    split: Split = "train+validation"
    queries: int = QUERIES


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        ways: numbers of classes of the test tasks.
        tasks: test tasks for each.
        widths: filters of the blocks.
    """

    ways: tuple[int, ...] = (5, 20)
    tasks: int = 1000
    widths: tuple[int, ...] = (64, 64, 64, 64)


QUICK = Sizes((5,), 60, (16, 16, 16, 16))


def sizes(quick: bool) -> Sizes:
    """What is measured."""
    return QUICK if quick else Sizes()


def cases(quick: bool, device: str = "cpu") -> tuple[Case, ...]:
    """Prototypes, the other learners, and prototypes on Lake's background characters."""
    widths = sizes(quick).widths
    body = Network(Conv4(widths=widths), Full(), device=device)
    maps = Network(Conv4(widths=widths, halvings=2), Full(), device=device)
    plan = partial(_options, quick)
    wide, narrow = (10, 10) if quick else (60, 20)
    proto = ProtoNet(body, scale=0.1)
    matching = Matching(body, scale=20.0)
    relation = Relation(maps, objective="cross_entropy")
    siamese = Siamese(body, equal_share=1 / narrow)
    found = [
        Case("protonet", "ProtoNet", proto, wide, plan(2000, 4e-3), {5: 98.8, 20: 96.0}, SNELL),
        Case("matching", "Matching", matching, wide, plan(2000, 4e-3), {5: 98.1, 20: 93.8}, VINYALS),
        Case("relation", "Relation", relation, narrow, plan(8000, 4e-3), {5: 99.6, 20: 97.6}, SUNG),
        Case("siamese", "Siamese", siamese, narrow, plan(5000, 4e-3), {5: 96.7, 20: 88.0}, KOCH),
    ]
    if not quick:
        found += [Case("protonet-lake", "ProtoNet", proto, wide, plan(2000, 4e-3), {}, HUMAN, "background")]
    return tuple(found)


def _options(quick: bool, steps: int, lr: float) -> FitOptions:
    if quick:
        return FitOptions(100, 1, lr=2e-2, schedule="cosine", mode="loop", checkpoint_every=1000)
    return FitOptions(steps, 1, lr=lr, schedule="cosine", mode="loop", precision="bfloat16", checkpoint_every=100)


@dataclass(frozen=True)
class Trained:
    """A meta-trained learner, ready to be tested.

    Attributes:
        case: what it is.
        learner: without statistics of batches, so that a query's answer depends on no other query.
        params: training seed -> those of `learner`.
        history: of the first seed.
        seconds: that training took, all seeds together.
    """

    case: Case
    learner: Learner
    params: Mapping[int, Params]
    history: tuple[Step, ...]
    seconds: float


def run(work: Work) -> list[Row]:
    """Rows of the learners, Lake's runs, and controls; draws losses and accuracies."""
    trained = [_trained(work, case) for case in cases(work.quick, work.device)]
    rows = [row for each in trained for row in (_lake_rows if each.case.split == "background" else _rows)(work, each)]
    rows += _controls(work, trained[0])
    work.picture(lambda figure: draw(figure, trained, rows), size=(9.0, 4.0))
    return rows


def _trained(work: Work, case: Case) -> Trained:
    tasks = Omniglot(case.split, case.ways, 1, case.queries)
    labels = [f"{case.label}-{seed}" for seed in range(work.seeds)]
    fits, found = {}, {}
    for seed, label in enumerate(labels):
        fits[seed] = work.trained(label, case.learner, tasks, replace(case.options, seed=seed))
        found[seed] = frozen(case.learner, fits[seed].params, tasks)
    params = {seed: params for seed, (_, params) in found.items()}
    return Trained(case, found[0][0], params, fits[0].history, work.spent(labels).wall)


def _rows(work: Work, trained: Trained) -> list[Row]:
    """On the test characters, for each number of ways."""
    case = trained.case
    return [
        _row(
            work,
            f"{case.name}, {ways}-way 1-shot",
            (trained.learner, trained.params),
            unseen(ways),
            seconds=trained.seconds,
            facts=settings(case),
            published=case.published[ways],
            published_source=case.source,
        )
        for ways in sizes(work.quick).ways
    ]


def _controls(work: Work, trained: Trained) -> list[Row]:
    """Prototypes without training, nearest neighbours of pixels, and labels that were dealt out anew."""
    case = trained.case
    tasks = Omniglot(case.split, case.ways, 1, case.queries)
    drawn = {seed: case.learner.init(torch.Generator().manual_seed(seed)) for seed in range(work.seeds)}
    start = {seed: frozen(case.learner, params, tasks)[1] for seed, params in drawn.items()}
    pixels = ProtoNet(Network(Pixels(), Head(), device=work.device))
    rows = []
    for ways in sizes(work.quick).ways:
        plain, shuffled = unseen(ways), ShuffledLabels(unseen(ways))
        told = f"{ways}-way 1-shot"
        untrained = (trained.learner, start)
        rows += [
            _row(work, f"control: ProtoNet, untrained, {told}", untrained, plain, facts={"training": "none"}),
            _row(work, f"control: pixels, nearest neighbour, {told}", (pixels, {0: {}}), plain, facts={}),
            _row(
                work,
                f"control: ProtoNet, shuffled support labels, {told}",
                (trained.learner, trained.params),
                shuffled,
                seconds=trained.seconds,
                facts=settings(case),
            ),
        ]
    return rows


def _row(work: Work, name: str, tested: tuple[Learner, Mapping[int, Params]], tasks: TaskSource, **more: Any) -> Row:
    """The accuracy of a learner with the parameters of each seed, on the same tasks."""
    learner, params = tested
    count = sizes(work.quick).tasks

    def make() -> Row:
        began = time.perf_counter()
        scores = {
            seed: 100 * evaluate(learner, each, tasks, count, SEED_OF_TEST_TASKS, "loop").values
            for seed, each in params.items()
        }
        taken = time.perf_counter() - began
        return measured(name, METRIC, scores, **{**more, "seconds": more.get("seconds", 0.0) + taken})

    return work.row(label_of(name), {"tasks": count, "seeds": len(params), "facts": more["facts"]}, make)


def _lake_rows(work: Work, trained: Trained) -> list[Row]:
    """Lake's 20 runs; an interval over 20 is wide."""
    runs: list[Episode] = [tree_map(lambda leaf: leaf.to(work.device), run) for run in lake_runs()]

    def score(params: Params, episode: Episode) -> Tensor:
        with torch.no_grad():
            return 100 * query_score(trained.learner, params, episode).cpu()

    scores = {
        seed: torch.stack([score(params, episode) for episode in runs]) for seed, params in trained.params.items()
    }
    name = f"{trained.case.name}, Lake's 20 one-shot runs, 20 characters of one alphabet"
    told = {"facts": settings(trained.case), "published": 95.5, "published_source": HUMAN}
    return [measured(name, METRIC, scores, trained.seconds, **told)]


def unseen(ways: int) -> TaskSource:
    """One-shot tasks of characters that no learner has seen."""
    return Omniglot("test", ways, 1, QUERIES)


def settings(case: Case) -> dict[str, Json]:
    """What a reader needs to know of the training."""
    told = {name: getattr(case.options, name) for name in ("steps", "lr", "precision")}
    told |= {name: value for name, value in vars(case.learner).items() if isinstance(value, int | float | str)}
    told["statistics"] = "fixed, of training tasks: no query sees another"
    return {"training": f"{case.ways}-way 1-shot, {case.queries} queries a class, {case.split}", **told}


def label_of(name: str) -> str:
    """`name` as the name of a file."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


@dataclass(frozen=True)
class Pixels(Backbone):
    """The image itself."""

    size: tuple[int, int] = (28, 28)

    @property
    def width(self) -> int:
        """The number of pixels."""
        return math.prod(self.size)

    @property
    def fingerprint(self) -> Fingerprint | None:
        """None: there is no file behind it."""
        return None

    def module(self) -> nn.Module:
        """Flattens."""
        return nn.Flatten()

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """No parameters."""
        return {}


def draw(figure: Any, trained: Sequence[Trained], rows: Sequence[Row]) -> None:
    """Losses of training, each as a share of its first ones, and accuracies beside the published ones."""
    left, right = figure.subplots(1, 2)
    for each in trained:
        losses = torch.tensor([step["loss"] for step in each.history])
        smooth = losses[: len(losses) // SMOOTH * SMOOTH].reshape(-1, SMOOTH).mean(1)
        steps = [SMOOTH * (number + 1) for number in range(len(smooth))]
        left.semilogy(steps, (smooth / smooth[0]).tolist(), label=each.case.label)
    left.set(xlabel="meta-training step", ylabel="training loss / first loss")
    left.legend()
    ending = rows[-1].name.rpartition(", ")[2]
    last = [row for row in rows if row.name.endswith(ending)]
    places = range(len(last))
    right.barh(places, [row.mean for row in last], xerr=[row.ci95 or 0 for row in last], color="tab:blue")
    known = [(row.published, place) for row, place in zip(last, places, strict=True) if row.published is not None]
    right.plot(*zip(*known, strict=True), "k|", markersize=14, label="published")
    right.set(yticks=places, yticklabels=[row.name.rpartition(",")[0] for row in last])
    right.set(xlabel=METRIC, xlim=(0, 100), title=ending)
    right.invert_yaxis()
    right.legend()


OMNIGLOT_METRIC = Reproduction(
    name="omniglot_metric",
    about="Omniglot: prototypical, matching, relation and siamese networks, and Lake's one-shot runs",
    run=run,
    needs="QUICKSTUDY_DATA",
    hours=1.2,
)
