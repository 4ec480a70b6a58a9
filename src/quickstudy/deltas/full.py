"""Everything moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta


@dataclass(frozen=True)
class Full(Delta):
    """All parameters of the body move, from the backbone's own values."""

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` as it is."""
        return module

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """A copy of each of `start`, by the names of the parameters of `module`.

        Raises:
            ValueError: `start` lacks a parameter of `module`.
        """
        names = [name for name, _ in module.named_parameters()]
        missing = [name for name in names if name not in start]
        if missing:
            raise ValueError(f"the backbone gave no starting value for {missing[0]!r} and {len(missing) - 1} more")
        return {name: start[name].detach().clone() for name in names}
