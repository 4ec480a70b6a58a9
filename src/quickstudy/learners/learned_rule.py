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

Signal = Literal["gradient", "change", "move"]
"""The gradient, how much it changed since the last step, and the last step itself."""

Output = Literal["direct", "relative"]

RATE, DECAY = 0.02, 0.8
LARGEST_LOG = 6.0


@dataclass(frozen=True)
class LearnedRule:
    """A coordinate-wise LSTM. With one signal, no shared units and the direct output it is the paper's rule.

    Attributes:
        hidden: units of each layer.
        layers: number of layers.
        p: each signal g is read as (log|g| / p, sign g), and as (-1, e^p g) where |g| < e^-p.
        signals: what is read of each coordinate.
        shared: so many units of each layer are read by the others as their mean over all coordinates as well (the
            "global averaging cells" of the paper's appendix).
        output: "direct", the step is `scale` times an output; "relative", it is heavy-ball momentum, of which the LSTM
            gives the rate, `RATE` e^o, and the decay, a sigmoid that starts at `DECAY`, for each coordinate and step.
        scale: of the direct output.

    Raises:
        ValueError: a number is out of its range, or a word is not known.
    """

    hidden: int = 20
    layers: int = 2
    p: float = 10.0
    signals: tuple[Signal, ...] = ("gradient",)
    shared: int = 0
    output: Output = "direct"
    scale: float = 0.1

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers) < 1:
            raise ValueError(f"there are {self.layers} layers of {self.hidden} units; give 1 or more of each")
        if not (self.p > 0 and self.scale > 0):
            raise ValueError(f"p is {self.p} and scale is {self.scale}; give numbers above 0")
        if not 0 <= self.shared <= self.hidden:
            raise ValueError(f"shared is {self.shared}; give 0 to {self.hidden}, the number of units")
        known = get_args(Signal)
        if not self.signals or not set(self.signals) <= set(known):
            raise ValueError(f"signals are {self.signals}; give some of {', '.join(known)}")
        if self.output not in get_args(Output):
            raise ValueError(f"output is {self.output!r}; give one of {', '.join(get_args(Output))}")

    def init(self, generator: torch.Generator) -> Params:
        """`lstm.<layer>.weight` [input, gate] and `.bias` [gate], `output.weight` [unit, output] and `.bias` [output].

        Weights are uniform in +-1/sqrt(hidden), those of the relative output a tenth of that; biases are 0. Inputs are
        the layer's own, its units, and the shared means; gates are input, forget, output and candidate.
        """
        bound = 1 / math.sqrt(self.hidden)

        def uniform(rows: int, columns: int, largest: float) -> Tensor:
            return (2 * torch.rand(rows, columns, generator=generator) - 1) * largest

        weights = {}
        for layer in range(self.layers):
            inputs = self.hidden if layer else 2 * len(self.signals)
            weights[f"lstm.{layer}.weight"] = uniform(inputs + self.hidden + self.shared, 4 * self.hidden, bound)
            weights[f"lstm.{layer}.bias"] = torch.zeros(4 * self.hidden)
        outputs = 2 if self.output == "relative" else 1
        weights["output.weight"] = uniform(self.hidden, outputs, bound / 10 if outputs == 2 else bound)
        weights["output.bias"] = torch.zeros(outputs)
        return weights

    def start(self, like: Tensor) -> Params:
        """The state before the first step on `like` [..., coordinate]: zeros."""
        unit = like.new_zeros((*like.shape, self.hidden))
        cells = {f"{kind}.{layer}": unit for layer in range(self.layers) for kind in ("hidden", "cell")}
        zeros = torch.zeros_like(like)
        return {**cells, "gradient": zeros, "move": zeros}

    def step(self, weights: Params, gradient: Tensor, state: Params) -> tuple[Tensor, Params]:
        """What is to be added to the coordinates [..., coordinate], and the state after it.

        Args:
            weights: as from `init`.
            gradient: [..., coordinate]; coordinates of one function lie on the last axis.
            state: as from `start` or the last step.
        """
        signals = {"gradient": gradient, "change": gradient - state["gradient"], "move": state["move"]}
        read = [part for name in self.signals for part in preprocessed(signals[name], self.p)]
        inputs, after = torch.stack(read, -1), {}
        for layer in range(self.layers):
            before = state[f"hidden.{layer}"]
            parts = [inputs, before]
            if self.shared:
                mean = before[..., : self.shared].mean(-2, keepdim=True)
                parts.append(mean.expand((*before.shape[:-1], self.shared)))
            gates = torch.cat(parts, -1) @ weights[f"lstm.{layer}.weight"] + weights[f"lstm.{layer}.bias"]
            inputs, after[f"cell.{layer}"] = lstm_cell(gates, state[f"cell.{layer}"])
            after[f"hidden.{layer}"] = inputs
        outputs = inputs @ weights["output.weight"] + weights["output.bias"]
        move = self._move(outputs, gradient, state["move"])
        return move, {**after, "gradient": gradient, "move": move}

    def _move(self, outputs: Tensor, gradient: Tensor, last: Tensor) -> Tensor:
        if self.output == "direct":
            return self.scale * outputs[..., 0]
        rate = RATE * torch.exp(outputs[..., 0].clamp(-LARGEST_LOG, LARGEST_LOG))
        decay = torch.sigmoid(outputs[..., 1] + math.log(DECAY / (1 - DECAY)))
        return decay * last - rate * gradient


def preprocessed(signal: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """(log|g| / p, sign g), and (-1, e^p g) where |g| < e^-p: size and direction, both of the order of 1."""
    smallest = math.exp(-p)
    size = signal.abs()
    large = size >= smallest
    logarithm = torch.where(large, torch.where(large, size, 1.0).log() / p, -1.0)
    return logarithm, torch.where(large, signal.sign(), signal / smallest)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """`(hidden, cell)` [..., unit] after one step, from the gates' inputs [..., gate] and the cell before."""
    units = cell.shape[-1]
    inputs, forget, output = gates[..., : 3 * units].sigmoid().chunk(3, -1)
    cell = forget * cell + inputs * gates[..., 3 * units :].tanh()
    return output * cell.tanh(), cell
