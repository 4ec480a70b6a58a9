"""Whether probabilities mean what they say: reliability, expected calibration error, temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Bins = Literal["width", "mass"]
"""Bins that are equally wide, or that hold equally many examples."""


@dataclass(frozen=True)
class Bin:
    """The examples whose confidence lies in (low, high].

    Attributes:
        low, high: the bounds.
        count: how many there are.
        confidence: the mean of their largest probabilities; 0 where there are none.
        accuracy: the share that is right; 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(probabilities: Tensor, targets: Tensor, bins: int = 15, by: Bins = "width") -> tuple[Bin, ...]:
    """The bins of a reliability diagram, in rising order of confidence; together they hold all examples.

    Args:
        probabilities: [example, class], rows summing to 1.
        targets: [example] class numbers.
        bins: how many.
        by: equal width (Naeini, Cooper, Hauskrecht, 2015), or equal mass (Nguyen and O'Connor, 2015, arXiv 1508.05154).

    Raises:
        ValueError: no examples, shapes that do not fit, values that are no probabilities, or fewer than one bin.
    """
    _check(probabilities, targets, bins)
    confidence, predicted = probabilities.double().max(-1)
    right = (predicted == targets).double()
    order = confidence.argsort(stable=True)
    confidence, right = confidence[order], right[order]
    if by == "width":
        bounds = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)
        ends = torch.searchsorted(confidence, bounds[1:].contiguous(), right=True).tolist()
        edges = bounds.tolist()
    else:
        ends = [round(len(confidence) * number / bins) for number in range(1, bins + 1)]
        edges = [0.0, *(float(confidence[max(end - 1, 0)]) for end in ends)]
    ends[-1] = len(confidence)
    starts = [0, *ends[:-1]]
    return tuple(
        Bin(edges[i], edges[i + 1], end - start, _mean(confidence[start:end]), _mean(right[start:end]))
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def expected_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = 15, by: Bins = "width") -> float:
    """The mean distance of confidence and accuracy over the bins, by their counts; between 0 and 1.

    Guo, Pleiss, Sun, Weinberger, 2017, arXiv 1706.04599. Arguments and errors as in `reliability`.
    """
    found = reliability(probabilities, targets, bins, by)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in found) / len(targets)


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    """The mean of -log p(target) over examples, in nats, from `logits` [example, class]."""
    return float(functional.cross_entropy(logits.double(), targets))


def fit_temperature(logits: Tensor, targets: Tensor, low: float = 0.01, high: float = 100.0) -> float:
    """The temperature T in [low, high] with the lowest likelihood loss of softmax(logits / T).

    Guo et al., 2017, arXiv 1706.04599. The loss is convex in 1/T, so the zero of its derivative is found by halving.

    Args:
        logits: [example, class], of examples that the logits were not fitted on.
        targets: [example] class numbers.
        low, high: bounds, reached where all answers are right or where they carry nothing.

    Raises:
        ValueError: no examples, shapes that do not fit, or logits that are not finite.
    """
    _check(logits.softmax(-1), targets, 1)
    logits = logits.double()
    target = logits.gather(1, targets[:, None])[:, 0]

    def slope(inverse: float) -> float:
        return float(((inverse * logits).softmax(-1) * logits).sum(-1).mean() - target.mean())

    left, right = math.log(1 / high), math.log(1 / low)
    for _ in range(60):
        middle = (left + right) / 2
        left, right = (left, middle) if slope(math.exp(middle)) > 0 else (middle, right)
    return math.exp(-(left + right) / 2)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _check(probabilities: Tensor, targets: Tensor, bins: int) -> None:
    if probabilities.dim() != 2 or targets.shape != probabilities.shape[:1] or not len(targets):
        shapes = f"{tuple(probabilities.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"the shapes are {shapes}; give [example, class] and [example], with at least one example")
    sums = probabilities.double().sum(-1)
    if not bool(((sums - 1).abs() < 1e-3).all() and (probabilities >= 0).all()):
        raise ValueError("the rows are not finite probabilities that sum to 1; apply softmax to finite logits")
    if not bool(((targets >= 0) & (targets < probabilities.shape[1])).all()):
        raise ValueError(f"a target is not a class number below {probabilities.shape[1]}")
    if bins < 1:
        raise ValueError(f"bins is {bins}; give 1 or more")
