"""The learner that is used when none is named: a logistic head on the network's features.

W, b = argmin sum_i w_i CE(f(x_i) W + b, y_i) + r/2 |W|^2; logits are s (f(x) W + b), with r and s held still. Class
names may be among the rows of the support, as one more example of their class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.softmax_regression import softmax_regression


@dataclass(frozen=True)
class Auto(Learner):
    """Fits a linear head by regularised logistic regression.

    Attributes:
        network: backbone and delta, without a head.
        regularisation: r.
        scale: s.

    Raises:
        ValueError: `regularisation` or `scale` is not above 0.
    """

    name: ClassVar[str] = "auto"
    class_symmetric: ClassVar[bool] = True

    network: Network
    regularisation: float = 1 / 30
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (self.regularisation > 0 and self.scale > 0):
            raise ValueError(f"regularisation {self.regularisation} and scale {self.scale} must both be above 0")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`weight` [feature, ways], `bias` [ways] and `counts` [ways].

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("auto tells classes apart and this task is a regression; use ridge or maml")
        support = blank(support)
        features = head_features(self.network, params, support)
        targets = one_hot(support, features.dtype)
        weights = support.weights.to(features.dtype)
        regularisation = torch.tensor(self.regularisation, dtype=features.dtype, device=features.device)
        weight, bias = softmax_regression(features, targets, weights, regularisation)
        tensors = {"weight": weight, "bias": bias, "counts": class_weights(support)}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Scaled logits; classes without support get `heads.ABSENT`."""
        features = at_least_float32(self.network.features(params, inputs))
        logits = features @ adapter.tensors["weight"] + adapter.tensors["bias"]
        return Prediction(hide_absent(logits * self.scale, adapter.tensors["counts"]))
