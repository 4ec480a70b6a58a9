"""Meta-SGD. Li, Zhou, Chen, Li, 2017, arXiv 1707.09835.

p' = p - a * grad L_S(p), entry by entry, a few times; the rates `a` are learned with p by the gradient of L_Q(p'). A
rate may become negative: it sets the direction too. Many parameters take fewer rates: one a tensor, or one for each
rank of LoRA's matrices. With `scaled`, a small network turns the support's first gradient into a factor for the rates
of each tensor, after Baik, Choi, Choi, Kim, Lee, 2020, arXiv 2011.00209:
    a -> a * exp(V tanh(U f)),  f = the logarithms of the norms of the tensors' gradients, normalised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from quickstudy.core.inner import InnerLoop, adapt_parameters, gradients_at
from quickstudy.core.parameters import split
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import query_loss, support_loss, task_outputs
from quickstudy.learners.network import Network

RATE = "rate."
"""Begins the name of each learned rate; the rest is the name of the parameter that it moves."""

READ, WRITTEN = "scale.read", "scale.written"
"""The matrices U [hidden, tensor] and V [tensor, hidden]."""

HIDDEN = 32


@dataclass(frozen=True)
class MetaSGD(Learner):
    """Learns the starting point and the learning rates of a few gradient steps from it.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs; the rates start at its optimiser's rate.
        per: what has a rate of its own: each "entry", each "tensor", or each "rank" of the matrices of LoRA and each
            tensor beside.
        scaled: whether the task has a say in the rates.

    Raises:
        ValueError: `per` is unknown.
    """

    name: ClassVar[str] = "meta_sgd"
    packs: ClassVar[bool] = True

    network: Network
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(steps=1))
    per: Literal["entry", "tensor", "rank"] = "entry"
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.per not in {"entry", "tensor", "rank"}:
            raise ValueError(f'per is {self.per!r}; give "entry", "tensor" or "rank"')

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, `rate.<name>` for each of them that moves, and the matrices of `scaled`."""
        start = self.network.init(generator)
        _, moving = split(start, self.inner.freeze)
        rate = self.inner.optimiser.rate
        params = {**start, **{RATE + name: rate * self._one(name, tensor) for name, tensor in moving.items()}}
        if self.scaled:
            device, count = self.network.device, len(moving)
            read = torch.randn(HIDDEN, count, generator=generator) / count**0.5
            params |= {READ: read.to(device), WRITTEN: torch.zeros(count, HIDDEN, device=device)}
        return params

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after adapting to the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in the network."""
        rates = {name.removeprefix(RATE): tensor for name, tensor in params.items() if name.startswith(RATE)}
        start = {name: tensor for name, tensor in params.items() if not name.startswith((RATE, READ, WRITTEN))}

        loss = support_loss(self.network, support, self.inner.rows)
        if self.scaled:
            gradients = gradients_at(loss, start, self.inner)
            norms = torch.stack([(gradients[name].square().sum() + 1e-12).log() / 2 for name in rates])
            read = torch.tanh(params[READ] @ layer_norm(norms, norms.shape))
            factors = (params[WRITTEN] @ read).exp()
            rates = {name: rate * factor for (name, rate), factor in zip(rates.items(), factors, strict=True)}
        adapted = adapt_parameters(loss, start, self.network.steered(self.inner), rates)
        moved = {name: adapted[name] for name in rates}
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors in place of the meta-parameters."""
        adapted = {**params, **adapter.tensors}
        return Prediction(task_outputs(self.network, adapted, inputs, adapter.facts["ways"]))

    def _one(self, name: str, tensor: Tensor) -> Tensor:
        """Ones, as many as the tensor has rates, in a shape that goes with it."""
        if self.per == "entry":
            return torch.ones_like(tensor)
        if self.per == "rank" and name.endswith(".lora_A"):
            return tensor.new_ones(len(tensor), 1)
        if self.per == "rank" and name.endswith(".lora_B"):
            return tensor.new_ones(1, tensor.shape[1])
        return tensor.new_ones(())
