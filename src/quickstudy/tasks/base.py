"""The contract of a task source: where episodes come from."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from quickstudy.core.types import Episode


class TaskSource(ABC):
    """A distribution over tasks: a frozen dataclass.

    Every draw takes a generator, so the same seed gives the same tasks.
    """

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Episode:
        """One episode; support and query share no example."""
