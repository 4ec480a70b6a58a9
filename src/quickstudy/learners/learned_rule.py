"""An update rule that is an LSTM: from the gradient of a coordinate to its step.

Andrychowicz, Denil, Gomez, Hoffman, Pfau, Schaul, Shillingford, de Freitas, 2016, arXiv 1606.04474. All coordinates
share the weights and each has a state of its own, so a rule that was trained on functions of ten coordinates runs on
any number of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from quickstudy.core.types import Params

Output = Literal["direct", "relative"]

RATE, DECAY = 0.2, 0.9
LARGEST_LOG = 6.0


@dataclass(frozen=True)
class LearnedRule:
    """A coordinate-wise LSTM on the size and the sign of the gradient.

    Attributes:
        hidden: units of each layer.
        layers: number of layers.
        p: a gradient g is read as (log|g| / p, sign g), and as (-1, e^p g) where |g| < e^-p.
        output: "direct", the step is `scale` times an output, as in the paper; "relative", it is that of heavy-ball
            momentum, of which the LSTM gives the rate, `RATE` e^o, and the decay, a sigmoid that starts at `DECAY`, for
            each coordinate and step. It shrinks with the gradient, so that small losses can be reached.
        scale: of the direct output.
        limit: a relative step s becomes limit * tanh(s / limit), so that nothing grows without bounds.
        hold: hold still what the LSTM reads, whatever is done with the rest: the logarithm of a small gradient has a
            large derivative, which makes meta-training of networks fail.

    Raises:
        ValueError: a number is out of its range, or a word is not known.
    """

    hidden: int = 20
    layers: int = 2
    p: float = 10.0
    output: Output = "direct"
    scale: float = 0.1
    limit: float = 1.0
    hold: bool = False

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers) < 1:
            raise ValueError(f"there are {self.layers} layers of {self.hidden} units; give 1 or more of each")
        if not min(self.p, self.scale, self.limit) > 0:
            raise ValueError(f"p, scale and limit are {self.p}, {self.scale}, {self.limit}; give numbers above 0")
        if self.output not in get_args(Output):
            raise ValueError(f"output is {self.output!r}; give one of {', '.join(get_args(Output))}")

    def init(self, generator: torch.Generator) -> Params:
        """`lstm.<layer>.weight` [input, gate] and `.bias` [gate], `output.weight` [unit, output] and `.bias` [output].

        Weights are uniform in +-1/sqrt(hidden), those of the relative output a tenth of that; biases are 0. Inputs are
        the layer's own and its units; gates are input, forget, output and candidate.
        """
        bound = 1 / math.sqrt(self.hidden)

        def uniform(rows: int, columns: int, largest: float) -> Tensor:
            return (2 * torch.rand(rows, columns, generator=generator) - 1) * largest

        weights = {}
        for layer in range(self.layers):
            inputs = self.hidden if layer else 2
            weights[f"lstm.{layer}.weight"] = uniform(inputs + self.hidden, 4 * self.hidden, bound)
            weights[f"lstm.{layer}.bias"] = torch.zeros(4 * self.hidden)
        outputs = 2 if self.output == "relative" else 1
        weights["output.weight"] = uniform(self.hidden, outputs, bound / 10 if outputs == 2 else bound)
        weights["output.bias"] = torch.zeros(outputs)
        return weights

    def start(self, like: Tensor) -> Params:
        """The state before the first step on `like` [..., coordinate]: zeros."""
        unit = like.new_zeros((*like.shape, self.hidden))
        cells = {f"{kind}.{layer}": unit for layer in range(self.layers) for kind in ("hidden", "cell")}
        return {**cells, "move": torch.zeros_like(like)}

    def step(self, weights: Params, gradient: Tensor, state: Params) -> tuple[Tensor, Params]:
        """What is to be added to the coordinates [..., coordinate], and the state after it.

        Args:
            weights: as from `init`.
            gradient: [..., coordinate].
            state: as from `start` or the last step.
        """
        read = gradient.detach() if self.hold else gradient
        inputs, after = torch.stack(preprocessed(read, self.p), -1), {}
        for layer in range(self.layers):
            seen = torch.cat([inputs, state[f"hidden.{layer}"]], -1)
            gates = seen @ weights[f"lstm.{layer}.weight"] + weights[f"lstm.{layer}.bias"]
            inputs, after[f"cell.{layer}"] = lstm_cell(gates, state[f"cell.{layer}"])
            after[f"hidden.{layer}"] = inputs
        outputs = inputs @ weights["output.weight"] + weights["output.bias"]
        move = self._move(outputs, gradient, state["move"])
        return move, {**after, "move": move}

    def _move(self, outputs: Tensor, gradient: Tensor, last: Tensor) -> Tensor:
        if self.output == "direct":
            return self.scale * outputs[..., 0]
        rate = RATE * torch.exp(outputs[..., 0].clamp(-LARGEST_LOG, LARGEST_LOG))
        decay = torch.sigmoid(outputs[..., 1] + math.log(DECAY / (1 - DECAY)))
        return self.limit * torch.tanh((decay * last - rate * gradient) / self.limit)


def preprocessed(gradient: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """(log|g| / p, sign g), and (-1, e^p g) where |g| < e^-p: size and direction, both of the order of 1."""
    smallest = math.exp(-p)
    size = gradient.abs()
    large = size >= smallest
    logarithm = torch.where(large, torch.where(large, size, 1.0).log() / p, -1.0)
    return logarithm, torch.where(large, gradient.sign(), gradient / smallest)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """`(hidden, cell)` [..., unit] after one step, from the gates' inputs [..., gate] and the cell before."""
    units = cell.shape[-1]
    inputs, forget, output = gates[..., : 3 * units].sigmoid().chunk(3, -1)
    cell = forget * cell + inputs * gates[..., 3 * units :].tanh()
    return output * cell.tanh(), cell
