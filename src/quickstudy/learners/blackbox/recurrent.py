"""A recurrent meta-learner. Hochreiter, Younger, Conwell 2001; Duan et al. 2016, arXiv 1611.02779; Wang et al. 2016,
arXiv 1611.05763.

An LSTM reads x_t together with the target before it, y_(t-1), and answers y_t. What it has learned of the task lies in
its state alone: (h, c) after the support, and the last target. Trained on the answers along the support and on those
to the queries, each of which goes on from the state after the support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import one_hot
from quickstudy.learners.losses import blank, weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.transformer import normal

State: TypeAlias = tuple[Tensor, Tensor]
"""Hidden state and cell, [width] each, or [example, width]."""


@dataclass(frozen=True)
class Recurrent(Learner):
    """Carries what it knows of the task in the state of an LSTM.

    Attributes:
        network: backbone and delta that make features of inputs, without a head.
        outputs: the largest number of classes, or the number of regression outputs.
        width: units of the LSTM.
        along: weight of the answers along the support in the loss, beside 1 for those to the queries.

    Raises:
        ValueError: `outputs` or `width` is below 1, or `along` below 0.
    """

    name: ClassVar[str] = "recurrent"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    outputs: int = 1
    width: int = 128
    along: float = 1.0

    def __post_init__(self) -> None:
        if min(self.outputs, self.width) < 1 or self.along < 0:
            found = f"outputs {self.outputs}, width {self.width}, along {self.along}"
            raise ValueError(f"{found}; give outputs and width from 1 up, and along from 0 up")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values and `cell.*`; the forget gate starts open."""
        inputs = self.network.backbone.width + self.outputs
        bias = torch.zeros(4 * self.width)
        bias[self.width : 2 * self.width] = 1
        cell = {
            "cell.read": normal(4 * self.width, inputs, generator),
            "cell.carry": normal(4 * self.width, self.width, generator),
            "cell.bias": bias,
            "cell.answer": normal(self.outputs, self.width, generator),
            "cell.answer_bias": torch.zeros(self.outputs),
        }
        start = self.network.init(generator)
        return start | {name: tensor.to(self.network.device) for name, tensor in cell.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query, and that along the support, where each answer comes before its target is seen."""
        support, query = blank(episode.support), blank(episode.query)
        state, last, answers = self._read(params, support)
        mean = self._answers(params, (state, last), query.inputs)
        loss = weighted_loss(_cut(mean, query.ways), query)
        return loss + self.along * weighted_loss(_cut(answers, support.ways), support)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`hidden` and `cell` [width], and `last` [output], the target that was seen last.

        Raises:
            TaskError: the task has more classes than `outputs`, or another number of regression outputs.
        """
        (hidden, cell), last, _ = self._read(params, blank(support))
        tensors = {"hidden": hidden, "cell": cell, "last": last}
        return Adapter(tensors, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Each input is read in one step from the state after the support."""
        tensors = adapter.tensors
        mean = self._answers(params, ((tensors["hidden"], tensors["cell"]), tensors["last"]), inputs)
        return Prediction(_cut(mean, adapter.facts["ways"]))

    def _read(self, params: Params, support: Batch) -> tuple[State, Tensor, Tensor]:
        """`(state, last target [output], answers [example, output])`; rows of weight 0 are passed over."""
        features = self.network.features(params, support.inputs)
        targets = self._targets(support, features.dtype)
        state = (features.new_zeros(self.width), features.new_zeros(self.width))
        last, answers = targets.new_zeros(self.outputs), []
        read = linear(features, params["cell.read"][:, : features.shape[-1]], params["cell.bias"])
        for row in range(len(features)):
            real = support.weights[row] > 0
            hidden, cell = self._step(params, state, last, read[row])
            answers.append(linear(hidden, params["cell.answer"], params["cell.answer_bias"]))
            state = (torch.where(real, hidden, state[0]), torch.where(real, cell, state[1]))
            last = torch.where(real, targets[row], last)
        return state, last, torch.stack(answers)

    def _answers(self, params: Params, known: tuple[State, Tensor], inputs: Inputs) -> Tensor:
        state, last = known
        features = self.network.features(params, inputs)
        read = linear(features, params["cell.read"][:, : features.shape[-1]], params["cell.bias"])
        hidden, _ = self._step(params, state, last, read)
        return linear(hidden, params["cell.answer"], params["cell.answer_bias"])

    def _step(self, params: Params, state: State, last: Tensor, read: Tensor) -> State:
        """The next state; `read` [..., 4 width] is what the gates get from the input."""
        before = linear(last, params["cell.read"][:, -self.outputs :]) + linear(state[0], params["cell.carry"])
        enter, forget, fresh, leave = (read + before).chunk(4, -1)
        cell = forget.sigmoid() * state[1] + enter.sigmoid() * fresh.tanh()
        return leave.sigmoid() * cell.tanh(), cell

    def _targets(self, support: Batch, dtype: torch.dtype) -> Tensor:
        """[example, output]: the targets as numbers, classes one-hot."""
        targets = one_hot(support, dtype) if support.ways else support.targets
        if targets.shape[-1] > self.outputs or (not support.ways and targets.shape[-1] != self.outputs):
            raise TaskError(
                f"the task has {targets.shape[-1]} outputs and this learner {self.outputs}; give it as many"
            )
        return pad(targets, (0, self.outputs - targets.shape[-1]))


def _cut(outputs: Tensor, ways: int) -> Tensor:
    return outputs[..., :ways] if ways else outputs
