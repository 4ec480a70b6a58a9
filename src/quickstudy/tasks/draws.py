"""Draws that all task sources share: sizes, rows, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Inputs

Size: TypeAlias = int | tuple[int, int]
"""A number, or the smallest and the largest of numbers that are drawn uniformly, anew for each episode."""


def check_size(name: str, size: Size, least: int = 1) -> None:
    """Nothing, where `size` is a number or a range of numbers from `least` up.

    Raises:
        TaskError: anything else.
    """
    low, high = size if isinstance(size, tuple) else (size, size)
    if low < least or high < low:
        raise TaskError(f"{name} is {size}; expected a number or a range (smallest, largest) from {least} up")


def smallest(size: Size) -> int:
    """The number itself, or the lower end of the range."""
    return size[0] if isinstance(size, tuple) else size


def largest(size: Size) -> int:
    """The number itself, or the upper end of the range."""
    return size[1] if isinstance(size, tuple) else size


def draw_size(size: Size, generator: torch.Generator) -> int:
    """A number of the range."""
    return int(torch.randint(smallest(size), largest(size) + 1, (), generator=generator))


def draw_between(low: float, high: float, generator: torch.Generator) -> float:
    """A number drawn uniformly from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def draw_one(weights: Tensor, generator: torch.Generator) -> int:
    """A number below the length of `weights` [choice], drawn in proportion to them."""
    return int(torch.multinomial(weights, 1, generator=generator))


def draw_rows(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[count] of `rows`, none twice, in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


@dataclass(frozen=True)
class Layout:
    """The shape that every batch of a source has, whatever was drawn.

    Attributes:
        ways: number of classes of the largest episode.
        rows: number of rows of the largest batch.
    """

    ways: int
    rows: int


def labelled_batch(
    take: Callable[[Tensor], Inputs],
    classes: Sequence[Tensor],
    layout: Layout,
    generator: torch.Generator,
    names: Sequence[int] = (),
    name_weight: float = 1.0,
) -> Batch:
    """The rows of each class in random order, then the rows of the class names, then padding of weight 0.

    Args:
        take: numbers of rows [example] -> inputs.
        classes: for each class number the numbers of its rows.
        layout: the size that the batch is padded to.
        generator: for the order.
        names: for each class number the row of its name; empty for no names.
        name_weight: weight of a row that is a name.
    """
    rows = torch.cat(list(classes))
    targets = torch.repeat_interleave(torch.arange(len(classes)), torch.tensor([len(part) for part in classes]))
    order = torch.randperm(len(rows), generator=generator)
    padding = layout.rows - len(rows) - len(names)
    rows = torch.cat([rows[order], torch.tensor(names, dtype=torch.long), rows[:1].expand(padding)])
    targets = torch.cat([targets[order], torch.arange(len(names)), torch.zeros(padding, dtype=torch.long)])
    weights = torch.cat([torch.ones(len(order)), torch.full((len(names),), name_weight), torch.zeros(padding)])
    inputs = take(rows)
    device = (next(iter(inputs.values())) if isinstance(inputs, dict) else inputs).device
    return Batch(inputs, targets.to(device), weights.to(device), layout.ways)
