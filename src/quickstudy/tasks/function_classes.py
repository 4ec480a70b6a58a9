"""Functions drawn from a class, as in Garg, Tsipras, Liang and Valiant 2022, arXiv 2208.01066, and what solves them.

Inputs are normal. Targets are scaled so that their variance over inputs and functions is 1, so a squared error is
already a normalised one: 1 is what answering 0 gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, check_size, draw_size, largest

FunctionKind: TypeAlias = Literal["linear", "sparse_linear", "decision_tree", "two_layer"]

Function: TypeAlias = Callable[[Tensor], Tensor]
"""Inputs [example, coordinate] -> targets [example]."""


@dataclass(frozen=True)
class FunctionClass(TaskSource):
    """y = f(x) + noise, x normal, f drawn anew for each episode.

    `linear`: f(x) = w.x, w normal. `sparse_linear`: as many entries of w as `nonzero` says, at random places, the
    others 0. `decision_tree`: a full tree of `depth` questions, each whether a random coordinate is above 0, with
    normal values at its leaves. `two_layer`: a network of `hidden` rectified linear units with normal weights.

    Attributes:
        kind: the class, one of the four.
        dimension: number of coordinates of an input.
        active: coordinates that are drawn, the others are 0 (the curriculum of the paper); None for all.
        shots: support examples; a range is drawn anew for each episode and padded with weight 0.
        queries: query examples.
        scale: what inputs are multiplied with after the draw. Targets of the linear classes grow with it.
        noise: standard deviation of normal noise on the support's targets.
        nonzero: entries of w that are not 0, in `sparse_linear`.
        depth: questions on the way to a leaf, in `decision_tree`.
        hidden: units, in `two_layer`.
    """

    kind: FunctionKind = "linear"
    dimension: int = 8
    active: int | None = None
    shots: Size = 16
    queries: int = 1
    scale: float = 1.0
    noise: float = 0.0
    nonzero: int = 2
    depth: int = 2
    hidden: int = 32

    def sample(self, generator: torch.Generator) -> Episode:
        """One function: inputs [example, coordinate], targets [example, 1], `ways` 0.

        Raises:
            TaskError: a size below 1, more active coordinates than there are, or an unknown class.
        """
        self._check()
        shots, most = draw_size(self.shots, generator), largest(self.shots)
        function = _DRAWS[self.kind](self, generator)
        x = torch.randn(most + self.queries, self.dimension, generator=generator)
        if self.active is not None:
            x[:, self.active :] = 0
        y = function(x * self.scale)[:, None]
        support_y = y[:most]
        if self.noise:
            support_y = support_y + self.noise * torch.randn(most, 1, generator=generator)
        x = x * self.scale
        support = Batch(x[:most].clone(), support_y.clone(), (torch.arange(most) < shots).float())
        query = Batch(x[most:].clone(), y[most:].clone(), torch.ones(self.queries))
        return Episode(support, query, f"{self.kind} function of {self.dimension} coordinates")

    @property
    def moving(self) -> int:
        """Number of coordinates that are not always 0."""
        return self.dimension if self.active is None else self.active

    def _check(self) -> None:
        if self.kind not in _DRAWS:
            raise TaskError(f"kind is {self.kind!r}; give one of {', '.join(_DRAWS)}")
        for name in ("dimension", "queries", "depth", "hidden"):
            check_size(name, getattr(self, name))
        check_size("shots", self.shots)
        if not 1 <= self.moving <= self.dimension:
            raise TaskError(f"active is {self.active}; give a number from 1 to the dimension, {self.dimension}")
        if self.kind == "sparse_linear" and not 1 <= self.nonzero <= self.moving:
            raise TaskError(f"nonzero is {self.nonzero}; give a number from 1 to {self.moving}, the active coordinates")


def _linear(source: FunctionClass, generator: torch.Generator) -> Function:
    weight = torch.randn(source.dimension, generator=generator) / math.sqrt(source.moving)
    return lambda x: x @ weight


def _sparse_linear(source: FunctionClass, generator: torch.Generator) -> Function:
    weight = torch.zeros(source.dimension)
    places = torch.randperm(source.moving, generator=generator)[: source.nonzero]
    weight[places] = torch.randn(source.nonzero, generator=generator) / math.sqrt(source.nonzero)
    return lambda x: x @ weight


def _decision_tree(source: FunctionClass, generator: torch.Generator) -> Function:
    coordinates = torch.randint(source.moving, (2**source.depth - 1,), generator=generator)
    leaves = torch.randn(2**source.depth, generator=generator)

    def value(x: Tensor) -> Tensor:
        node = torch.zeros(len(x), dtype=torch.long)
        for _ in range(source.depth):
            above = x.gather(1, coordinates[node][:, None]).squeeze(1) > 0
            node = 2 * node + 1 + above.long()
        return leaves[node - len(coordinates)]

    return value


def _two_layer(source: FunctionClass, generator: torch.Generator) -> Function:
    first = torch.randn(source.dimension, source.hidden, generator=generator)
    second = torch.randn(source.hidden, generator=generator) * math.sqrt(2 / (source.hidden * source.moving))
    return lambda x: torch.relu(x @ first) @ second


_DRAWS: dict[str, Callable[[FunctionClass, torch.Generator], Function]] = {
    "linear": _linear,
    "sparse_linear": _sparse_linear,
    "decision_tree": _decision_tree,
    "two_layer": _two_layer,
}


def least_squares(x: Tensor, y: Tensor, inputs: Tensor) -> Tensor:
    """[..., question]: answers of the shortest weights that fit best; exact for noise-free linear functions from as
    many examples as coordinates on.

    Args:
        x: [..., example, coordinate].
        y: [..., example].
        inputs: [..., question, coordinate].
    """
    return _linear_answers(inputs, (torch.linalg.pinv(x.double()) @ y.double()[..., None]).squeeze(-1), y.dtype)


def ridge(x: Tensor, y: Tensor, inputs: Tensor, penalty: float = 0.1) -> Tensor:
    """[..., question]: answers of the weights that minimise |y - xw|^2 + penalty |w|^2; arguments as `least_squares`.

    Raises:
        ValueError: `penalty` is not above 0.
    """
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty}; give a number above 0")
    a, b = x.double(), y.double()[..., None]
    eye = torch.eye(x.shape[-1], dtype=a.dtype, device=a.device)
    return _linear_answers(inputs, torch.linalg.solve(a.mT @ a + penalty * eye, a.mT @ b).squeeze(-1), y.dtype)


def lasso(x: Tensor, y: Tensor, inputs: Tensor, penalty: float = 0.01, sweeps: int = 200) -> Tensor:
    """[..., question]: answers of the weights that minimise |y - xw|^2 / (2 examples) + penalty |w|_1.

    By coordinate descent (Friedman, Hastie, Tibshirani 2010); arguments as `least_squares`.

    Raises:
        ValueError: `penalty` is below 0.
    """
    if penalty < 0:
        raise ValueError(f"penalty is {penalty}; give 0 or more")
    a, b = x.double(), y.double()
    weight = torch.zeros(*a.shape[:-2], a.shape[-1], dtype=a.dtype, device=a.device)
    left = b.clone()
    squares = a.square().mean(-2).clamp(min=1e-12)
    for _ in range(sweeps):
        for j in range(a.shape[-1]):
            column, old = a[..., j], weight[..., j].clone()
            pull = (column * left).mean(-1) + squares[..., j] * old
            new = pull.sign() * (pull.abs() - penalty).clamp(min=0) / squares[..., j]
            left = left + column * (old - new)[..., None]
            weight[..., j] = new
    return _linear_answers(inputs, weight, y.dtype)


def nearest_neighbours(x: Tensor, y: Tensor, inputs: Tensor, count: int = 3) -> Tensor:
    """[..., question]: the mean target of the `count` nearest examples, or of all where there are fewer.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; give 1 or more")
    near = torch.cdist(inputs, x).topk(min(count, x.shape[-2]), largest=False).indices
    return torch.take_along_dim(y[..., None, :], near, dim=-1).mean(-1)


def _linear_answers(inputs: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """[..., question]: of `weight` [..., coordinate]."""
    return (inputs.double() @ weight[..., None])[..., 0].to(dtype)
