"""Test tasks: drawn with a seed, the same for every learner."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource


def drawn_tasks(tasks: TaskSource, episodes: int, seed: int) -> Iterator[Episode]:
    """The first `episodes` tasks that a generator of `seed` draws.

    Raises:
        ValueError: `episodes` is below 1.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; give 1 or more")
    generator = torch.Generator().manual_seed(seed)
    return (tasks.sample(generator) for _ in range(episodes))
