"""Everything moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta


@dataclass(frozen=True)
class Full(Delta):
    """All parameters of the body move, from the backbone's own values.

    Attributes:
        beside: another delta whose tensors move too. With `Full(LoRA())`, meta-training reaches the whole body, while
            an inner loop that freezes `*.weight` moves the matrices alone.
    """

    beside: Delta | None = None

    def attach(self, module: nn.Module) -> nn.Module:
        """`module`, with the places of the delta beside."""
        return module if self.beside is None else self.beside.attach(module)

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:
        """A copy of each of `start`, by the names of the parameters of `module`, and what the delta beside begins with.

        Raises:
            ValueError: `start` lacks a parameter of `module`.
        """
        more = {} if self.beside is None else self.beside.init(module, start, generator)
        names = [name for name, _ in module.named_parameters() if name not in more]
        missing = [name for name in names if name not in start]
        if missing:
            raise ValueError(f"the backbone gave no starting value for {missing[0]!r} and {len(missing) - 1} more")
        return {name: start[name].detach().clone() for name in names} | more
