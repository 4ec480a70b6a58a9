"""Heads that are computed from features, not trained step by step: class means and ridge regression."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.core.types import Batch
from quickstudy.learners.network import Network

ABSENT = -1e9
"""The logit of a class without support: finite, so that losses stay finite, and below every other."""


def head_features(network: Network, params: dict[str, Tensor], batch: Batch) -> Tensor:
    """[example, feature] in at least float32.

    Raises:
        ValueError: the network has a head of its own, which nothing would ever train.
    """
    if network.outputs:
        raise ValueError(f"the head is computed here, and the network brings one of {network.outputs} outputs; give 0")
    return at_least_float32(network.features(params, batch.inputs))


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor`, made float32 where it is half precision, for sums and solutions of equations."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def one_hot(batch: Batch, dtype: torch.dtype) -> Tensor:
    """[example, ways]: 1 at the class, else 0."""
    classes = torch.arange(batch.ways, device=batch.targets.device)
    return (batch.targets[:, None] == classes).to(dtype)


def class_weights(batch: Batch) -> Tensor:
    """[ways]: the weights of each class's examples together; 0 where it has none."""
    return (one_hot(batch, batch.weights.dtype) * batch.weights[:, None]).sum(0)


def hide_absent(logits: Tensor, counts: Tensor) -> Tensor:
    """`logits` [example, ways] with `ABSENT` where `counts` [ways] is 0."""
    return torch.where(counts > 0, logits, ABSENT)


def class_means(features: Tensor, batch: Batch) -> Tensor:
    """[ways, feature]: the weighted mean of each class's features; zeros where it has none."""
    memberships = one_hot(batch, features.dtype) * batch.weights[:, None].to(features.dtype)
    counts = memberships.sum(0)
    return memberships.T @ features / torch.where(counts > 0, counts, 1.0)[:, None]


def weighted_centre(values: Tensor, weights: Tensor) -> Tensor:
    """[column]: the mean of the rows of `values` [row, column], by `weights` [row]."""
    total = weights.sum()
    return (values * weights[:, None]).sum(0) / torch.where(total > 0, total, 1.0)


def ridge(features: Tensor, targets: Tensor, weights: Tensor, regularisation: Tensor) -> tuple[Tensor, Tensor]:
    """`(weight [feature, output], bias [output])` that minimise sum_i w_i |x_i W + b - y_i|^2 + r |W|^2.

    The bias is not penalised. Solves for the examples where they are fewer than the features, else for the features;
    differentiable in all but `weights`.

    Args:
        features: [example, feature].
        targets: [example, output].
        weights: [example].
        regularisation: r, a scalar above 0.
    """
    feature_mean, target_mean = weighted_centre(features, weights), weighted_centre(targets, weights)
    root = weights.sqrt()[:, None]
    x, y = root * (features - feature_mean), root * (targets - target_mean)
    examples, width = x.shape
    eye = torch.eye(min(examples, width), dtype=x.dtype, device=x.device)
    if examples < width:
        weight = x.T @ torch.linalg.solve(x @ x.T + regularisation * eye, y)
    else:
        weight = torch.linalg.solve(x.T @ x + regularisation * eye, x.T @ y)
    return weight, target_mean - feature_mean @ weight
