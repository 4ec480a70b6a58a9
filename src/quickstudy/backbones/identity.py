"""No network: inputs that are features already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from quickstudy.backbones.base import Backbone
from quickstudy.core.types import Fingerprint, Params


@dataclass(frozen=True)
class Identity(Backbone):
    """Features are the inputs.

    Attributes:
        size: number of features.
    """

    size: int

    @property
    def width(self) -> int:
        """The number of features."""
        return self.size

    @property
    def fingerprint(self) -> Fingerprint | None:
        """None: there is no file behind it."""
        return None

    def module(self) -> nn.Module:
        """A skeleton without parameters."""
        return nn.Identity()

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - the contract; nothing is drawn
        """Empty."""
        return {}
