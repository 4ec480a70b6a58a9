"""Images by class, kept as bytes, and episodes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.draws import Layout, Size, check_size, draw_size, labelled_batch, largest
from quickstudy.tasks.table import enumerated

QUARTERS = 4
"""Turns by 90 degrees until an image is upright again."""


@dataclass(frozen=True, eq=False)
class ImageClasses:
    """Images, those of a class one after the other.

    Attributes:
        images: [image, channel, height, width] uint8.
        counts: the number of images of each class.
        names: of the classes.
    """

    images: Tensor
    counts: tuple[int, ...]
    names: tuple[str, ...]

    def take(self, codes: Tensor) -> Tensor:
        """[example, channel, height, width] float32 from 0 to 1, for codes of image and quarter turns, as
        `draw_codes` returns them."""
        images = self.images[codes // QUARTERS]
        turns = codes % QUARTERS
        for quarters in range(1, QUARTERS):
            where = (turns == quarters).nonzero().flatten()
            if len(where):
                images[where] = torch.rot90(images[where], quarters, (2, 3))
        return images.float().div_(255)

    def draw_codes(self, classes: Tensor, turns: Tensor, each: int, generator: torch.Generator) -> Tensor:
        """[class, each]: `each` different images of every one of `classes`, in random order, all turned by `turns`
        [class] quarters, as image * 4 + quarters."""
        counts = self._counts[classes]
        draws = torch.rand(len(classes), max(self.counts), generator=generator)
        draws[torch.arange(draws.shape[1]) >= counts[:, None]] = 2.0
        rows = self._begins[classes][:, None] + draws.argsort(1)[:, :each]
        return rows * QUARTERS + turns[:, None]

    @cached_property
    def _counts(self) -> Tensor:
        return torch.tensor(self.counts)

    @cached_property
    def _begins(self) -> Tensor:
        return self._counts.cumsum(0) - self._counts


@dataclass(frozen=True)
class Sizes:
    """How large episodes are: classes, support and query examples of each class, as numbers or ranges.

    Attributes:
        ways: classes; a range is drawn anew for each episode and padded with weight 0, here as below.
        shots: support examples of each class.
        queries: query examples of each class.
    """

    ways: Size
    shots: Size
    queries: Size

    def draw(self, generator: torch.Generator) -> tuple[int, int, int]:
        """Ways, shots and queries."""
        ways, shots, queries = (draw_size(size, generator) for size in (self.ways, self.shots, self.queries))
        return ways, shots, queries

    def check(self, classes: ImageClasses, where: str, turns: int = 1) -> None:
        """Nothing, where every episode can be drawn from `classes`, each turned in `turns` ways.

        Raises:
            TaskError: a size without meaning, fewer classes than ways, or a class with too few images.
        """
        check_size("ways", self.ways, 2)
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        if len(classes.names) * turns < largest(self.ways):
            raise TaskError(
                f"{where}: {largest(self.ways)} ways were asked for and there are {len(classes.names) * turns} "
                "classes; ask for fewer ways or add classes"
            )
        need = largest(self.shots) + largest(self.queries)
        small = [(name, count) for name, count in zip(classes.names, classes.counts, strict=True) if count < need]
        if small:
            found = enumerated([f"{name!r} has {count}" for name, count in small])
            raise TaskError(
                f"{where}: an episode takes {largest(self.shots)} shots + {largest(self.queries)} queries = {need} "
                f"different images of a class, but {found}; add images, ask for fewer, or leave these classes out"
            )

    def episode(
        self, classes: ImageClasses, codes: Tensor, shots: int, task: str, names: tuple[str, ...], draw: torch.Generator
    ) -> Episode:
        """The first `shots` of `codes` [class, image] as support, the rest as query; inputs [example, channel, height,
        width]."""
        ways = largest(self.ways)
        wide, layout = Layout(ways, ways * largest(self.shots)), Layout(ways, ways * largest(self.queries))
        support = labelled_batch(classes.take, list(codes[:, :shots]), wide, draw)
        query = labelled_batch(classes.take, list(codes[:, shots:]), layout, draw)
        return Episode(support, query, task, names)
