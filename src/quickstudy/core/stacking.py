"""Tasks side by side: as one stacked Episode, or as a list of episodes in their own sizes.

A stacked Episode has one more axis, the task, in front of every tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from quickstudy.core.types import Batch, Episode

Tasks: TypeAlias = Episode | Sequence[Episode]
"""A stack of episodes, or a list of them in their own sizes: what runs together of a list is stacked, what runs by
itself is spared the padding. Up to rounding the results are the same if all have as many ways: see `of_equal_ways`."""


def stack_episodes(episodes: Sequence[Episode]) -> Episode:
    """One Episode with the task on axis 0 of every tensor.

    Ragged axes are padded with zeros at their end, so that padded examples have weight 0. `ways` is the largest. `task`
    holds the names, one a line; `labels` are kept where all tasks have the same.

    Raises:
        ValueError: no episodes, or episodes whose inputs differ in names, types or number of axes.
    """
    if not episodes:
        raise ValueError("there are no episodes to stack; give at least one")
    labels = episodes[0].labels if len({episode.labels for episode in episodes}) == 1 else ()
    name = "\n".join(episode.task for episode in episodes)
    flat = [tree_flatten(replace(each, task=name, labels=labels)) for each in of_equal_ways(episodes)]
    for number, (_, structure) in enumerate(flat):
        if structure != flat[0][1]:
            raise ValueError(f"episode {number} has inputs of other names than episode 0; stack tasks of one source")
    columns = zip(*(leaves for leaves, _ in flat), strict=True)
    stacked: Episode = tree_unflatten([_padded(list(column)) for column in columns], flat[0][1])
    return stacked


def of_equal_ways(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes, each said to have as many ways as the one with the most."""
    support = max((episode.support.ways for episode in episodes), default=0)
    query = max((episode.query.ways for episode in episodes), default=0)
    return [
        replace(each, support=replace(each.support, ways=support), query=replace(each.query, ways=query))
        for each in episodes
    ]


def unstack(episodes: Episode) -> list[Episode]:
    """The episodes of a stack, one a task, with the padding that they got."""
    tasks = count_tasks(episodes)
    names = episodes.task.split("\n")
    names = names if len(names) == tasks else [episodes.task] * tasks
    return [replace(one_task(episodes, number), task=name) for number, name in enumerate(names)]


def count_tasks(episodes: Tasks) -> int:
    """How many tasks a stack or a list holds.

    Raises:
        ValueError: it is neither, or the tensors of a stack differ in their first axis.
    """
    if not isinstance(episodes, Episode):
        return len(episodes)
    sides: tuple[Batch, Batch] = (episodes.support, episodes.query)
    if any(side.weights.dim() != 2 for side in sides):
        raise ValueError("expected a stack of episodes with weights [task, example]; see stack_episodes")
    sizes = {leaf.shape[0] if leaf.dim() else 0 for leaf in tree_leaves(episodes)}
    if len(sizes) != 1:
        raise ValueError(f"the tensors of a stack hold different numbers of tasks: {sorted(sizes)}")
    return int(sizes.pop())


def one_task(episodes: Tasks, number: int) -> Episode:
    """One episode."""
    if not isinstance(episodes, Episode):
        return episodes[number]
    one: Episode = tree_map(lambda leaf: leaf[number], episodes)
    return one


def some_tasks(episodes: Tasks, where: slice) -> Tasks:
    """Some of them, as they come: a stack or a list."""
    if not isinstance(episodes, Episode):
        return episodes[where]
    some: Episode = tree_map(lambda leaf: leaf[where], episodes)
    return some


def as_stack(episodes: Tasks) -> Episode:
    """A stack, where it was none."""
    return episodes if isinstance(episodes, Episode) else stack_episodes(episodes)


def stacked_shapes(episodes: Tasks) -> list[list[int]]:
    """The shapes of the tensors of `as_stack(episodes)`, which is not made."""
    if isinstance(episodes, Episode):
        return [list(leaf.shape) for leaf in tree_leaves(episodes)]
    columns = zip(*(tree_leaves(each) for each in episodes), strict=True)
    return [[len(episodes), *_largest(column)] for column in columns]


def _largest(tensors: Sequence[Tensor]) -> list[int]:
    """Of each axis."""
    return [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]


def _padded(tensors: list[Tensor]) -> Tensor:
    kinds = {(tensor.dim(), tensor.dtype) for tensor in tensors}
    if len(kinds) != 1:
        raise ValueError(f"episodes differ in axes or types: {sorted(map(str, kinds))}; stack tasks of one source")
    largest = _largest(tensors)
    return torch.stack([pad_to(tensor, largest) for tensor in tensors])


def pad_to(tensor: Tensor, shape: list[int]) -> Tensor:
    """`tensor` with zeros at the end of each axis, up to `shape`."""
    missing = [wanted - size for wanted, size in zip(shape, tensor.shape, strict=True)]
    if not any(missing):
        return tensor
    return functional.pad(tensor, [edge for size in reversed(missing) for edge in (0, size)])
