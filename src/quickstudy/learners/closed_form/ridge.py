"""Ridge regression head (R2-D2). Bertinetto, Henriques, Torr, Vedaldi, 2018, arXiv 1805.08136.

W, b = argmin sum_i w_i |f(x_i) W + b - y_i|^2 + r |W|^2 with one-hot y_i, solved exactly; with fewer examples than
features W = X' (X X' + r I)^-1 Y. Logits are s (f(x) W + b); r and s are learned through the solution. The paper's
offset of all logits cancels in the softmax and is left out; b is fitted instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, class_weights, head_features, hide_absent, one_hot, ridge
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class Ridge(Learner):
    """Fits a linear head by least squares, for classes and for regression.

    Attributes:
        network: backbone and delta, without a head.
        regularisation: r at the start of meta-training, which moves its logarithm `head.log_regularisation`.
        scale: s at the start, for classes; its logarithm is `head.log_scale`.

    Raises:
        ValueError: one of the two is not above 0.
    """

    name: ClassVar[str] = "ridge"
    class_symmetric: ClassVar[bool] = True

    network: Network
    regularisation: float = 1.0
    scale: float = 10.0

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
        """The loss on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`weight` [feature, output], `bias` [output] and, for classes, `counts` [ways]."""
        support = blank(support)
        features = head_features(self.network, params, support)
        targets = one_hot(support, features.dtype) if support.ways else support.targets.to(features.dtype)
        regularisation = params["head.log_regularisation"].exp().to(features.dtype)
        weight, bias = ridge(features, targets, support.weights.to(features.dtype), regularisation)
        tensors = {"weight": weight, "bias": bias}
        if support.ways:
            tensors["counts"] = class_weights(support)
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Scaled logits of classes, those without support at `heads.ABSENT`; means for regression."""
        features = at_least_float32(self.network.features(params, inputs))
        outputs = features @ adapter.tensors["weight"] + adapter.tensors["bias"]
        if "counts" not in adapter.tensors:
            return Prediction(outputs)
        return Prediction(hide_absent(outputs * params["head.log_scale"].exp(), adapter.tensors["counts"]))
