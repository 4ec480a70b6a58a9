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


def beside(one: Batch, other: Batch) -> Batch:
    """The examples of both, of a regression on one tensor."""
    inputs = torch.cat([one_tensor(one.inputs), one_tensor(other.inputs)])
    return Batch(inputs, torch.cat([one.targets, other.targets]), torch.cat([one.weights, other.weights]))


def marked(targets: Tensor) -> Tensor:
    """`targets` [example, output] with a column of ones, which tells targets that are 0 from those not known."""
    return torch.cat([targets, torch.ones_like(targets[:, :1])], -1)


def packed(support: Batch, query: Batch, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first `rows` of the real rows of both, and padding where there are fewer.

    Returns `pairs` [row, input + output], their weights in the support [row] and in the query [row], each 0 for rows of
    the other. Where there are more real rows than `rows` the latter are NaN.
    """
    both = beside(support, query)
    real = both.weights > 0
    order = torch.sort(real.to(torch.int8), descending=True, stable=True).indices[:rows]
    given = torch.cat([support.weights, torch.zeros_like(query.weights)])
    weights = torch.where(real.sum() > rows, torch.nan, both.weights - given)
    return pairs(both)[order], given[order], weights[order]


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
