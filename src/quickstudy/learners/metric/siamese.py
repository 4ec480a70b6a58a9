"""Siamese networks. Koch, Zemel, Salakhutdinov, 2015, Siamese neural networks for one-shot image recognition.

Two examples are of one class with the probability sigmoid(sum_j a_j |f(x)_j - f(x')_j| + b): verification.
Meta-training lowers the cross-entropy of this over pairs of a query and a support example, with a fixed share of the
weight on equal pairs. A query is of the class whose support examples it is most probably equal to, by the mean of their
log-odds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, weighted_mean
from quickstudy.learners.network import Network

SPREAD = 0.2
"""Scale of the first weights of the distances, as in the paper; here they are all negative: what differs is unlike."""


@dataclass(frozen=True)
class Siamese(Learner):
    """Learns whether two examples are of one class.

    Attributes:
        network: backbone and delta, without a head.
        equal_share: the share of the loss that is on pairs of one class; a half in the paper. Less trains faster for
            tasks of many classes, where a query meets more strangers than equals.

    Raises:
        ValueError: `equal_share` is not between 0 and 1.
    """

    name: ClassVar[str] = "siamese"
    class_symmetric: ClassVar[bool] = True

    network: Network
    equal_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.equal_share < 1:
            raise ValueError(f"equal_share is {self.equal_share}; give a number between 0 and 1")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, `head.weight` [feature] and `head.bias` []."""
        start = self.network.init(generator)
        weight = -SPREAD * torch.randn(self.network.backbone.width, generator=generator).abs()
        head = {"head.weight": weight, "head.bias": torch.zeros(())}
        return start | {name: tensor.to(self.network.device) for name, tensor in head.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy of verification over pairs of query and support."""
        adapter, query = self.adapt(params, episode.support), blank(episode.query)
        odds = self._log_odds(params, adapter, query.inputs)
        same = one_hot(query, odds.dtype) @ (adapter.tensors["memberships"].T > 0).to(odds.dtype)
        losses = functional.binary_cross_entropy_with_logits(odds, same, reduction="none").flatten()
        pairs = (query.weights[:, None] * adapter.tensors["memberships"].sum(1)).flatten()
        equal = same.flatten()
        alike, unlike = (weighted_mean(losses, pairs * part) for part in (equal, 1 - equal))
        return self.equal_share * alike + (1 - self.equal_share) * unlike

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`features` [example, feature] of the support, and `memberships` [example, ways]: weights, in the column of
        the example's class.

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("pairs are equal or not by their classes and this task is a regression; use ridge or maml")
        support = blank(support)
        features = head_features(self.network, params, support)
        memberships = one_hot(support, features.dtype) * support.weights[:, None]
        tensors = {"features": features, "memberships": memberships, "counts": class_weights(support)}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The mean log-odds of being equal to the examples of each class."""
        counts = adapter.tensors["counts"]
        shares = adapter.tensors["memberships"] / torch.where(counts > 0, counts, 1.0)
        return Prediction(hide_absent(self._log_odds(params, adapter, inputs) @ shares, counts))

    def _log_odds(self, params: Params, adapter: Adapter, inputs: Inputs) -> Tensor:
        """[query, example]: the log-odds that the two are of one class."""
        features = at_least_float32(self.network.features(params, inputs))
        distances = (features[:, None] - adapter.tensors["features"]).abs()
        return distances @ params["head.weight"] + params["head.bias"]
