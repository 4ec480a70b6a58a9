"""The contract of a delta: which small tensors may move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from quickstudy.core.inner import InnerLoop
from quickstudy.core.types import Params


class Delta(ABC):
    """A description of the tensors that training or adapting may change in a module. A frozen dataclass.

    Attributes:
        keeps_outputs: whether the attached module computes as before while its tensors are what `init` returned.
    """

    keeps_outputs: ClassVar[bool] = True

    @abstractmethod
    def attach(self, module: nn.Module) -> nn.Module:
        """`module`, changed in place, with places for this delta's tensors."""

    @abstractmethod
    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:
        """The movable tensors by their dotted names in the attached `module`.

        `start` holds the backbone's own values, by their names in the module before `attach`.
        """


class Steering(Delta):
    """A delta that has a say in how a learner's inner loop takes its steps."""

    @abstractmethod
    def steered(self, loop: InnerLoop) -> InnerLoop:
        """`loop` with the steps that this delta needs; the names of parameters may have anything before its own."""
