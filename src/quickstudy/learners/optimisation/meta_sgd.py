"""Meta-SGD. Li, Zhou, Chen, Li, 2017, arXiv 1707.09835.

p' = p - a * grad L_S(p), entry by entry, a few times; the rates `a`, of the shape of p, are learned with p by the
gradient of L_Q(p'). A rate may become negative: it sets the direction too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.parameters import split
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, query_loss, task_outputs, weighted_loss
from quickstudy.learners.network import Network

RATE = "rate."
"""Begins the name of each learned rate; the rest is the name of the parameter that it moves."""


@dataclass(frozen=True)
class MetaSGD(Learner):
    """Learns the starting point and a learning rate for each entry of it.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs; the rates start at its optimiser's rate.
    """

    name: ClassVar[str] = "meta_sgd"

    network: Network
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(steps=1))

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, and `rate.<name>` for each of them that moves."""
        start = self.network.init(generator)
        _, moving = split(start, self.inner.freeze)
        rate = self.inner.optimiser.rate
        return {**start, **{RATE + name: torch.full_like(tensor, rate) for name, tensor in moving.items()}}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after adapting to the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in the network."""
        support = blank(support)
        rates = {name.removeprefix(RATE): tensor for name, tensor in params.items() if name.startswith(RATE)}
        start = {name: tensor for name, tensor in params.items() if not name.startswith(RATE)}

        def support_loss(current: Params) -> Tensor:
            return weighted_loss(task_outputs(self.network, current, support.inputs, support.ways), support)

        adapted = adapt_parameters(support_loss, start, self.network.steered(self.inner), rates)
        moved = {name: adapted[name] for name in rates}
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors in place of the meta-parameters."""
        adapted = {**params, **adapter.tensors}
        return Prediction(task_outputs(self.network, adapted, inputs, adapter.facts["ways"]))
