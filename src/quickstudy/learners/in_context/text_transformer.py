"""An in-context classifier over text features, after prior-fitted networks. Müller et al. 2022, arXiv 2112.10510.

The support set is a set of tokens: one for each example, of its features, and one for each class, of the mean of its
examples and of an embedding that all classes share. They see each other; a query sees them and is seen by nobody. A
class has no number that a token could hold: it enters as a part of the attention score that two tokens of one class
have, a number of each head. So renumbering the classes renumbers the answers, and any number of classes will do.

The logit of class c is scale * cos(f(x), mean_c) + gain * <q(x), k_c>, of features and of tokens after the last layer.
The gain starts at 0: training starts from the cosine to class means, and all classes are answered in one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear, normalize

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import class_means, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import HIDDEN, Kept, Transformer, normal


@dataclass(frozen=True)
class TextTransformer(Learner):
    """Takes the support set as tokens and answers all queries in one pass.

    Attributes:
        network: backbone and delta that make features, without a head; frozen features come as inputs as they are.
        transformer: what reads the tokens.
        scale: what cosines are multiplied with at the start.
    """

    name: ClassVar[str] = "text_transformer"
    class_symmetric: ClassVar[bool] = True

    network: Network
    transformer: Transformer = field(default_factory=lambda: Transformer(128, 3, 4, 256))
    scale: float = 10.0

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, `token`, `class`, `same`, `gain`, `log_scale` and the transformer's."""
        width = self.transformer.width
        own = {
            "token": normal(width, self.network.backbone.width, generator) * math.sqrt(self.network.backbone.width),
            "class": torch.randn(width, generator=generator),
            "same": torch.linspace(0, 3, self.transformer.heads),
            "gain": torch.zeros(()),
            "log_scale": torch.tensor(math.log(self.scale)),
            **self.transformer.init(generator),
        }
        start = self.network.init(generator)
        return start | {name: tensor.to(self.network.device) for name, tensor in own.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`keys`, `values` [layer, token, width], `logs` [token], `classes`, `means` [ways, ...] and `counts` [ways].

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError(
                "this transformer answers with classes and this task is a regression; use function_transformer"
            )
        support = blank(support)
        features = normalize(head_features(self.network, params, support), dim=-1)
        means, counts = class_means(features, support), class_weights(support)
        tokens = torch.cat([linear(features, params["token"]), linear(means, params["token"]) + params["class"]])
        members = torch.cat([one_hot(support, features.dtype), torch.eye(support.ways, device=features.device)])
        logs = _logs(torch.cat([support.weights, (counts > 0).to(support.weights.dtype)]))
        mask = logs + params["same"][:, None, None] * (members @ members.T)
        tokens, _, kept = self.transformer.read(params, tokens, tokens[:0], mask)
        tensors = {
            "keys": kept.keys,
            "values": kept.values,
            "logs": logs,
            "classes": _normal(tokens[-support.ways :]),
            "means": normalize(means, dim=-1),
            "counts": counts,
        }
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits [example, ways]; classes without support get `heads.ABSENT`."""
        tensors = adapter.tensors
        features = normalize(self.network.features(params, inputs).to(tensors["means"].dtype), dim=-1)
        kept, mask = Kept(tensors["keys"], tensors["values"]), tensors["logs"].expand(len(features), -1)
        asked = _normal(self.transformer.ask(params, kept, linear(features, params["token"]), mask))
        logits = params["log_scale"].exp() * features @ tensors["means"].T
        logits = logits + params["gain"] * asked @ tensors["classes"].T / math.sqrt(self.transformer.width)
        return Prediction(hide_absent(logits, tensors["counts"]))


def _logs(weights: Tensor) -> Tensor:
    """What is added to scores, so that a token of weight 2 counts as two; `HIDDEN` for weight 0."""
    return torch.where(weights > 0, weights.clamp(min=1e-9).log(), HIDDEN)


def _normal(tokens: Tensor) -> Tensor:
    return layer_norm(tokens, tokens.shape[-1:])
