"""CAVIA: fast context adaptation. Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson, 2019, arXiv 1810.03642.

The network f(x, c; p) takes context parameters c besides its input. On the support S they start at 0 and move,
c' = c - rate * grad_c L_S(c; p), a few times; nothing else does. The meta-gradient is that of L_Q(c'; p) by p.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.errors import TaskError
from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, query_loss, weighted_loss
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class CAVIA(Learner):
    """Learns a network that a few numbers steer.

    Attributes:
        network: backbone, delta and head. Where the context joins the input, the backbone takes `context` more inputs.
        inner: how the inner loop runs on the context; the paper takes a rate of 1.
        context: number of context parameters.
        where: "input" appends the context to each input [example, feature]; "features" scales and shifts the features
            before the head by linear functions of it (FiLM).

    Raises:
        ValueError: `context` is below 1 or `where` is unknown.
    """

    name: ClassVar[str] = "cavia"

    network: Network
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(1, SGD(1.0)))
    context: int = 5
    where: Literal["input", "features"] = "input"

    def __post_init__(self) -> None:
        if self.context < 1:
            raise ValueError(f"context is {self.context}; give 1 or more")
        if self.where not in {"input", "features"}:
            raise ValueError(f'where is {self.where!r}; give "input" or "features"')

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values and, for features, `film.weight` [2 * width, context] and `film.bias`.

        Raises:
            ValueError: the network has no head.
        """
        if not self.network.outputs:
            raise ValueError("the network has no head; give Network(outputs=...)")
        start = self.network.init(generator)
        if self.where == "features":
            width = self.network.backbone.width
            weight = (2 * torch.rand(2 * width, self.context, generator=generator) - 1) / self.context**0.5
            bias = torch.cat([torch.ones(width), torch.zeros(width)])
            start |= {"film.weight": weight.to(self.network.device), "film.bias": bias.to(self.network.device)}
        return start

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after adapting to the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`context` [context].

        Raises:
            TaskError: the task has more classes than the head has outputs, or inputs that cannot take the context.
        """
        support = blank(support)
        if support.ways > self.network.outputs:
            raise TaskError(f"the task has {support.ways} classes, the head has {self.network.outputs} outputs")
        # What does not depend on the context is computed once.
        features = self.network.features(params, support.inputs) if self.where == "features" else None

        def support_loss(current: Params) -> Tensor:
            if features is None:
                outputs = self._by_input(params, current["context"], support.inputs, support.ways)
            else:
                outputs = _by_features(params, current["context"], features, support.ways)
            return weighted_loss(outputs, support)

        zeros = torch.zeros(self.context, dtype=params["head.weight"].dtype, device=params["head.weight"].device)
        adapted = adapt_parameters(support_loss, {"context": zeros}, self.inner)
        return Adapter(adapted, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs under the adapter's context."""
        context, ways = adapter.tensors["context"], adapter.facts["ways"]
        if self.where == "input":
            return Prediction(self._by_input(params, context, inputs, ways))
        return Prediction(_by_features(params, context, self.network.features(params, inputs), ways))

    def _by_input(self, params: Params, context: Tensor, inputs: Inputs, ways: int) -> Tensor:
        if not isinstance(inputs, Tensor) or inputs.dim() != 2:
            raise TaskError('the context is appended to inputs [example, feature] only; take where="features"')
        joined = torch.cat([inputs, context.expand(len(inputs), -1)], dim=-1)
        outputs = self.network(params, joined)
        return outputs[..., :ways] if ways else outputs


def _by_features(params: Params, context: Tensor, features: Tensor, ways: int) -> Tensor:
    scale, shift = functional.linear(context, params["film.weight"], params["film.bias"]).chunk(2)
    outputs = functional.linear(scale * features + shift, params["head.weight"], params["head.bias"])
    return outputs[..., :ways] if ways else outputs
