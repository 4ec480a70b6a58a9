"""MAML: Model-Agnostic Meta-Learning. Finn, Abbeel, Levine, 2017, arXiv 1703.03400.

Inner loop, from the meta-parameters p on the support S: p' = p - rate * grad L_S(p), a few times.
Meta-gradient, on the query Q: the gradient of L_Q(p') by p, through the inner gradients ("second" order) or with
these held still ("first" order, FOMAML).
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
from quickstudy.learners.losses import query_loss, support_loss, task_outputs
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class MAML(Learner):
    """Learns the starting point of a few gradient steps.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs, its order included. Frozen parameters are still meta-trained.
    """

    name: ClassVar[str] = "maml"
    packs: ClassVar[bool] = True

    network: Network
    inner: InnerLoop = field(default_factory=InnerLoop)

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after adapting to the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in `params`."""
        loss = support_loss(self.network, support, self.inner.rows)
        adapted = adapt_parameters(loss, params, self.network.steered(self.inner))
        _, moved = split(adapted, self.inner.freeze)
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors in place of the meta-parameters."""
        adapted = {**params, **adapter.tensors}
        return Prediction(task_outputs(self.network, adapted, inputs, adapter.facts["ways"]))
