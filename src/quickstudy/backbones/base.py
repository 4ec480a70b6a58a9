"""The contract of a backbone: what computes features from inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from quickstudy.core.types import Fingerprint, Params


class Backbone(ABC):
    """A description of a network that turns inputs [example, ...] into features [example, width].

    A backbone is a frozen dataclass: its constructor stores and does nothing else. Weights are read when `module` is
    first asked for. The features of a language model are logits, [example, token asked about, width].
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of features."""

    @property
    @abstractmethod
    def fingerprint(self) -> Fingerprint | None:
        """What the base weights are; None where they are drawn by `start` and so are meta-parameters themselves."""

    @abstractmethod
    def module(self) -> nn.Module:
        """A fresh skeleton whose `forward(inputs)` returns features [example, width].

        Base weights are shared between skeletons, not copied.
        """

    @abstractmethod
    def start(self, generator: torch.Generator) -> Params:
        """Starting values of all parameters of `module`: drawn with `generator`, or the base weights as they are."""
