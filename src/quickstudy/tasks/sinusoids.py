"""Sine waves of varying amplitude and phase: the regression tasks of Finn, Abbeel and Levine 2017, arXiv 1703.03400."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, check_size, draw_between, draw_size, largest


@dataclass(frozen=True)
class Sinusoids(TaskSource):
    """y = amplitude * sin(x - phase) + noise, with x, amplitude and phase drawn uniformly.

    Attributes:
        shots: support examples; a range is drawn anew for each episode and padded with weight 0.
        queries: query examples.
        amplitude: smallest and largest.
        phase: smallest and largest.
        x: smallest and largest.
        noise: standard deviation of normal noise on the support's y.
    """

    shots: Size = 10
    queries: int = 10
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)
    noise: float = 0.0

    def sample(self, generator: torch.Generator) -> Episode:
        """One wave: inputs [example, 1], targets [example, 1], `ways` 0.

        Raises:
            TaskError: a size below 1.
        """
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        amplitude = draw_between(*self.amplitude, generator)
        phase = draw_between(*self.phase, generator)

        def points(rows: int, real: int, noise: float) -> Batch:
            x = self.x[0] + (self.x[1] - self.x[0]) * torch.rand(rows, 1, generator=generator)
            y = amplitude * torch.sin(x - phase) + noise * torch.randn(rows, 1, generator=generator)
            return Batch(x, y, (torch.arange(rows) < real).float())

        shots = draw_size(self.shots, generator)
        support = points(largest(self.shots), shots, self.noise)
        query = points(self.queries, self.queries, 0.0)
        return Episode(support, query, f"sine of amplitude {amplitude:.3f}, phase {phase:.3f}")
