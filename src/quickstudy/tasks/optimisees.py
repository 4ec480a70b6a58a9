"""Functions to minimise: the tasks of a learned optimiser. Andrychowicz et al., 2016, arXiv 1606.04474.

The support defines the function, which is the loss on it, and the point to start from; the inputs of a support are
`{"x": [example, ...], "start": [example, entry]}`, with the same start in each row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import check_size

DATA, START = "x", "start"


@dataclass(frozen=True)
class Quadratics(TaskSource):
    """f(p) = |W p - y|^2 with the entries of W and y drawn from N(0, 1), as a linear regression without a bias.

    The rows of W are the inputs and y the targets; the squared error, a mean, is f over the number of rows. The query
    is the same function by other equations, Q W p = Q y with a random rotation Q.

    Attributes:
        width: number of entries of p.
        rows: number of equations; None for as many as entries.
        spread: standard deviation of the entries of the start, around 0.
    """

    width: int = 10
    rows: int | None = None
    spread: float = 0.01

    def sample(self, generator: torch.Generator) -> Episode:
        """One function: `x` [example, width], targets [example, 1], `ways` 0.

        Raises:
            TaskError: a size below 1.
        """
        rows = self.width if self.rows is None else self.rows
        check_size("width", self.width)
        check_size("rows", rows)
        weights = torch.randn(rows, self.width, generator=generator)
        targets = torch.randn(rows, 1, generator=generator)
        start = self.spread * torch.randn(self.width, generator=generator)
        turn = torch.linalg.qr(torch.randn(rows, rows, generator=generator)).Q
        support = started(Batch(weights, targets, torch.ones(rows)), start)
        query = Batch({DATA: turn @ weights}, turn @ targets, torch.ones(rows))
        return Episode(support, query, f"quadratic in {self.width} dimensions")


@dataclass(frozen=True)
class StartedTasks(TaskSource):
    """The tasks of another source, each with a start of a fully connected network that is to be trained on it.

    Attributes:
        tasks: their inputs are tensors.
        widths: number of inputs, of units of each layer, and of outputs. A start holds the weights [output, input] and
            biases [output] of each layer, one after the other: weights uniform in +-1/sqrt(input), biases 0.
    """

    tasks: TaskSource
    widths: tuple[int, ...] = (10, 20, 10)

    def sample(self, generator: torch.Generator) -> Episode:
        """A task of the source with `start` in its support.

        Raises:
            TaskError: fewer than two widths, or the inputs are not a tensor.
        """
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise TaskError(f"widths are {self.widths}; give at least two numbers, each 1 or more")
        episode = self.tasks.sample(generator)
        layers = []
        for inputs, outputs in pairwise(self.widths):
            weight = (2 * torch.rand(outputs, inputs, generator=generator) - 1) / math.sqrt(inputs)
            layers += [weight.flatten(), torch.zeros(outputs)]
        query = replace(episode.query, inputs={DATA: _tensor(episode.query)})
        return replace(episode, support=started(episode.support, torch.cat(layers)), query=query)


def started(batch: Batch, start: Tensor) -> Batch:
    """`batch`, whose inputs are a tensor, with `start` [entry] in each row.

    Raises:
        TaskError: the inputs are not a tensor.
    """
    data = _tensor(batch)
    return replace(batch, inputs={DATA: data, START: start.repeat(len(data), 1)})


def _tensor(batch: Batch) -> Tensor:
    if not isinstance(batch.inputs, Tensor):
        raise TaskError(f"the inputs hold {', '.join(batch.inputs)}; a start can be put beside a tensor only")
    return batch.inputs
