"""Associative recall: pairs are written, then values are asked for by their keys, over one hop or several.

The first is the task of Graves, Wayne, Danihelka, 2014, arXiv 1410.5401, section 4.3, with a key and its value in one
row; the second is like the graphs of Graves et al., 2016, Nature 538, and like the stories of bAbI (Weston et al.,
2015, arXiv 1502.05698), where a later fact replaces an earlier one and an answer may need several facts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, check_size, draw_size, largest, smallest


@dataclass(frozen=True)
class AssociativeRecall(TaskSource):
    """Random bits as keys and as values; each key is asked for once, in random order.

    Inputs are [row, bit + 1]: the key, and 0 where it is written or 1 where it is asked for. Keys differ from each
    other.

    Attributes:
        pairs: how many; a range is drawn anew for each episode and padded with weight 0.
        bits: width of a key and of a value.
    """

    pairs: Size = (2, 10)
    bits: int = 8

    def sample(self, generator: torch.Generator) -> Episode:
        """One set of pairs: targets [row, bit] of 0 and 1, `ways` 0.

        Raises:
            TaskError: a size below 1, or more pairs than there are keys that are not all 0.
        """
        check_size("pairs", self.pairs)
        check_size("bits", self.bits)
        most = largest(self.pairs)
        real = draw_size(self.pairs, generator)
        keys = codes(most, self.bits, generator)
        values = torch.randint(2, (most, self.bits), generator=generator).float()
        order = torch.cat([torch.randperm(real, generator=generator), torch.arange(real, most)])
        weights = (torch.arange(most) < real).float()
        support = Batch(_flagged(keys, 0.0), values, weights)
        query = Batch(_flagged(keys[order], 1.0), values[order], weights.clone())
        return Episode(support, query, f"recall of {real} pairs")


@dataclass(frozen=True)
class GraphRecall(TaskSource):
    """Edges of a graph are written, some of them replaced, and paths are walked from a start that is named once.

    Each node has one edge of each relation, which leads to any node; an edge that was written before with another end
    is replaced. A query row names a relation and the node to start from; on the next hops the node is left out, and
    the row goes on from the answer before. Codes of nodes are random bits, new in each episode.

    Inputs are [row, bit + relation + 1]: the node or zeros, 1 at the relation, and 0 where an edge is written or 1
    where one is asked for.

    Attributes:
        nodes: how many; a range is drawn anew for each episode and padded with weight 0, here as below.
        relations: how many.
        replaced: edges that are written first with another end.
        walks: paths that are asked for.
        hops: edges of a path.
        bits: width of a node's code; no code is all 0.
    """

    nodes: Size = 4
    relations: int = 2
    replaced: Size = 2
    walks: int = 3
    hops: Size = 3
    bits: int = 6

    def sample(self, generator: torch.Generator) -> Episode:
        """One graph: targets [row, bit] are the codes of the nodes that edges lead to, `ways` 0.

        Raises:
            TaskError: a size without meaning, more edges replaced than there are, or more nodes than codes.
        """
        self._check()
        nodes, replaced = draw_size(self.nodes, generator), draw_size(self.replaced, generator)
        names = codes(nodes, self.bits, generator)
        edges = nodes * self.relations
        ends = torch.randint(nodes, (edges,), generator=generator)
        old = torch.randperm(edges, generator=generator)[:replaced]
        other = torch.randint(1, nodes, (replaced,), generator=generator)
        order = _in_time(old, edges, generator)
        written = torch.cat([old, torch.arange(edges)])[order]
        leads = torch.cat([(ends[old] + other) % nodes, ends])[order]
        support = self._rows(names[written // self.relations], written % self.relations, names[leads], 0.0)
        most = largest(self.nodes) * self.relations + largest(self.replaced)
        query = _padded(self._asked(names, ends, generator), self.walks * largest(self.hops))
        return Episode(_padded(support, most), query, f"graph of {edges} edges")

    def _asked(self, names: Tensor, ends: Tensor, generator: torch.Generator) -> Batch:
        node = torch.randint(len(names), (self.walks,), generator=generator)
        hops = draw_size(self.hops, generator)
        relation = torch.randint(self.relations, (self.walks, hops), generator=generator)
        found = []
        begin = names[node]
        for hop in range(hops):
            node = ends[node * self.relations + relation[:, hop]]
            found.append(node)
        named = torch.zeros(self.walks, hops, self.bits)
        named[:, 0] = begin
        return self._rows(named.flatten(0, 1), relation.flatten(), names[torch.stack(found, 1).flatten()], 1.0)

    def _rows(self, nodes: Tensor, relations: Tensor, targets: Tensor, flag: float) -> Batch:
        named = torch.nn.functional.one_hot(relations, self.relations).float()
        return Batch(_flagged(torch.cat([nodes, named], 1), flag), targets, torch.ones(len(nodes)))

    def _check(self) -> None:
        check_size("nodes", self.nodes, 2)
        check_size("replaced", self.replaced, 0)
        for name in ("relations", "walks", "hops", "bits"):
            check_size(name, getattr(self, name))
        fewest = smallest(self.nodes) * self.relations
        if largest(self.replaced) > fewest:
            raise TaskError(f"replaced is {self.replaced} of {fewest} edges; give at most as many")


def codes(count: int, bits: int, generator: torch.Generator) -> Tensor:
    """[count, bit]: random rows of 0 and 1, none twice and none all 0.

    Raises:
        TaskError: there are not so many.
    """
    if count >= 2**bits:
        raise TaskError(f"{count} codes are asked for and {bits} bits make {2**bits - 1}; give more bits")
    numbers = 1 + torch.randperm(2**bits - 1, generator=generator)[:count]
    return (numbers[:, None] >> torch.arange(bits) & 1).float()


def _flagged(rows: Tensor, flag: float) -> Tensor:
    return torch.cat([rows, rows.new_full((len(rows), 1), flag)], 1)


def _in_time(old: Tensor, edges: int, generator: torch.Generator) -> Tensor:
    """A random order of the rows, first those of the edges `old`, then those of all, in which an edge of `old` comes
    before the one that replaces it."""
    places = torch.randperm(len(old) + edges, generator=generator)
    first, second = torch.arange(len(old)), len(old) + old
    pair = torch.stack([places[first], places[second]]).sort(0).values
    places[first], places[second] = pair[0], pair[1]
    return places.argsort()


def _padded(batch: Batch, rows: int) -> Batch:
    """`batch` of one tensor with rows of weight 0 at its end, `rows` in all."""
    more = (0, 0, 0, rows - len(batch.weights))
    assert isinstance(batch.inputs, Tensor)
    inputs, targets = (torch.nn.functional.pad(part, more) for part in (batch.inputs, batch.targets))
    return Batch(inputs, targets, torch.nn.functional.pad(batch.weights, more[2:]))
