"""Test tasks: drawn with a seed, the same for every learner, and run in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils._pytree import tree_map

from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Episode, Params
from quickstudy.core.vectorise import Mode, over_tasks
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


def in_parts(
    function: Callable[[Params, Episode], Any],
    params: Params,
    episodes: Iterator[Episode],
    at_once: int = 64,
    mode: Mode = "vmap",
) -> list[Any]:
    """What `function` gives for each part of `episodes`, with the task on axis 0; on the CPU, without a graph.

    Args:
        function: gives a tree of tensors for one episode.
        params: episodes are moved to where they lie.
        episodes: as `drawn_tasks` gives them.
        at_once: episodes of a part; the last part may have fewer.
        mode: as in `over_tasks`.
    """
    device = next((tensor.device for tensor in params.values()), torch.device("cpu"))
    run, found = over_tasks(function, mode), []
    with torch.no_grad():
        while part := list(islice(episodes, at_once)):
            stack = tree_map(lambda leaf: leaf.to(device), stack_episodes(part))
            found.append(tree_map(lambda leaf: leaf.cpu(), run(params, stack)))
    return found
