"""Relation networks. Sung, Yang, Zhang, Xiang, Torr, Hospedales, 2018, arXiv 1711.06025.

The maps of a class are the sum of those of its support examples, f_k = sum_i f(x_i); a second network g compares them
with a query's: r_k = sigmoid(g(f_k, f(x))). Meta-training lowers (r_k - [k is the query's class])^2, or the
cross-entropy of the scores before the sigmoid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.conv_block import Norm, real_rows
from quickstudy.backbones.relation_module import RelationModule, relation_start
from quickstudy.core.errors import TaskError
from quickstudy.core.functional import Functional
from quickstudy.core.transforms import is_mapped
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import at_least_float32, class_weights, head_features, hide_absent, one_hot
from quickstudy.learners.losses import blank, weighted_loss, weighted_mean
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class Relation(Learner):
    """Learns the distance between a class and a query. Transductive where `norm` is "batch".

    Attributes:
        network: backbone and delta, without a head. A Conv4 gives maps; features of others are maps of one point.
        norm: of the relation module: "batch", "group" or "none".
        objective: "squared" error of the sigmoid, as in the paper, or "cross_entropy".

    Raises:
        ValueError: an unknown objective.
    """

    name: ClassVar[str] = "relation"
    class_symmetric: ClassVar[bool] = True
    transductive: ClassVar[bool] = True

    network: Network
    norm: Norm = "batch"
    objective: Literal["squared", "cross_entropy"] = "squared"

    def __post_init__(self) -> None:
        if self.objective not in {"squared", "cross_entropy"}:
            raise ValueError(f'objective is {self.objective!r}; give "squared" or "cross_entropy"')

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, and those of the relation module, `relation.*`."""
        start = self.network.init(generator)
        for name, tensor in relation_start(self.shape, self.norm, generator).items():
            start[f"relation.{name}"] = tensor.to(self.network.device)
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query, over pairs with the classes that have support."""
        adapter, query = self.adapt(params, episode.support), blank(episode.query)
        scores = self.predict(params, adapter, query.inputs).mean
        if self.objective == "cross_entropy":
            return weighted_loss(scores, query)
        errors = (torch.sigmoid(scores) - one_hot(query, scores.dtype)).square()
        real = (adapter.tensors["counts"] > 0) * query.weights[:, None]
        return weighted_mean(errors.flatten(), real.flatten())

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`maps` [ways, feature], the sums of each class's features by weight, and `counts` [ways].

        Raises:
            TaskError: the task is a regression.
        """
        if not support.ways:
            raise TaskError("relations are to classes and this task is a regression; use ridge or maml")
        support = blank(support)
        features = head_features(self.network, params, support)
        maps = (one_hot(support, features.dtype) * support.weights[:, None]).T @ features
        tensors = {"maps": maps, "counts": class_weights(support)}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Scores before the sigmoid; classes without support get `heads.ABSENT`."""
        maps, counts = adapter.tensors["maps"], adapter.tensors["counts"]
        features = at_least_float32(self.network.features(params, inputs))
        named = {name.removeprefix("relation."): t for name, t in params.items() if name.startswith("relation.")}
        real = _real_pairs(counts, inputs) if self.norm == "batch" else None
        classes, queries = (each.reshape(-1, *self.shape) for each in (maps, features))
        scores = self._module(named, classes, queries, real)
        return Prediction(hide_absent(at_least_float32(scores), counts))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the maps."""
        backbone = self.network.backbone
        if isinstance(backbone, Conv4) and math.prod(backbone.shape) == backbone.width:
            return backbone.shape
        return backbone.width, 1, 1

    @cached_property
    def _module(self) -> Functional:
        return Functional(self._skeleton)

    def _skeleton(self) -> nn.Module:
        return RelationModule(self.shape, self.norm).to(self.network.device)


def _real_pairs(counts: Tensor, inputs: Inputs) -> Tensor | None:
    """[query * class]: 0 where the query is blanked padding or the class has no support; None where none is."""
    assert isinstance(inputs, Tensor), "batch statistics are for images"
    rows = real_rows(inputs)
    if rows is None and not is_mapped(counts) and bool((counts > 0).all()):
        return None
    rows = torch.ones_like(inputs.flatten(1)[:, 0]) if rows is None else rows
    return (rows[:, None] * (counts > 0)).flatten()
