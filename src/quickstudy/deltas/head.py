"""Nothing of the body moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta


@dataclass(frozen=True)
class Head(Delta):
    """The body stays as it is; only a head outside it, if there is one, learns."""

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` as it is."""
        return module

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """No tensors."""
        return {}
