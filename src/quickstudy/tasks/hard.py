"""Which classes are close to each other, for episodes that are hard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.tasks.table import Table

TEXTS_PER_CLASS = 64
"""How many texts of a class, the first ones, make its vector."""


@dataclass(frozen=True, eq=False)
class HardClasses:
    """How episodes of close classes are drawn.

    A first class is drawn uniformly, so every class has its turn; the others follow without repetition, with
    probabilities in proportion to exp(cosine / temperature) of their vectors with the first one's.

    Attributes:
        vectors: [class, width], the classes in the order of `Table.classes`; None to compute them by `embed`.
        embed: texts to [text, width]; a class's vector is the mean over its first `TEXTS_PER_CLASS` texts.
        temperature: small for the nearest classes only, large for any.
        share: the part of all episodes that are drawn this way; the others are drawn uniformly.
    """

    vectors: Tensor | None = None
    embed: Callable[[Sequence[str]], Tensor] | None = None
    temperature: float = 0.05
    share: float = 1.0

    def cosines(self, table: Table) -> Tensor:
        """[class, class] cosines of the class vectors, in float64 on the CPU.

        Raises:
            TaskError: neither vectors nor embed, both, vectors of another number of classes, or not finite; a
                temperature or share that has no meaning.
        """
        if (self.vectors is None) == (self.embed is None):
            raise TaskError("hard episodes need either class vectors or a way to embed texts; give one of the two")
        if self.temperature <= 0 or not 0 <= self.share <= 1:
            raise TaskError(
                f"temperature is {self.temperature} and share {self.share}; expected above 0 and from 0 to 1"
            )
        vectors = self._computed(table) if self.vectors is None else self.vectors
        if vectors.dim() != 2 or len(vectors) != len(table.classes):
            raise TaskError(
                f"class vectors have shape {list(vectors.shape)}, but {table.name} has {len(table.classes)} classes; "
                "expected one row for each class, in the order of Table.classes"
            )
        if not torch.isfinite(vectors).all():
            raise TaskError("class vectors hold NaN or infinity; compute them again")
        unit = torch.nn.functional.normalize(vectors.detach().cpu().double(), dim=1)
        return unit @ unit.T

    def _computed(self, table: Table) -> Tensor:
        assert self.embed is not None
        numbers: dict[str, list[int]] = {label: [] for label in table.classes}
        for row, label in enumerate(table.labels):
            if len(numbers[label]) < TEXTS_PER_CLASS:
                numbers[label].append(row)
        features = self.embed([table.texts[row] for rows in numbers.values() for row in rows])
        counts = [len(rows) for rows in numbers.values()]
        return torch.stack([part.mean(0) for part in torch.split(features.detach(), counts)])


@dataclass(frozen=True, eq=False)
class NearbyDraw:
    """The draw itself.

    Attributes:
        hard: what was asked for.
        table: whose classes.
    """

    hard: HardClasses
    table: Table

    @cached_property
    def _cosines(self) -> tuple[Tensor, dict[str, int]]:
        return self.hard.cosines(self.table), {label: number for number, label in enumerate(self.table.classes)}

    def __call__(self, labels: Sequence[str], ways: int, generator: torch.Generator) -> list[str]:
        """`ways` of `labels`, close to each other, in random order."""
        cosines, numbers = self._cosines
        first = int(torch.randint(len(labels), (), generator=generator))
        near = cosines[numbers[labels[first]], [numbers[label] for label in labels]] / self.hard.temperature
        near[first] = float("inf")
        uniform = torch.rand(len(labels), generator=generator, dtype=torch.float64).clamp(min=1e-300)
        gumbel = -torch.log(-torch.log(uniform))
        chosen = torch.topk(near + gumbel, ways).indices
        return [labels[int(place)] for place in chosen[torch.randperm(ways, generator=generator)]]
