"""ANIL: Almost No Inner Loop. Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157.

As MAML, but only the head moves in the inner loop: h' = h - rate * grad_h L_S(body, h), a few times. The meta-gradient
of L_Q(body, h') reaches both the body and the head's starting point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.errors import TaskError
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, query_loss, weighted_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class ANIL(Learner):
    """Learns features and the starting point of the head; features of the support are computed once.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs on `head.weight` and `head.bias`.
    """

    name: ClassVar[str] = "anil"

    network: Network
    inner: InnerLoop = field(default_factory=InnerLoop)

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values.

        Raises:
            ValueError: the network has no head.
        """
        if not self.network.outputs:
            raise ValueError("the network has no head and ANIL moves nothing else; give Network(outputs=...)")
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after adapting to the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`head.weight` and `head.bias`, adapted.

        Raises:
            TaskError: the task has more classes than the head has outputs.
        """
        support = blank(support)
        if support.ways > self.network.outputs:
            raise TaskError(f"the task has {support.ways} classes, the head has {self.network.outputs} outputs")
        features = self.network.features(params, support.inputs)

        def support_loss(head: Params) -> Tensor:
            return weighted_loss(_outputs(head, features, support.ways), support)

        head = {name: params[name] for name in ("head.weight", "head.bias")}
        adapted = adapt_parameters(support_loss, head, self.inner)
        return Adapter(adapted, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The adapted head on the meta-trained features."""
        features = self.network.features(params, inputs)
        return Prediction(_outputs(dict(adapter.tensors), features, adapter.facts["ways"]))


def _outputs(head: Params, features: Tensor, ways: int) -> Tensor:
    outputs = functional.linear(features, head["head.weight"], head["head.bias"])
    return outputs[..., :ways] if ways else outputs
