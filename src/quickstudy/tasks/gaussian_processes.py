"""Functions drawn from Gaussian processes: the regression tasks of neural processes.

Defaults are the protocol of Lee et al., 2020, arXiv 2008.02956, and Nguyen and Grover, 2022, arXiv 2207.04179: points
in [-2, 2], at most 50 of them, 3 to 47 of these given, hyperparameters drawn anew for each function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, check_size, draw_between, draw_size, largest, smallest


@dataclass(frozen=True)
class Process:
    """One Gaussian process of mean 0 on the line, with noise.

    Attributes:
        kernel: a name in `KERNELS`.
        lengthscale: l.
        scale: s, the standard deviation of the function at a point.
        period: p, of the periodic kernel; others do not read it.
        noise: standard deviation of what is added to each value.
    """

    kernel: str
    lengthscale: float
    scale: float
    period: float
    noise: float

    def covariance(self, first: Tensor, second: Tensor) -> Tensor:
        """[row, column]: the covariance of the function, without noise, at `first` [row, 1], `second` [column, 1]."""
        return self.scale**2 * KERNELS[self.kernel](first - second.mT, self)

    def values(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """[example, 1]: one function with noise at `inputs` [example, 1], which are of float64."""
        covariance = self.covariance(inputs, inputs)
        covariance.diagonal().add_(self.noise**2)
        normal = torch.randn(len(inputs), 1, generator=generator, dtype=inputs.dtype)
        root: Tensor = torch.linalg.cholesky(covariance)
        return root @ normal


def _rbf(difference: Tensor, process: Process) -> Tensor:
    return torch.exp(difference.square() * (-0.5 / process.lengthscale**2))


def _matern52(difference: Tensor, process: Process) -> Tensor:
    distance = difference.abs() * (math.sqrt(5) / process.lengthscale)
    return (1 + distance + distance.square() / 3) * torch.exp(-distance)


def _periodic(difference: Tensor, process: Process) -> Tensor:
    waves = torch.sin(difference * (math.pi / process.period))
    return torch.exp(waves.square() * (-2 / process.lengthscale**2))


KERNELS: Mapping[str, Callable[[Tensor, Process], Tensor]] = MappingProxyType(
    {"rbf": _rbf, "matern52": _matern52, "periodic": _periodic}
)
"""Name -> the correlation of two values as a function of the difference of their inputs."""


@dataclass(frozen=True)
class GaussianProcesses(TaskSource):
    """Functions of one kernel, with hyperparameters drawn uniformly.

    Shapes do not depend on what was drawn: both sides are padded with rows of weight 0.

    Attributes:
        kernel: "rbf", "matern52" or "periodic".
        context: support points; a range is drawn anew for each function.
        points: most points of support and query together.
        least: smallest number of query points; drawn up to what `points` leaves.
        whole: the query takes all that `points` leaves, which is worth more in training.
        x: smallest and largest input.
        lengthscale: smallest and largest.
        scale: smallest and largest.
        period: smallest and largest, of the periodic kernel.
        noise: standard deviation of the noise on every value, of the query too.
    """

    kernel: str = "rbf"
    context: Size = (3, 47)
    points: int = 50
    least: int = 3
    whole: bool = False
    x: tuple[float, float] = (-2.0, 2.0)
    lengthscale: tuple[float, float] = (0.1, 0.6)
    scale: tuple[float, float] = (0.1, 1.0)
    period: tuple[float, float] = (0.1, 0.5)
    noise: float = 0.02

    def sample(self, generator: torch.Generator) -> Episode:
        """One function: inputs [example, 1], targets [example, 1], `ways` 0.

        Raises:
            TaskError: as `draw`.
        """
        return self.draw(generator)[1]

    def draw(self, generator: torch.Generator) -> tuple[Process, Episode]:
        """What `sample` returns, and the process that it was drawn from, which an oracle may know.

        Raises:
            TaskError: an unknown kernel, a size below 1, more points than there are, or a range without meaning.
        """
        self._check()
        process = Process(
            self.kernel,
            draw_between(*self.lengthscale, generator),
            draw_between(*self.scale, generator),
            draw_between(*self.period, generator),
            self.noise,
        )
        context = draw_size(self.context, generator)
        rest = self.points - context
        total = context + (rest if self.whole else draw_size((self.least, rest), generator))
        low, high = self.x
        x = low + (high - low) * torch.rand(total, 1, generator=generator, dtype=torch.float64)
        y = process.values(x, generator)
        support = _batch(x[:context], y[:context], largest(self.context))
        query = _batch(x[context:], y[context:], self.points - smallest(self.context))
        name = f"{self.kernel}, length {process.lengthscale:.3f}, scale {process.scale:.3f}"
        return process, Episode(support, query, name)

    def _check(self) -> None:
        if self.kernel not in KERNELS:
            raise TaskError(f"the kernel is {self.kernel!r}; give one of {', '.join(KERNELS)}")
        check_size("context", self.context)
        check_size("least", self.least)
        if largest(self.context) + self.least > self.points:
            shown = f"{largest(self.context)} support and {self.least} query points"
            raise TaskError(f"{shown} are more than points, which is {self.points}; give more points")
        for name in ("lengthscale", "scale", "period"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise TaskError(f"{name} is {(low, high)}; give (smallest, largest), both above 0")
        if not self.noise > 0:
            raise TaskError(f"noise is {self.noise}; give a number above 0, without which values repeat")


def _batch(x: Tensor, y: Tensor, rows: int) -> Batch:
    missing = (0, 0, 0, rows - len(x))
    weights = (torch.arange(rows) < len(x)).float()
    return Batch(pad(x.float(), missing), pad(y.float(), missing), weights)
