"""SNAIL on Omniglot: one-shot tasks of 5 and 20 ways. Mishra, Rohaninejad, Chen, Abbeel, 2018, arXiv 1707.03141.

The paper trains embedding and SNAIL together. Here the embedding is the Conv4 of a prototypical network, held still;
SNAIL is trained on its features. Class means on the same features stand beside it, for they tell what SNAIL adds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.identity import Identity
from quickstudy.core.files import read_tensors, write_tensors
from quickstudy.core.parameters import digest
from quickstudy.core.types import Params
from quickstudy.deltas.full import Full
from quickstudy.deltas.head import Head
from quickstudy.evaluation.protocol import evaluate
from quickstudy.learners.base import Learner
from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.learners.memory.snail import SNAIL
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.network import Network
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.reproduce.fixed_statistics import frozen
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.feature_classes import FeatureClasses
from quickstudy.tasks.image_classes import QUARTERS
from quickstudy.tasks.omniglot import Omniglot, Split, split_rows
from quickstudy.tasks.omniglot_files import read_drawings
from quickstudy.training.loop import Fitted
from quickstudy.training.options import FitOptions

METRIC = "accuracy, percent"
PAPER = "Mishra et al. 2018, arXiv 1707.03141"
PUBLISHED = {5: 99.07, 20: 97.64}
SPLITS: tuple[Split, Split] = ("train+validation", "test")


@dataclass(frozen=True)
class Case:
    """SNAIL for one number of ways.

    Attributes:
        ways: classes of a task.
        filters: as in `SNAIL`.
        attention: as in `SNAIL`.
        options: of its training.
        queries: query examples of each class of a training task.
    """

    ways: int
    filters: int
    attention: tuple[tuple[int, int], ...]
    options: FitOptions
    queries: int = 2

    def learner(self, width: int, device: str) -> SNAIL:
        """SNAIL on features of that width."""
        return SNAIL(features_network(width, device), self.ways, self.ways, self.filters, self.attention)


def cases(quick: bool) -> tuple[Case, ...]:
    """The numbers of ways."""
    options = FitOptions(8000, 32, lr=1e-3, schedule="cosine", warmup=200, clip=1.0, mode="vmap")
    options = replace(options, checkpoint_every=200)
    if quick:
        return (Case(5, 16, ((16, 16), (32, 16)), replace(options, steps=400, tasks_per_step=16, lr=3e-3, warmup=20)),)
    five = Case(5, 64, ((64, 32), (128, 64), (128, 64)), options)
    return five, Case(20, 32, ((64, 32), (128, 64), (128, 64)), options, queries=1)


def features_network(width: int, device: str) -> Network:
    """Inputs that are features already."""
    return Network(Identity(width), Head(), device=device)


def run(work: Work) -> list[Row]:
    """Rows for each number of ways, each followed by its controls; draws training losses."""
    rows: list[Row] = []
    curves: dict[str, list[float]] = {}
    data = {seed: computed(work, seed) for seed in range(work.seeds)}
    for case in cases(work.quick):
        fits: dict[int, Fitted] = {}
        for seed, (train, _) in data.items():
            tasks = replace(train, ways=case.ways, queries=case.queries)
            learner = case.learner(train.features.shape[1], work.device)
            label = f"snail-{case.ways}-{seed}"
            fits[seed] = work.trained(label, learner, tasks, replace(case.options, seed=seed))
        seconds = work.spent(f"{name}-{seed}" for seed in fits for name in ("protonet", f"snail-{case.ways}")).wall
        tests = {seed: replace(test, ways=case.ways) for seed, (_, test) in data.items()}
        rows += _rows(work, case, {seed: found.params for seed, found in fits.items()}, tests, seconds)
        curves[f"{case.ways}-way"] = [row["loss"] for row in fits[0].history]
    work.picture(partial(_draw, curves=curves))
    return rows


def computed(work: Work, seed: int) -> tuple[FeatureClasses, FeatureClasses]:
    """Features of the training and of the test characters, by a prototypical network trained with `seed`."""
    network, params = embedding(work, seed)
    path = work.folder / f"features-{digest(params)[:16]}.safetensors"
    if not path.exists():
        work.tell("computing features")
        found: dict[str, Tensor] = {}
        for split in SPLITS:
            features, counts = split_features(network, params, split, 120 if work.quick else None)
            found |= {f"{split}.features": features, f"{split}.counts": counts}
        write_tensors(path, found)
    kept = read_tensors(path)
    scale = float(kept[f"{SPLITS[0]}.features"].square().mean().rsqrt())
    train, test = (
        FeatureClasses(kept[f"{split}.features"] * scale, tuple(kept[f"{split}.counts"].tolist()), shots=1, queries=5)
        for split in SPLITS
    )
    return train, test


def embedding(work: Work, seed: int) -> tuple[Network, Params]:
    """A Conv4 trained as a prototypical network, with fixed statistics in place of those of a batch."""
    options = FitOptions(2000, 1, lr=4e-3, schedule="cosine", mode="loop", precision="bfloat16", seed=seed)
    if work.quick:
        options = replace(options, steps=100, lr=2e-2, precision="float32")
    body = Conv4(widths=(16,) * 4) if work.quick else Conv4()
    tasks = Omniglot(SPLITS[0], 20 if work.quick else 60, 1, 5)
    learner = ProtoNet(Network(body, Full(), device=work.device), scale=0.1)
    learner, params = frozen(learner, work.trained(f"protonet-{seed}", learner, tasks, options).params, tasks)
    return learner.network, params


def split_features(network: Network, params: Params, split: Split, most: int | None = None) -> tuple[Tensor, Tensor]:
    """Features [row, feature] of the first `most` characters of a split, None for all, each turned in four ways, and
    counts [class]."""
    drawings = read_drawings()
    features, counts = [], []
    for row in split_rows(drawings, split)[:most]:
        upright = drawings.images[row, drawings.distinct[row]][:, None].float().div(255)
        turned = torch.cat([torch.rot90(upright, quarters, (2, 3)) for quarters in range(QUARTERS)])
        with torch.no_grad():
            features.append(network.features(params, turned.to(network.device)).cpu())
        counts += [len(upright)] * QUARTERS
    return torch.cat(features), torch.tensor(counts)


def _rows(
    work: Work, case: Case, params: Mapping[int, Params], tests: Mapping[int, FeatureClasses], seconds: float
) -> list[Row]:
    """SNAIL, class means on the same features, SNAIL untrained, and on shuffled labels."""
    width, told = tests[0].features.shape[1], f"{case.ways}-way 1-shot"
    learner, means = case.learner(width, work.device), ProtoNet(features_network(width, work.device))
    drawn = {seed: learner.init(torch.Generator().manual_seed(seed)) for seed in params}
    shuffled = {seed: ShuffledLabels(each) for seed, each in tests.items()}
    facts = {
        "updates": case.options.steps,
        "tasks_per_update": case.options.tasks_per_step,
        "embedding": "ProtoNet Conv4",
    }
    empty: dict[int, Params] = {seed: {} for seed in params}
    published = {"published": PUBLISHED[case.ways], "published_source": PAPER, "facts": facts}
    wanted: tuple[tuple[str, Learner, Mapping[int, Params], Mapping[int, TaskSource], dict[str, Any]], ...] = (
        (f"SNAIL, {told}", learner, params, tests, {**published, "seconds": seconds}),
        (f"control: class means on the same features, {told}", means, empty, tests, {}),
        (f"control: SNAIL untrained, {told}", learner, drawn, tests, {}),
        (f"control: SNAIL, shuffled support labels, {told}", learner, params, shuffled, {}),
    )

    def made(number: int) -> Row:
        name, tested, starts, sources, more = wanted[number]
        began, count = time.perf_counter(), 60 if work.quick else 1000
        values = {
            seed: 100 * evaluate(tested, start, sources[seed], count, SEED_OF_TEST_TASKS, mode="vmap").values
            for seed, start in starts.items()
        }
        spent = more.pop("seconds", 0.0) + time.perf_counter() - began
        return measured(name, METRIC, values, spent, **more)

    settings = [repr(case), str(work.seeds)]
    return [work.row(f"row-{case.ways}-{number}", settings, partial(made, number)) for number in range(len(wanted))]


def _draw(figure: Any, curves: Mapping[str, list[float]]) -> None:
    """Training losses, each point the mean over a hundredth of the run."""
    axes = figure.subplots()
    for name, losses in curves.items():
        width = max(len(losses) // 100, 1)
        means = torch.tensor(losses)[: len(losses) // width * width].reshape(-1, width).mean(1)
        axes.plot(torch.arange(1, len(means) + 1) * width, means, label=name)
    axes.set(xlabel="updates", ylabel="training loss", yscale="log")
    axes.legend()


SNAIL_OMNIGLOT = Reproduction(
    "snail_omniglot",
    "SNAIL on Omniglot, 5-way and 20-way 1-shot, on the features of a prototypical network",
    run,
    needs="QUICKSTUDY_DATA",
    hours=1.5,
)
