"""A task source that other processes can import."""

import os
from dataclasses import dataclass

import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode


@dataclass(frozen=True)
class Places:
    """Draws of numbers, and where they were drawn."""

    fail: bool = False

    def sample(self, generator):
        if self.fail:
            raise TaskError("no such task")
        values = torch.rand(2, 3, generator=generator)
        batch = Batch(values, torch.tensor([os.getpid()] * 2), torch.ones(2), 0)
        return Episode(batch, batch)
