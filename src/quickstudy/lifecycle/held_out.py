"""How good an adapter will be, from its own support: each part of the examples is judged by what the rest teaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.types import Batch, Params
from quickstudy.learners.base import Learner
from quickstudy.learners.rows import take

PRIOR_SPREAD = 0.3
"""How far the logarithm of the temperature is expected to lie from 0, which the method's own scale is made for. It
decides only where there are few examples."""

_GRID = 401


@dataclass(frozen=True)
class HeldOut:
    """Answers on examples by adapters that were made without them.

    Attributes:
        logits: [example, ways].
        targets: [example] class numbers.
    """

    logits: Tensor
    targets: Tensor

    @property
    def accuracy(self) -> float:
        """The share that is right."""
        return float((self.logits.argmax(-1) == self.targets).double().mean())


def deal_folds(targets: Sequence[int], folds: int, generator: torch.Generator) -> Tensor:
    """[example]: the fold of each, such that the examples of each class are in as many folds as can be.

    There are at most `folds`, and no more than examples.
    """
    count = min(folds, len(targets))
    dealt = torch.empty(len(targets), dtype=torch.long)
    next_fold = 0
    numbers = torch.tensor(targets)
    for target in sorted(set(targets)):
        rows = (numbers == target).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        dealt[rows] = (torch.arange(len(rows)) + next_fold) % count
        next_fold += len(rows)
    return dealt


def held_out(learner: Learner, params: Params, support: Batch, folds: Tensor) -> HeldOut:
    """The answers on the examples of each fold, adapted to the support without that fold.

    Args:
        learner: adapts and predicts.
        params: its meta-parameters.
        support: examples first, then rows that are in no fold, such as class names.
        folds: [example] the fold of each of the first rows. Examples whose class has no row outside their fold are
            left out, for nothing could answer them.
    """
    logits, targets = [], []
    for fold in sorted(set(folds.tolist())):
        away = torch.zeros(len(support.targets), dtype=torch.bool)
        away[: len(folds)] = folds == fold
        taught = set(support.targets[~away].tolist())
        rows = torch.tensor([row for row in away.nonzero()[:, 0].tolist() if int(support.targets[row]) in taught])
        if not len(rows):
            continue
        adapter = learner.adapt(params, take(support, (~away).nonzero()[:, 0]))
        with torch.no_grad():
            logits.append(learner.predict(params, adapter, take(support.inputs, rows)).mean.detach().cpu())
        targets.append(support.targets[rows].cpu())
    if not logits:
        return HeldOut(torch.empty(0, support.ways), torch.empty(0, dtype=torch.long))
    return HeldOut(torch.cat(logits), torch.cat(targets))


def fit_shrunk_temperature(found: HeldOut, spread: float = PRIOR_SPREAD) -> float:
    """The temperature T of softmax(logits / T) with the highest posterior, log T expected at 0, give or take `spread`.

    1.0 where there are no answers; near the one with the highest likelihood where there are many.
    """
    if not len(found.targets):
        return 1.0
    logs = torch.linspace(-8 * spread, 8 * spread, _GRID, dtype=torch.float64)
    losses = [
        float(functional.cross_entropy(found.logits.double() / math.exp(log), found.targets, reduction="sum"))
        for log in logs.tolist()
    ]
    posterior = torch.tensor(losses, dtype=torch.float64) + logs.square() / (2 * spread**2)
    return math.exp(float(logs[posterior.argmin()]))
