"""Episodes from a labelled table, and mixtures of sources."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Layout, Size, check_size, draw_one, draw_rows, draw_size, labelled_batch, largest
from quickstudy.tasks.encoded import Encode, EncodedTexts
from quickstudy.tasks.hard import HardClasses, NearbyDraw
from quickstudy.tasks.pools import Pools, large_enough, make_pools
from quickstudy.tasks.table import Table


@dataclass(frozen=True, eq=False)
class TableTasks(TaskSource):
    """Episodes of classes and examples drawn from a table.

    Class numbers are dealt at random in each episode, and rows come in random order. Of rows with equal texts one is
    used; texts with several labels are never drawn, nor with `class_names` texts that equal a class name.

    Attributes:
        table: where examples are drawn from.
        encode: texts to inputs, such as the `inputs` of a text encoder.
        ways: classes in an episode. Ranges are drawn uniformly, anew for each episode; batches are then padded to the
            largest, with weight 0.
        shots: support examples of each class.
        queries: query examples of each class.
        class_names: whether each class's name, underscores as spaces, joins the support as one more row of its class.
        name_weight: weight of such a row; an example has weight 1.
        within: `"domain"` for episodes whose classes are all from one domain; domains are drawn in proportion to their
            numbers of classes. None for classes from anywhere.
        domain_mix: with `within="domain"`, the part of episodes whose classes are from anywhere all the same.
        hard: how episodes of close classes are drawn; None for uniform draws.
        skip_small: whether classes with too few examples are left out; False to refuse the table.
        keep_encoded: whether encodings of all texts are held in memory; False encodes anew for each episode.

    Raises:
        TaskError: at the first episode: a class has too few examples, which it names with the numbers; there are too
            few classes; or a field has no meaning.
    """

    table: Table
    encode: Encode
    ways: Size = 5
    shots: Size = 5
    queries: Size = 15
    class_names: bool = False
    name_weight: float = 1.0
    within: Literal["domain"] | None = None
    domain_mix: float = 0.0
    hard: HardClasses | None = None
    skip_small: bool = False
    keep_encoded: bool = True

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode.

        Batches have at most the largest ways times the largest number of examples of a class; `labels` are in the order
        of the class numbers.
        """
        pools = self._pools
        shots = draw_size(self.shots, generator)
        queries = draw_size(self.queries, generator)
        domain, ways = self._draw_scope(generator)
        labels = self._draw_labels(list(pools.scopes[domain]), ways, generator)
        rows = [draw_rows(pools.scopes[domain][label], shots + queries, generator) for label in labels]
        names = [pools.names[label] for label in labels] if self.class_names else []
        support = labelled_batch(
            self._encoded, [part[:shots] for part in rows], self.support_layout, generator, names, self.name_weight
        )
        query = labelled_batch(self._encoded, [part[shots:] for part in rows], self.query_layout, generator)
        return Episode(support, query, self._name(domain), tuple(labels))

    @property
    def support_layout(self) -> Layout:
        """The size of every support batch."""
        ways = largest(self.ways)
        return Layout(ways, ways * (largest(self.shots) + self.class_names))

    @property
    def query_layout(self) -> Layout:
        """The size of every query batch."""
        return Layout(largest(self.ways), largest(self.ways) * largest(self.queries))

    def eligible(self) -> dict[str, tuple[str, ...]]:
        """Domain -> labels that episodes are drawn from; the domain "" stands for the whole table.

        Raises:
            TaskError: as the class says.
        """
        return {domain: tuple(pools) for domain, pools in self._pools.scopes.items()}

    @cached_property
    def _pools(self) -> Pools:
        self._check()
        pools = make_pools(self.table, self.within == "domain", self.class_names)
        shots, queries = largest(self.shots), largest(self.queries)
        scopes = {
            domain: large_enough(self._name(domain), found, shots, queries, self.skip_small)
            for domain, found in pools.scopes.items()
        }
        ways = max(len(found) for domain, found in scopes.items() if domain or not self.within)
        if ways < largest(self.ways):
            where = "its largest domain" if self.within else "it"
            raise TaskError(
                f"{self.table.name}: {largest(self.ways)} ways were asked for, but {where} has {ways} classes with at "
                f"least {shots + queries} different examples (shots + queries); ask for fewer ways, shots or queries"
            )
        return Pools(pools.texts, scopes, pools.names)

    @cached_property
    def _encoded(self) -> EncodedTexts:
        return EncodedTexts(self.encode, self._pools.texts, self.keep_encoded)

    @cached_property
    def _nearby(self) -> NearbyDraw:
        assert self.hard is not None
        return NearbyDraw(self.hard, self.table)

    def _name(self, domain: str) -> str:
        return f"{self.table.name}/{domain}" if domain else self.table.name

    def _check(self) -> None:
        check_size("ways", self.ways, 2)
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        if self.within not in (None, "domain"):
            raise TaskError(f"within is {self.within!r}; expected 'domain' or None")
        if self.within and not self.table.domains:
            raise TaskError(f"{self.table.name}: within='domain' needs a domain column; name it when reading the table")
        if not 0 <= self.domain_mix <= 1 or self.name_weight <= 0:
            raise TaskError(
                f"domain_mix is {self.domain_mix} and name_weight {self.name_weight}; expected from 0 to 1 and above 0"
            )
        if len(self.table.classes) < 2:
            raise TaskError(
                f"{self.table.name}: there is one class, {self.table.classes[0]!r}; a task needs at least two"
                if self.table.classes
                else f"{self.table.name}: there are no rows; a task needs at least two classes"
            )

    def _draw_scope(self, generator: torch.Generator) -> tuple[str, int]:
        """The domain, "" for all, and the number of classes."""
        scopes = self._pools.scopes
        mixed = not self.within or float(torch.rand((), generator=generator)) < self.domain_mix
        sizes = {domain: len(pools) for domain, pools in scopes.items() if bool(domain) != mixed}
        ways = draw_size(self.ways, generator)
        wide = {domain: size for domain, size in sizes.items() if size >= ways}
        weights = torch.tensor(list(wide.values()), dtype=torch.float64)
        return list(wide)[draw_one(weights, generator)], ways

    def _draw_labels(self, labels: list[str], ways: int, generator: torch.Generator) -> list[str]:
        if self.hard is not None and float(torch.rand((), generator=generator)) < self.hard.share:
            return self._nearby(labels, ways, generator)
        return [labels[number] for number in torch.randperm(len(labels), generator=generator)[:ways]]


@dataclass(frozen=True, eq=False)
class MixedTasks(TaskSource):
    """Each episode is from one of several sources.

    Attributes:
        sources: where episodes come from. Those that are to be stacked need inputs of one form.
        weights: how often each source is asked, in proportion; empty for equally often.

    Raises:
        TaskError: at the first episode: no sources, or weights that do not fit them.
    """

    sources: tuple[TaskSource, ...]
    weights: tuple[float, ...] = ()

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode of the source that was drawn."""
        return self.sources[draw_one(self._weights, generator)].sample(generator)

    @cached_property
    def _weights(self) -> Tensor:
        weights = self.weights or (1.0,) * len(self.sources)
        if not self.sources or len(weights) != len(self.sources) or min(weights) < 0 or sum(weights) <= 0:
            raise TaskError(
                f"{len(self.sources)} sources with weights {self.weights}; expected at least one source and a weight "
                "of 0 or more for each, not all 0"
            )
        return torch.tensor(weights, dtype=torch.float64)
