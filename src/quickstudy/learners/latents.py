"""Latent variables of neural processes: their distribution, bounds on the likelihood, and noise that repeats.

The noise is a hash of the support set, so that the same examples give the same answer, in any order, also under
`torch.vmap`, where no generator can be seeded from the values of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.types import Batch, Params, Prediction
from quickstudy.learners.processes import layers, normal, one_tensor, start_layers

Objective: TypeAlias = Literal["elbo", "likelihood"]
"""The evidence lower bound, or the likelihood averaged over draws from the support's posterior (Foong et al., 2020,
arXiv 2007.01332)."""

_MASK = 0xFFFFFFFF
_ODD = 0x7FEB352D
_STEP = 0x1E3779B1


@dataclass(frozen=True)
class Latent:
    """A normal distribution with independent entries.

    Attributes:
        mean: [latent].
        deviation: [latent].
    """

    mean: Tensor
    deviation: Tensor

    def draws(self, noise: Tensor) -> Tensor:
        """[draw, latent] from standard normal `noise` of that shape."""
        return self.mean + self.deviation * noise


def start_latent(width: int, latent: int, generator: torch.Generator) -> Params:
    """Two layers from a pooled representation [width] to the latent variable's distribution."""
    return start_layers("latent", (width, width, 2 * latent), generator)


def latent_of(params: Params, pooled: Tensor) -> Latent:
    """The distribution that `pooled` [width] stands for; deviations lie between 0.1 and 1 (Kim et al., 2019)."""
    mean, raw = layers(params, "latent", pooled).chunk(2, -1)
    return Latent(mean, 0.1 + 0.9 * torch.sigmoid(raw))


def divergence(one: Latent, other: Latent) -> Tensor:
    """KL(one | other), a scalar."""
    ratio = (one.deviation / other.deviation).square()
    shift = ((one.mean - other.mean) / other.deviation).square()
    return 0.5 * (ratio + shift - 1 - ratio.log()).sum()


def bound_loss(
    densities: Callable[[Tensor], Tensor],
    posteriors: tuple[Latent, Latent],
    noise: Tensor,
    weights: Tensor,
    objective: Objective,
) -> Tensor:
    """Minus a bound on the log-likelihood of a query, for each query point: a scalar.

    "elbo": E_{z ~ q(z | support, query)} log p(query | z) - KL(q(z | support, query) | q(z | support)).
    "likelihood": log of the mean over z ~ q(z | support) of p(query | z).

    Args:
        densities: z [draw, latent] -> log densities [draw, example] of the query's targets.
        posteriors: q given the support, and q given support and query.
        noise: [draw, latent], standard normal.
        weights: [example], of the query.
        objective: which bound.
    """
    given, informed = posteriors
    total = weights.sum()
    total = torch.where(total > 0, total, 1.0)
    if objective == "elbo":
        likelihoods = (densities(informed.draws(noise)) * weights).sum(-1)
        return (divergence(informed, given) - likelihoods.mean()) / total
    likelihoods = (densities(given.draws(noise)) * weights).sum(-1)
    return (math.log(len(noise)) - likelihoods.logsumexp(0)) / total


def tensors_of(latent: Latent, support: Batch) -> Params:
    """What an adapter holds of `latent`: `mean` and `deviation` [latent], and `key`, which its draws follow from."""
    return {"mean": latent.mean, "deviation": latent.deviation, "key": key_of(support)}


def draws_of(tensors: Mapping[str, Tensor], draws: int) -> Tensor:
    """[draw, latent] from what `tensors_of` gave, the same for the same tensors."""
    latent = Latent(tensors["mean"], tensors["deviation"])
    return latent.draws(noise_of(tensors["key"], draws, len(latent.mean)))


def decoded(params: Params, known: Tensor, z: Tensor, least: float) -> Prediction:
    """Means and variances [draw, example, output] that the layers `decoder` make of `known` [example, part] and each of
    `z` [draw, latent]; deviations are above `least`."""
    rows = torch.cat([known.expand(len(z), *known.shape), z[:, None].expand(-1, len(known), -1)], -1)
    return normal(layers(params, "decoder", rows), least)


def mixture(predictions: Prediction) -> Prediction:
    """Mean and variance [example, output] of the equal mixture of normals [draw, example, output]."""
    assert predictions.variance is not None
    mean = predictions.mean.mean(0)
    return Prediction(mean, predictions.variance.mean(0) + (predictions.mean - mean).square().mean(0))


def key_of(batch: Batch) -> Tensor:
    """A scalar int64 below 2**32: a hash of the examples and their weights, whatever their order and their padding."""
    columns = torch.cat([one_tensor(batch.inputs), batch.targets], -1)
    # Six binary digits before the point and more than most noise after it are told apart.
    whole = (columns.double() * 2**20).round().long() & _MASK
    rows = torch.zeros_like(whole[:, 0])
    for column in whole.unbind(-1):
        rows = _mixed(rows + _STEP + column)
    counts = (batch.weights * 1024).round().long()
    return _mixed((rows * counts).sum() & _MASK)


def noise_of(key: Tensor, draws: int, size: int) -> Tensor:
    """[draws, size] standard normal numbers that follow from `key`, a scalar, alone."""
    counters = torch.arange(1, draws * size + 1, device=key.device) * _STEP
    bits = _mixed(_mixed(key + counters) + key) >> 8
    uniform = (bits.double() + 0.5) / 2**24
    noise: Tensor = torch.special.ndtri(uniform).float()
    return noise.reshape(draws, size)


def _mixed(numbers: Tensor) -> Tensor:
    """Each of `numbers`, cut to 32 bits, to another 32 bits, one to one, so that near ones end far apart."""
    numbers = numbers & _MASK
    for shift in (16, 15, 16):
        numbers = ((numbers ^ (numbers >> shift)) * _ODD) & _MASK
    return numbers ^ (numbers >> 16)


def check_objective(objective: str) -> None:
    """Nothing, where it is one.

    Raises:
        ValueError: it is none.
    """
    if objective not in {"elbo", "likelihood"}:
        raise ValueError(f'objective is {objective!r}; give "elbo" or "likelihood"')
