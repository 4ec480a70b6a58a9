"""One linear layer without a bias: the smallest model, whose squared error is a quadratic of its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from quickstudy.backbones.base import Backbone
from quickstudy.core.types import Fingerprint, Params


@dataclass(frozen=True)
class Linear(Backbone):
    """features = inputs W^T. Its weights are drawn by `start`, so they are meta-parameters themselves.

    Attributes:
        inputs: number of inputs; those with more than two axes are flattened.
        outputs: number of features.

    Raises:
        ValueError: when first used, if a number is below 1.
    """

    inputs: int = 10
    outputs: int = 1

    @property
    def width(self) -> int:
        """The number of features."""
        self._check()
        return self.outputs

    @property
    def fingerprint(self) -> Fingerprint | None:
        """None: there is no file behind it."""
        return None

    def module(self) -> nn.Module:
        """A skeleton that maps a tensor [example, ...] to [example, feature]."""
        layer = nn.utils.skip_init(nn.Linear, self.inputs, self.width, bias=False)  # type: ignore[no-untyped-call]
        skeleton = nn.Sequential(nn.Flatten(), layer)
        skeleton.load_state_dict(self.start(torch.Generator().manual_seed(0)))
        return skeleton

    def start(self, generator: torch.Generator) -> Params:
        """`1.weight` [feature, input], uniform in +-1/sqrt(input)."""
        self._check()
        weight = torch.rand(self.outputs, self.inputs, generator=generator)
        return {"1.weight": (2 * weight - 1) / self.inputs**0.5}

    def _check(self) -> None:
        if min(self.inputs, self.outputs) < 1:
            raise ValueError(f"there are {self.inputs} inputs and {self.outputs} outputs; give 1 or more of each")
