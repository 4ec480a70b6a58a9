"""Conditional neural process. Garnelo, Rosenbaum, Maddison, et al., 2018, arXiv 1807.01613.

The support's pairs are encoded one by one and averaged, r = mean h(x_i, y_i); a query's answer is a normal distribution
whose mean and deviation are g(x, r). Meta-training raises the log density of the query's targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import weighted_centre
from quickstudy.learners.losses import blank
from quickstudy.learners.processes import check_sizes, layers, normal, one_tensor, pairs, process_loss, start_layers


@dataclass(frozen=True)
class CNP(Learner):
    """Averages what it makes of each example.

    Attributes:
        inputs: number of inputs.
        outputs: number of outputs.
        width: of the representation and of all layers.
        encoder: number of layers of h.
        decoder: number of layers of g.
        least: smallest predictive deviation.
        device: where the meta-parameters lie.

    Raises:
        ValueError: a size is below 1.
    """

    name: ClassVar[str] = "cnp"

    inputs: int = 1
    outputs: int = 1
    width: int = 128
    encoder: int = 4
    decoder: int = 3
    least: float = 0.01
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, width=self.width, encoder=self.encoder, decoder=self.decoder)

    def init(self, generator: torch.Generator) -> Params:
        """The layers of encoder and decoder."""
        encoder = (self.inputs + self.outputs, *[self.width] * self.encoder)
        decoder = (self.width + self.inputs, *[self.width] * (self.decoder - 1), 2 * self.outputs)
        drawn = start_layers("encoder", encoder, generator) | start_layers("decoder", decoder, generator)
        return {name: tensor.to(self.device) for name, tensor in drawn.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Minus the mean log density of the query's targets."""
        return process_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`representation` [width].

        Raises:
            TaskError: the task is not a regression on one tensor.
        """
        support = blank(support)
        encoded = layers(params, "encoder", pairs(support))
        return Adapter({"representation": weighted_centre(encoded, support.weights)}, self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Means and variances [example, output]."""
        x = one_tensor(inputs)
        representation = adapter.tensors["representation"].expand(len(x), -1)
        return normal(layers(params, "decoder", torch.cat([x, representation], -1)), self.least)
