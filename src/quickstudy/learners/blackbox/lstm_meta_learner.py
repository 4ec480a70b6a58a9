"""The LSTM meta-learner. Ravi and Larochelle, 2017, "Optimization as a model for few-shot learning", ICLR.

The cell state of an LSTM is the learner's parameters: p_t = f_t * p_t-1 - i_t * grad L(p_t-1), where the forget gate
f_t and the input gate i_t are sigmoids of an ordinary LSTM's units, of p_t-1 and of the gate before. That LSTM reads
the gradient and the loss, both preprocessed. All coordinates share the weights; p_0, the first cell state, is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.core.parameters import to_vector
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.learned_rule import lstm_cell, preprocessed
from quickstudy.learners.losses import query_loss, task_outputs
from quickstudy.learners.network import Network
from quickstudy.learners.optimisees import optimisee

START = "start."
"""Begins the name of each learned first cell state; the rest is its name in the network."""

P = 10.0
GATES = ("forget", "input")


@dataclass(frozen=True)
class LSTMMetaLearner(Learner):
    """Learns a start, and gates that say how much of a parameter to keep and how far to follow its gradient.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        steps: number of updates on the support.
        hidden: units of the ordinary LSTM.
        keep: the forget gate before meta-training, below 1.
        rate: the input gate before meta-training, a learning rate below 1.
        order: "first" holds losses and gradients still, as in the paper; "second" differentiates through them.

    Raises:
        ValueError: a number is out of its range or `order` is neither.
    """

    name: ClassVar[str] = "lstm_meta_learner"

    network: Network
    steps: int = 5
    hidden: int = 20
    keep: float = 0.9999
    rate: float = 0.01
    order: Literal["first", "second"] = "first"

    def __post_init__(self) -> None:
        if self.steps < 0 or self.hidden < 1:
            raise ValueError(f"steps is {self.steps} and hidden is {self.hidden}; give 0 or more, and 1 or more")
        if not (0 < self.keep < 1 and 0 < self.rate < 1):
            raise ValueError(f"keep is {self.keep} and rate is {self.rate}; give numbers between 0 and 1")
        if self.order not in {"first", "second"}:
            raise ValueError(f'order is {self.order!r}; give "first" or "second"')

    def init(self, generator: torch.Generator) -> Params:
        """`start.<name>` as the network draws it, and `.weight` and `.bias` of `lstm`, `forget` and `input`."""
        params = {START + name: tensor for name, tensor in self.network.init(generator).items()}
        bound = 1 / math.sqrt(self.hidden)
        weight = torch.rand(4 + self.hidden, 4 * self.hidden, generator=generator)
        params |= {"lstm.weight": (2 * weight - 1) * bound, "lstm.bias": torch.zeros(4 * self.hidden)}
        for gate, value in zip(GATES, (self.keep, self.rate), strict=True):
            # Small, so that the gates begin at what the fields say.
            params[f"{gate}.weight"] = (2 * torch.rand(self.hidden + 2, generator=generator) - 1) * bound / 10
            params[f"{gate}.bias"] = torch.tensor(math.log(value / (1 - value)))
        return {name: tensor.to(self.network.device) for name, tensor in params.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after the last update."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters after the last update, by their names in the network."""
        like = {name.removeprefix(START): t for name, t in params.items() if name.startswith(START)}
        task, cell = optimisee(self.network, support, like), to_vector(like)
        hidden = memory = cell.new_zeros(len(cell), self.hidden)
        gates = {gate: torch.zeros_like(cell) for gate in GATES}
        for _ in range(self.steps):
            value, gradient = task.value_and_gradient(cell, self.order)
            if self.order == "first":
                value = value.detach()
            read = [*preprocessed(gradient, P), *(each.expand_as(cell) for each in preprocessed(value, P))]
            seen = torch.cat([torch.stack(read, -1), hidden], -1)
            hidden, memory = lstm_cell(seen @ params["lstm.weight"] + params["lstm.bias"], memory)
            for gate, before in gates.items():
                reads = torch.cat([hidden, torch.stack([cell, before], -1)], -1)
                gates[gate] = torch.sigmoid(reads @ params[f"{gate}.weight"] + params[f"{gate}.bias"])
            cell = gates["forget"] * cell - gates["input"] * gradient
        base = self.network.backbone.fingerprint
        return Adapter(task.params(cell), self.name, base=base, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:  # noqa: ARG002 - contract
        """The outputs of the network with the adapter's tensors."""
        return Prediction(task_outputs(self.network, dict(adapter.tensors), inputs, adapter.facts["ways"]))
