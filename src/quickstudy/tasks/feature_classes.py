"""Classes of features that were computed once: episodes cost an indexing, not a pass through a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Layout, Size, check_size, draw_size, labelled_batch, largest


@dataclass(frozen=True, eq=False)
class FeatureClasses(TaskSource):
    """Each episode is of different classes, and of different rows of each.

    Attributes:
        features: [row, feature], the rows of a class one after the other.
        counts: number of rows of each class.
        ways: classes; a range is drawn anew for each episode and padded with weight 0, here as below.
        shots: support examples of each class.
        queries: query examples of each class.
        groups: the group of each class, such as its domain; empty for none.
        within: share of the episodes whose classes are all of one group, of those that are large enough; each such
            group is as likely as another.
        dropped: share of the coordinates, drawn anew for each episode, that are 0 in all of its rows. In training it
            keeps a learner from knowing classes by heart.
    """

    features: Tensor
    counts: tuple[int, ...]
    ways: Size = 5
    shots: Size = 5
    queries: Size = 5
    groups: tuple[int, ...] = ()
    within: float = 0.0
    dropped: float = 0.0

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode: inputs [example, feature]; labels such as "class 12".

        Raises:
            TaskError: counts that are not those of the rows, a size without meaning, or more than there is.
        """
        scopes, begins = self._prepared
        ways, shots, queries = (draw_size(size, generator) for size in (self.ways, self.shots, self.queries))
        apart = len(scopes) > 1 and float(torch.rand((), generator=generator)) < self.within
        number = 1 + int(torch.randint(len(scopes) - 1, (), generator=generator)) if apart else 0
        scope = scopes[number]
        chosen = scope[torch.randperm(len(scope), generator=generator)[:ways]]
        counts = torch.tensor(self.counts)[chosen]
        draws = torch.rand(ways, int(counts.max()), generator=generator)
        draws[torch.arange(draws.shape[1]) >= counts[:, None]] = 2.0
        rows = begins[chosen][:, None] + draws.argsort(1)[:, : shots + queries]
        most = largest(self.ways)
        kept = torch.rand(self.features.shape[1], generator=generator) >= self.dropped
        support, query = (
            labelled_batch(
                lambda rows: self.features[rows] * kept, list(part), Layout(most, most * largest(size)), generator
            )
            for part, size in ((rows[:, :shots], self.shots), (rows[:, shots:], self.queries))
        )
        return Episode(support, query, "classes of features", tuple(f"class {each}" for each in chosen.tolist()))

    @cached_property
    def _prepared(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """Sets of class numbers, that of all first and then the groups; and the first row of each class."""
        check_size("ways", self.ways, 2)
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        counts = torch.tensor(self.counts)
        if int(counts.sum()) != len(self.features) or (self.groups and len(self.groups) != len(counts)):
            found = f"{len(self.features)} rows, counts that sum to {int(counts.sum())}, {len(self.groups)} groups"
            raise TaskError(f"{found} for {len(counts)} classes; give a count, and a group or none, for each class")
        need = largest(self.shots) + largest(self.queries)
        if len(counts) < largest(self.ways) or int(counts.min()) < need:
            found = f"{len(counts)} classes, the smallest of {int(counts.min())} rows"
            raise TaskError(f"{found}; an episode takes {largest(self.ways)} classes of {need}: ask for fewer")
        members: dict[int, list[int]] = {}
        for number, group in enumerate(self.groups):
            members.setdefault(group, []).append(number)
        large = [torch.tensor(each) for each in members.values() if len(each) >= largest(self.ways)]
        return (torch.arange(len(counts)), *large), counts.cumsum(0) - counts
