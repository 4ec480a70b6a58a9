"""Logistic regression head, differentiated at its minimum (the convex head of MetaOptNet: Lee, Maji, Ravichandran,
Soatto, 2019, arXiv 1904.03758; with logistic regression as in Bertinetto et al., 2018, arXiv 1805.08136).

W, b = argmin sum_i w_i CE(f(x_i) W + b, y_i) + r/2 |W|^2; logits are s (f(x) W + b). Meta-training moves f, r and s by
the implicit derivative of the minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.softmax_regression import Effort, softmax_regression


@dataclass(frozen=True)
class Logistic(Learner):
    """Fits a linear head by regularised logistic regression.

    Attributes:
        network: backbone and delta, without a head.
        regularisation: r at the start of meta-training, which moves its logarithm `head.log_regularisation`.
        scale: s at the start; its logarithm is `head.log_scale`.
        effort: how many steps the solver takes.

    Raises:
        ValueError: `regularisation` or `scale` is not above 0.
    """

    name: ClassVar[str] = "logistic"
    class_symmetric: ClassVar[bool] = True

    network: Network
    regularisation: float = 1.0
    scale: float = 1.0
    effort: Effort = field(default_factory=Effort)

    def __post_init__(self) -> None:
        if not (self.regularisation > 0 and self.scale > 0):
            raise ValueError(f"regularisation {self.regularisation} and scale {self.scale} must both be above 0")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, `head.log_regularisation` and `head.log_scale`."""
        start = self.network.init(generator)
        start["head.log_regularisation"] = torch.tensor(math.log(self.regularisation), device=self.network.device)
        start["head.log_scale"] = torch.tensor(math.log(self.scale), device=self.network.device)
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`weight` [feature, ways], `bias` [ways] and `counts` [ways].

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("a logistic head tells classes apart and this task is a regression; use ridge or maml")
        support = blank(support)
        features = head_features(self.network, params, support)
        targets = one_hot(support, features.dtype)
        regularisation = params["head.log_regularisation"].exp().to(features.dtype)
        weights = support.weights.to(features.dtype)
        weight, bias = softmax_regression(features, targets, weights, regularisation, self.effort)
        tensors = {"weight": weight, "bias": bias, "counts": class_weights(support)}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Scaled logits; classes without support get `heads.ABSENT`."""
        features = at_least_float32(self.network.features(params, inputs))
        logits = features @ adapter.tensors["weight"] + adapter.tensors["bias"]
        return Prediction(hide_absent(logits * params["head.log_scale"].exp(), adapter.tensors["counts"]))
