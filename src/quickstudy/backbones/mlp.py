"""A fully connected network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.core.types import Fingerprint, Params

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
}


@dataclass(frozen=True)
class MLP(Backbone):
    """Linear layers, each followed by the activation.

    Its weights are drawn by `start`, so they are meta-parameters themselves. A parameter that no delta moves keeps the
    value that `start` draws with seed 0, the same in every skeleton.

    Attributes:
        widths: number of inputs, then the width of each layer; the last one is the number of features. Inputs with more
            than two axes are flattened.
        activation: one of `ACTIVATIONS`.

    Raises:
        ValueError: when first used, if there are fewer than two widths, one is below 1, or the activation is unknown.
    """

    widths: tuple[int, ...] = (1, 40, 40)
    activation: str = "relu"

    @property
    def width(self) -> int:
        """The last of `widths`."""
        self._check()
        return self.widths[-1]

    @property
    def fingerprint(self) -> Fingerprint | None:
        """None: there is no file behind it."""
        return None

    def module(self) -> nn.Module:
        """A skeleton that maps a tensor [example, ...] to [example, width]."""
        self._check()
        skeleton = MLPModule(self.widths, self.activation)
        skeleton.load_state_dict(self.start(torch.Generator().manual_seed(0)))
        return skeleton

    def start(self, generator: torch.Generator) -> Params:
        """`layers.<i>.weight` [output, input] and `layers.<i>.bias` [output], uniform in +-1/sqrt(input)."""
        self._check()
        params = {}
        for index, (inputs, outputs) in enumerate(pairwise(self.widths)):
            bound = 1 / math.sqrt(inputs)
            weight = torch.rand(outputs, inputs, generator=generator)
            bias = torch.rand(outputs, generator=generator)
            params[f"layers.{index}.weight"] = (2 * weight - 1) * bound
            params[f"layers.{index}.bias"] = (2 * bias - 1) * bound
        return params

    def _check(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths are {self.widths}; give at least two numbers, each 1 or more")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"the activation is {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}")


class MLPModule(nn.Module):
    """What `MLP.module` returns."""

    def __init__(self, widths: tuple[int, ...], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call] # untyped in torch
            for inputs, outputs in pairwise(widths)
        )
        self.activation = ACTIVATIONS[activation]

    def forward(self, inputs: Tensor) -> Tensor:
        """[example, width]."""
        hidden = inputs.flatten(1)
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
        return hidden
