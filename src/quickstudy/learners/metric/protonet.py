"""Prototypical networks. Snell, Swersky, Zemel, 2017, arXiv 1703.05175.

The prototype of a class is the mean of its support features, c_k = mean f(x_i); a query's logits are -|f(x) - c_k|^2,
or the cosine of f(x) and c_k, times a scale.

Mahalanobis: -(f(x) - c_k)' S^-1 (f(x) - c_k), after Simple CNAPS (Bateni et al. 2019, arXiv 1912.03432), with one
covariance for all classes: S = d/(d+1) W + 1/(d+1) T + r I, where W is the covariance within classes, T that of the
whole support set, and d the number of examples less that of classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import (
    at_least_float32,
    class_means,
    class_weights,
    head_features,
    hide_absent,
    weighted_centre,
)
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class ProtoNet(Learner):
    """Compares a query with the mean of each class.

    Attributes:
        network: backbone and delta, without a head.
        distance: "euclidean" (squared), "cosine" or "mahalanobis".
        scale: what the logits are multiplied with, the inverse of a temperature.
        learn_scale: whether meta-training moves the scale, as `head.log_scale`.
        regularisation: r, of the Mahalanobis distance.

    Raises:
        ValueError: `scale` or `regularisation` is not above 0, or `distance` is unknown.
    """

    name: ClassVar[str] = "protonet"
    class_symmetric: ClassVar[bool] = True

    network: Network
    distance: Literal["euclidean", "cosine", "mahalanobis"] = "euclidean"
    scale: float = 1.0
    learn_scale: bool = False
    regularisation: float = 1.0

    def __post_init__(self) -> None:
        if self.distance not in {"euclidean", "cosine", "mahalanobis"}:
            raise ValueError(f'distance is {self.distance!r}; give "euclidean", "cosine" or "mahalanobis"')
        if not (self.scale > 0 and self.regularisation > 0):
            raise ValueError(f"scale is {self.scale} and regularisation {self.regularisation}; give numbers above 0")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, and `head.log_scale` where it is learned."""
        start = self.network.init(generator)
        if self.learn_scale:
            start["head.log_scale"] = torch.tensor(math.log(self.scale), device=self.network.device)
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`prototypes` [ways, feature] and `counts` [ways], the weights of each class's examples together.

        For the Mahalanobis distance also `whitening` [feature, feature], the square root of S^-1.

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("prototypes are means of classes and this task is a regression; use ridge or maml")
        support = blank(support)
        features = head_features(self.network, params, support)
        tensors = {"prototypes": class_means(features, support), "counts": class_weights(support)}
        if self.distance == "mahalanobis":
            tensors["whitening"] = _whitening(features, support, tensors["prototypes"], self.regularisation)
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits by distance; classes without support get `heads.ABSENT`."""
        features = at_least_float32(self.network.features(params, inputs))
        prototypes = adapter.tensors["prototypes"]
        if self.distance == "mahalanobis":
            features, prototypes = (each @ adapter.tensors["whitening"].T for each in (features, prototypes))
        near = _cosines(features, prototypes) if self.distance == "cosine" else -_distances(features, prototypes)
        scale = params["head.log_scale"].exp() if self.learn_scale else self.scale
        return Prediction(hide_absent(near * scale, adapter.tensors["counts"]))


def _cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    return normalize(features, dim=-1) @ normalize(prototypes, dim=-1).T


def _distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Squared distances [example, ways] by one product; moved to the prototypes' centre, where little cancels."""
    centre = prototypes.mean(0)
    x, c = features - centre, prototypes - centre
    return x.square().sum(-1, keepdim=True) - 2 * x @ c.T + c.square().sum(-1)


def _whitening(features: Tensor, support: Batch, means: Tensor, regularisation: float) -> Tensor:
    """L^-1 [feature, feature], where L L' is the covariance S of this file's first lines."""
    weights = support.weights.to(features.dtype)
    total = weights.sum()
    freedom = (total - (class_weights(support) > 0).sum()).clamp(min=0.0)
    within = _scatter(features - means[support.targets], weights) / freedom.clamp(min=1.0)
    whole = _scatter(features - weighted_centre(features, weights), weights) / (total - 1).clamp(min=1.0)
    eye = torch.eye(features.shape[-1], dtype=features.dtype, device=features.device)
    covariance = (freedom * within + whole) / (freedom + 1) + regularisation * eye
    whitening: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), eye, upper=False)
    return whitening


def _scatter(residuals: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, None] * residuals).T @ residuals
