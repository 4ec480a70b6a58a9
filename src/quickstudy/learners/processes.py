"""What neural processes share: layers as functions of a tree of parameters, pairs, normal distributions, the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, weighted_mean


def start_layers(name: str, widths: Sequence[int], generator: torch.Generator) -> Params:
    """`<name>.<i>.weight` [output, input] and `<name>.<i>.bias` [output], uniform in +-1/sqrt(input)."""
    params = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        bound = 1 / math.sqrt(inputs)
        params[f"{name}.{index}.weight"] = (2 * torch.rand(outputs, inputs, generator=generator) - 1) * bound
        params[f"{name}.{index}.bias"] = (2 * torch.rand(outputs, generator=generator) - 1) * bound
    return params


def linear(params: Params, name: str, inputs: Tensor) -> Tensor:
    """[..., output]: the layer `name` on `inputs` [..., input]."""
    return functional.linear(inputs, params[f"{name}.weight"], params[f"{name}.bias"])


def layers(params: Params, name: str, inputs: Tensor) -> Tensor:
    """[..., output]: the layers that `start_layers` made, with rectifiers in between."""
    hidden, index = linear(params, f"{name}.0", inputs), 1
    while f"{name}.{index}.weight" in params:
        hidden = linear(params, f"{name}.{index}", torch.relu(hidden))
        index += 1
    return hidden


def one_tensor(inputs: Inputs) -> Tensor:
    """`inputs` [example, input] itself.

    Raises:
        TaskError: the inputs are named tensors, or have more axes.
    """
    if isinstance(inputs, Tensor) and inputs.dim() == 2:
        return inputs
    raise TaskError("neural processes read one tensor [example, input]; give features of the inputs")


def pairs(batch: Batch) -> Tensor:
    """[example, input + output]: inputs beside targets.

    Raises:
        TaskError: the task is not a regression on one tensor [example, input].
    """
    if batch.ways:
        raise TaskError(f"neural processes predict numbers and the task has {batch.ways} classes; use hierarchical")
    return torch.cat([one_tensor(batch.inputs), batch.targets], -1)


def beside(one: Batch, other: Batch, rows: int = 0) -> Batch:
    """The examples of both, of a regression on one tensor; where `rows` is not 0, so many of the real ones and padding.

    Where there are more real rows than that all weights are NaN.
    """
    inputs = torch.cat([one_tensor(one.inputs), one_tensor(other.inputs)])
    both = Batch(inputs, torch.cat([one.targets, other.targets]), torch.cat([one.weights, other.weights]))
    if not rows:
        return both
    order, weights = real_first(both.weights, rows)
    return Batch(inputs[order], both.targets[order], weights)


def real_first(weights: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Numbers and weights of the first `rows` rows when those of weight 0 come last; NaN if others are cut off."""
    order = torch.sort((weights > 0).to(torch.int8), descending=True, stable=True).indices[:rows]
    return order, torch.where((weights > 0).sum() > rows, torch.nan, weights[order])


def marked(targets: Tensor) -> Tensor:
    """`targets` [example, output] with a column of ones, which tells targets that are 0 from those not known."""
    return torch.cat([targets, torch.ones_like(targets[:, :1])], -1)


def packed(support: Batch, query: Batch, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """`pairs` [row, input + output] of so many real rows, and their weights [row] in the support and in the query.

    A row of one side has weight 0 in the other. Where there are more real rows the latter weights are NaN.
    """
    both = beside(support, query)
    order, weights = real_first(both.weights, rows)
    given = torch.cat([support.weights, torch.zeros_like(query.weights)])[order]
    return pairs(both)[order], given, weights - given


def normal(outputs: Tensor, least: float) -> Prediction:
    """Means and variances from `outputs` [..., 2 * output]; deviations are `least` + softplus of the second half."""
    mean, raw = outputs.chunk(2, -1)
    return Prediction(mean, (least + functional.softplus(raw)).square())


def density(prediction: Prediction, targets: Tensor) -> Tensor:
    """[..., example]: the log of the normal density of `targets` [example, output], summed over outputs."""
    assert prediction.variance is not None
    z = (targets - prediction.mean).square() / prediction.variance
    return -0.5 * (z + prediction.variance.log() + math.log(2 * math.pi)).sum(-1)


def process_loss(learner: Learner, params: Params, episode: Episode) -> Tensor:
    """Minus the mean log density of the query's targets after adapting to the support: a scalar."""
    query = blank(episode.query)
    prediction = learner.predict(params, learner.adapt(params, episode.support), query.inputs)
    return -weighted_mean(density(prediction, query.targets), query.weights)


def check_sizes(**sizes: int) -> None:
    """Nothing, where all are 1 or more.

    Raises:
        ValueError: names the first that is not.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; give 1 or more")
