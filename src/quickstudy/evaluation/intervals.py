"""How sure a mean over tasks is. Intervals are over tasks; seeds are reported apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Interval:
    """A mean and half the width of its 95 % interval, 1.96 s / sqrt(n); infinite for a single task."""

    mean: float
    ci95: float
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.ci95:.4f} over {self.tasks} tasks"


@dataclass(frozen=True)
class SeedTable:
    """Results of several seeds.

    Attributes:
        rows: seed -> its interval over tasks.
        mean: the mean of the seeds' means.
        spread: the standard deviation of the seeds' means; 0 for one seed.
    """

    rows: Mapping[int, Interval]
    mean: float
    spread: float


def interval(values: Tensor) -> Interval:
    """Mean and 95 % interval of `values` [task].

    Raises:
        ValueError: there are no values, or they are not [task].
    """
    if values.dim() != 1 or not len(values):
        raise ValueError(f"the values have shape {tuple(values.shape)}; give [task] with at least one task")
    values = values.double()
    half = 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Interval(float(values.mean()), half, len(values))


def paired_difference(values: Tensor, others: Tensor) -> Interval:
    """By how much `values` [task] are above `others` [task], measured on the same tasks in the same order.

    Raises:
        ValueError: the two do not have the same number of tasks.
    """
    if values.shape != others.shape:
        raise ValueError(f"{tuple(values.shape)} and {tuple(others.shape)} values; compare on the same tasks")
    return interval(values.double() - others.double())


def seed_table(values: Mapping[int, Tensor]) -> SeedTable:
    """Seed -> values [task], summed up.

    Raises:
        ValueError: there are no seeds.
    """
    if not values:
        raise ValueError("there are no seeds; give the values of at least one")
    rows = {seed: interval(each) for seed, each in values.items()}
    means = torch.tensor([row.mean for row in rows.values()], dtype=torch.float64)
    return SeedTable(rows, float(means.mean()), float(means.std()) if len(means) > 1 else 0.0)
