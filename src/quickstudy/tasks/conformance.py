"""Checks that every task source passes; call `check_source` in the tests of a new one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource


def check_source(source: TaskSource, seed: int = 0, episodes: int = 5) -> None:
    """Nothing, where the source keeps the contract on some episodes.

    Raises:
        AssertionError: what is broken.
    """
    check_repeatable(source, seed)
    check_varied(source, seed, episodes)
    check_changes_nothing(source, seed)
    for number in range(episodes):
        episode = source.sample(torch.Generator().manual_seed(seed + number))
        check_batch(episode.support)
        check_batch(episode.query)
        check_sides_apart(episode)
        check_labels(episode)


def check_repeatable(source: TaskSource, seed: int = 0) -> None:
    """Two generators of one seed give the same two episodes, and end in the same state."""
    one, other = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    for _ in range(2):
        _require(same(source.sample(one), source.sample(other)), "the same seed gave different episodes")
    _require(torch.equal(one.get_state(), other.get_state()), "the same seed used different numbers of draws")


def check_varied(source: TaskSource, seed: int = 0, episodes: int = 5) -> None:
    """Other seeds, and later draws of one generator, give other episodes."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [source.sample(generator) for _ in range(episodes)]
    drawn += [source.sample(torch.Generator().manual_seed(seed + 1 + number)) for number in range(episodes)]
    _require(any(not same(drawn[0], episode) for episode in drawn[1:episodes]), "later draws repeat the first episode")
    _require(any(not same(drawn[0], episode) for episode in drawn[episodes:]), "other seeds gave the same episode")


def check_changes_nothing(source: TaskSource, seed: int = 0) -> None:
    """Sampling leaves earlier episodes, later ones and torch's global generator as they were."""
    before = torch.get_rng_state()
    first = source.sample(torch.Generator().manual_seed(seed))
    copies = [leaf.clone() for leaf in tree_leaves(first)]
    source.sample(torch.Generator().manual_seed(seed + 1))
    unchanged = all(torch.equal(a, b) for a, b in zip(copies, tree_leaves(first), strict=True))
    _require(unchanged, "sampling changed an episode that was handed out before")
    for leaf in tree_leaves(first):
        leaf.zero_()
    again = source.sample(torch.Generator().manual_seed(seed))
    kept = all(torch.equal(a, b) for a, b in zip(copies, tree_leaves(again), strict=True))
    _require(kept, "an episode shares memory with the source, or depends on earlier draws")
    _require(torch.equal(before, torch.get_rng_state()), "sampling used torch's global generator")


def check_batch(batch: Batch) -> None:
    """Lengths agree, weights are finite and not all 0, targets are classes below `ways` or finite floats."""
    rows = len(batch.weights)
    leaves = tree_leaves(batch.inputs)
    _require(batch.weights.dim() == 1 and batch.weights.is_floating_point(), "weights are not floats [example]")
    _require(all(leaf.shape[:1] == (rows,) for leaf in leaves), "inputs and weights have different numbers of examples")
    _require(len(batch.targets) == rows, "targets and weights have different numbers of examples")
    _require(bool((batch.weights >= 0).all() and batch.weights.isfinite().all()), "a weight is below 0 or not finite")
    _require(bool((batch.weights > 0).any()), "all weights are 0")
    _require(all(bool(leaf.isfinite().all()) for leaf in leaves if leaf.is_floating_point()), "an input is not finite")
    if batch.ways:
        _require(batch.targets.dtype == torch.int64 and batch.targets.dim() == 1, "targets are not int64 [example]")
        fits = (batch.targets >= 0) & (batch.targets < batch.ways)
        _require(bool(fits.all()), f"a target is not a class number below {batch.ways}, padding included")
    else:
        _require(
            batch.targets.is_floating_point() and batch.targets.dim() == 2, "targets are not floats [example, output]"
        )
        _require(bool(batch.targets.isfinite().all()), "a target is not finite")


def check_sides_apart(episode: Episode) -> None:
    """No real row of the query has the inputs of a real row of the support.

    Different texts that a tokeniser makes equal, by cutting or by dropping accents, count as equal.
    """
    support = {_row(episode.support, number) for number in _real(episode.support)}
    shared = [number for number in _real(episode.query) if _row(episode.query, number) in support]
    _require(not shared, f"query rows {shared} are in the support too")


def check_labels(episode: Episode) -> None:
    """Classes are the numbers from 0 to one less than the labels, each in the support, and no label is there twice."""
    support, query = episode.support, episode.query
    _require(support.ways == query.ways, "support and query differ in ways")
    if not support.ways:
        _require(not episode.labels, "a regression task has labels")
        return
    seen = sorted({int(support.targets[row]) for row in _real(support)})
    _require(len(set(episode.labels)) == len(episode.labels), "two classes have the same label")
    _require(2 <= len(episode.labels) <= support.ways, f"{len(episode.labels)} labels for {support.ways} ways")
    _require(
        seen == list(range(len(episode.labels))), f"the support has classes {seen} for {len(episode.labels)} labels"
    )
    _require({int(query.targets[row]) for row in _real(query)} <= set(seen), "the query has a class without support")


def same(one: Episode, other: Episode) -> bool:
    """Whether two episodes are equal in every number and name."""
    first, second = tree_leaves(one), tree_leaves(other)
    facts = (one.task, one.labels, one.support.ways, len(first)) == (
        other.task,
        other.labels,
        other.support.ways,
        len(second),
    )
    return facts and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _real(batch: Batch) -> list[int]:
    rows: list[int] = torch.nonzero(batch.weights).flatten().tolist()
    return rows


def _row(batch: Batch, number: int) -> tuple[bytes, ...]:
    """The row's inputs, without the padding at their end, so that rows of differently padded batches compare."""
    leaves: list[Tensor] = [leaf[number].detach().cpu().double().flatten() for leaf in tree_leaves(batch.inputs)]
    return tuple(leaf[: int(leaf.nonzero().max()) + 1 if leaf.any() else 0].numpy().tobytes() for leaf in leaves)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
