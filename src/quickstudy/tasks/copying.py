"""Copying: random bits are written row by row and asked for in the same order, once or several times.

Graves, Wayne, Danihelka, 2014, arXiv 1410.5401, sections 4.1 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, check_size, draw_size, largest


@dataclass(frozen=True)
class Copying(TaskSource):
    """The support's targets are the rows to remember; the query asks for them from the first to the last.

    Inputs are [row, 1]: 0 where a row is written, 1 where one is asked for. So the order of the rows is the task.

    Attributes:
        length: rows; a range is drawn anew for each episode and padded with weight 0.
        bits: width of a row.
    """

    length: Size = (1, 20)
    bits: int = 8

    def sample(self, generator: torch.Generator) -> Episode:
        """One sequence: targets [row, bit] of 0 and 1, `ways` 0.

        Raises:
            TaskError: a size below 1.
        """
        check_size("length", self.length)
        check_size("bits", self.bits)
        length, most = draw_size(self.length, generator), largest(self.length)
        rows = torch.randint(2, (most, self.bits), generator=generator).float()
        weights = (torch.arange(most) < length).float()
        support = Batch(torch.zeros(most, 1), rows, weights)
        return Episode(support, Batch(torch.ones(most, 1), rows.clone(), weights.clone()), f"copy of {length} rows")


@dataclass(frozen=True)
class RepeatCopying(TaskSource):
    """As `Copying`, with the rows asked for several times over and a mark after the last time.

    Inputs are [row, 2]: (0, 0) where a row is written, (1, n) in the first query, (1, 0) in all others, with n the
    number of times as `standardised` has it. The last target column is the mark: 1 in the last query only, whose other
    targets are 0. So when to stop must be counted.

    Attributes:
        length: rows; a range is drawn anew for each episode and padded with weight 0, here as below.
        repeats: times.
        bits: width of a row, without the mark.
    """

    length: Size = (1, 10)
    repeats: Size = (1, 10)
    bits: int = 8

    def sample(self, generator: torch.Generator) -> Episode:
        """One sequence: support targets [row, bit + 1], query targets [repeat * row + 1, bit + 1], `ways` 0.

        Raises:
            TaskError: a size below 1.
        """
        for name, size in (("length", self.length), ("repeats", self.repeats), ("bits", self.bits)):
            check_size(name, size)
        length, repeats = draw_size(self.length, generator), draw_size(self.repeats, generator)
        most, asked = largest(self.length), largest(self.length) * largest(self.repeats) + 1
        written = torch.zeros(most, self.bits + 1)
        written[:, :-1] = torch.randint(2, (most, self.bits), generator=generator).float()
        targets = torch.zeros(asked, self.bits + 1)
        targets[: length * repeats] = written[:length].repeat(repeats, 1)
        targets[length * repeats, -1] = 1.0
        inputs = torch.tensor([1.0, 0.0]).repeat(asked, 1)
        inputs[0, 1] = standardised(repeats)
        support = Batch(torch.zeros(most, 2), written, (torch.arange(most) < length).float())
        query = Batch(inputs, targets, (torch.arange(asked) <= length * repeats).float())
        return Episode(support, query, f"{repeats} copies of {length} rows")


def standardised(repeats: int) -> float:
    """The number of times as a network reads it: mean 0 and standard deviation 1 over 1 to 10."""
    return (repeats - 5.5) / 2.8723
