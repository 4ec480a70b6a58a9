"""Gaussian blobs: each class is a cloud of points around a centre of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Layout, Size, check_size, draw_size, labelled_batch, largest


@dataclass(frozen=True)
class GaussianBlobs(TaskSource):
    """Classes whose centres are drawn from N(0, spread^2) and whose points from N(centre, noise^2).

    Attributes:
        ways: classes; a range is drawn anew for each episode and padded with weight 0, here as below.
        shots: support examples of each class.
        queries: query examples of each class.
        width: number of coordinates.
        spread: standard deviation of the centres, in each coordinate.
        noise: standard deviation of the points around their centre.
    """

    ways: Size = 5
    shots: Size = 5
    queries: Size = 15
    width: int = 2
    spread: float = 3.0
    noise: float = 1.0

    def sample(self, generator: torch.Generator) -> Episode:
        """One set of clouds: inputs [example, width].

        Raises:
            TaskError: fewer than two ways, or a size below 1.
        """
        check_size("ways", self.ways, 2)
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        ways, shots, queries = (draw_size(size, generator) for size in (self.ways, self.shots, self.queries))
        centres = self.spread * torch.randn(ways, 1, self.width, generator=generator)
        each = shots + queries
        points = (centres + self.noise * torch.randn(ways, each, self.width, generator=generator)).flatten(0, 1)
        rows = torch.arange(ways * each).reshape(ways, each)
        most = largest(self.ways)
        support = labelled_batch(
            points.__getitem__, list(rows[:, :shots]), Layout(most, most * largest(self.shots)), generator
        )
        query = labelled_batch(
            points.__getitem__, list(rows[:, shots:]), Layout(most, most * largest(self.queries)), generator
        )
        return Episode(support, query, "blobs", tuple(f"blob {number}" for number in range(ways)))
