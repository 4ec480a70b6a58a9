"""Points in the plane with two labels: half-planes, rings and XOR, turned, stretched, shifted and label-noised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import check_size, draw_between

Range = tuple[float, float]


def _half_plane(points: Tensor, position: float) -> Tensor:
    """Right of a line at most half a standard deviation away from the middle."""
    return points[:, 0] > position - 0.5


def _ring(points: Tensor, position: float) -> Tensor:
    """In a ring that holds half of all points: a disc at position 0, all but a disc at position 1.

    The share of standard normal points nearer than r is 1 - exp(-r^2 / 2).
    """
    share = 1 - torch.exp(-points.square().sum(1) / 2)
    return (share > position / 2) & (share < position / 2 + 0.5)


def _xor(points: Tensor, position: float) -> Tensor:  # noqa: ARG001 - quadrants have no position; all rules look alike
    """In the first or the third quadrant."""
    return points[:, 0] * points[:, 1] > 0


RULES: dict[str, Callable[[Tensor, float], Tensor]] = {"half_plane": _half_plane, "ring": _ring, "xor": _xor}
"""Family -> (standard normal points [example, 2], position in [0, 1]) -> whether each is inside, [example]."""


@dataclass(frozen=True)
class BinaryTasks(TaskSource):
    """Each task draws a family and its parameters uniformly. Other ranges in a second source make held-out tasks.

    A point is scale * turn(u) + shift with u standard normal, and its label says whether u is inside by the family's
    rule. Each side holds both labels as evenly as its size allows.

    Attributes:
        support: support examples, both classes together.
        query: query examples, both classes together.
        families: some of `RULES`.
        angle: by how much points are turned, in radians.
        scale: by what points are multiplied.
        shift: by what both coordinates are moved, each drawn for itself.
        position: where in its family a rule lies, from 0 to 1: the offset of a line, the radius of a ring.
        noise: part of the support's labels that is flipped, drawn from this range for each task. Query labels are true.
    """

    support: int = 10
    query: int = 30
    families: tuple[str, ...] = ("half_plane", "ring", "xor")
    angle: Range = (0.0, 2 * math.pi)
    scale: Range = (0.5, 2.0)
    shift: Range = (0.0, 0.0)
    position: Range = (0.0, 1.0)
    noise: Range = (0.0, 0.1)

    def sample(self, generator: torch.Generator) -> Episode:
        """One task: inputs [example, 2], two ways.

        Raises:
            TaskError: an unknown family, fewer than two examples on a side, or a range that has no meaning.
        """
        self._check()
        family = self.families[int(torch.randint(len(self.families), (), generator=generator))]
        position, angle, scale, noise, right, up = (
            draw_between(*limits, generator)
            for limits in (self.position, self.angle, self.scale, self.noise, self.shift, self.shift)
        )
        turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        swapped = int(torch.randint(2, (), generator=generator))

        def side(count: int, flips: float) -> Batch:
            points, inside = _balanced(RULES[family], position, count, generator)
            flipped = torch.rand(count, generator=generator) < flips
            targets = (inside ^ flipped).long()
            inputs = scale * points @ turn + torch.tensor([right, up])
            return Batch(inputs, 1 - targets if swapped else targets, torch.ones(count), 2)

        support, query = side(self.support, noise), side(self.query, 0.0)
        labels = ("inside", "outside") if swapped else ("outside", "inside")
        return Episode(support, query, f"{family} turned by {angle:.2f}, scaled by {scale:.2f}", labels)

    def _check(self) -> None:
        unknown = [family for family in self.families if family not in RULES]
        if unknown or not self.families:
            raise TaskError(f"families are {self.families}; expected some of {', '.join(RULES)}")
        check_size("support", self.support, 2)
        check_size("query", self.query, 2)
        for name, (low, high), least, most in (
            ("scale", self.scale, 1e-6, math.inf),
            ("position", self.position, 0.0, 1.0),
            ("noise", self.noise, 0.0, 1.0),
            ("angle", self.angle, -math.inf, math.inf),
            ("shift", self.shift, -math.inf, math.inf),
        ):
            if not least <= low <= high <= most:
                raise TaskError(f"{name} is {(low, high)}; expected (smallest, largest) between {least} and {most}")


def _balanced(
    rule: Callable[[Tensor, float], Tensor], position: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Standard normal points [count, 2] and whether each is inside, in random order.

    Half of them are; of an odd number the last one's label is a coin's.
    """
    odd = count % 2 * int(torch.randint(2, (), generator=generator))
    wanted = (count // 2 + odd, count - count // 2 - odd)
    pools: tuple[list[Tensor], list[Tensor]] = ([], [])
    while any(sum(map(len, pool)) < number for pool, number in zip(pools, wanted, strict=True)):
        points = torch.randn(4 * count, 2, generator=generator)
        inside = rule(points, position)
        pools[0].append(points[inside])
        pools[1].append(points[~inside])
    chosen = torch.cat([torch.cat(pool)[:number] for pool, number in zip(pools, wanted, strict=True)])
    order = torch.randperm(count, generator=generator)
    return chosen[order], (order < wanted[0])
