"""Matching networks. Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, 2016, arXiv 1606.04080.

A query's class is a mean of the support's classes by attention: p(y|x, S) = sum_i a(x, x_i) y_i with
a = softmax_i(s cos(f(x, S), g(x_i, S))). f and g are the features alone, or, with full-context embeddings, these after
LSTMs that read the support set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.full_context import context_start, query_context, support_context
from quickstudy.learners.heads import ABSENT, at_least_float32, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class Matching(Learner):
    """Compares a query with every support example.

    Full-context embeddings read the support as a sequence, so the order of its rows and repeated rows may matter;
    without them neither does.

    Attributes:
        network: backbone and delta, without a head.
        full_context: whether features are embedded in the context of the whole support set.
        steps: reads of the support by the query's LSTM; for full-context embeddings.
        scale: s, what cosines are multiplied with; 1 in the paper.

    Raises:
        ValueError: `scale` is not above 0 or `steps` is below 1.
    """

    name: ClassVar[str] = "matching"
    class_symmetric: ClassVar[bool] = True
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    full_context: bool = False
    steps: int = 5
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0 or self.steps < 1:
            raise ValueError(f"scale is {self.scale} and steps {self.steps}; give a number above 0 and 1 or more")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, and those of the LSTMs, `context.*`."""
        start = self.network.init(generator)
        if self.full_context:
            context = context_start(self.network.backbone.width, generator)
            start |= {name: tensor.to(self.network.device) for name, tensor in context.items()}
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`keys` [example, feature]: g(x_i, S), and `memberships` [example, ways]: weights, in the column of the
        example's class.

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("answers are means of classes and this task is a regression; use ridge or maml")
        support = blank(support)
        keys = head_features(self.network, params, support)
        if self.full_context:
            keys = support_context(params, keys, support.weights)
        memberships = one_hot(support, keys.dtype) * support.weights[:, None]
        tensors = {"keys": keys, "memberships": memberships, "counts": class_weights(support)}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logarithms of the classes' shares of the attention."""
        keys, memberships = adapter.tensors["keys"], adapter.tensors["memberships"]
        features = at_least_float32(self.network.features(params, inputs))
        if self.full_context:
            features = query_context(params, features, keys, memberships.sum(1), self.steps)
        cosines = self.scale * normalize(features, dim=-1) @ normalize(keys, dim=-1).T
        attention = _log_sum(cosines, memberships) - _log_sum(cosines, memberships.sum(1, keepdim=True))
        return Prediction(hide_absent(attention, adapter.tensors["counts"]))


def _log_sum(logits: Tensor, weights: Tensor) -> Tensor:
    """[query, column]: log sum_i w_i exp(logits_i), for `logits` [query, example] and `weights` [example, column]."""
    logs = torch.where(weights > 0, torch.where(weights > 0, weights, 1.0).log(), ABSENT)
    return torch.logsumexp(logits[:, :, None] + logs, 1)
