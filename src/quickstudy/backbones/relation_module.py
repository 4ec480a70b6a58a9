"""The relation module: a learned distance between the maps of a class and of a query.

Sung, Yang, Zhang, Xiang, Torr, Hospedales, 2018, arXiv 1711.06025.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from quickstudy.backbones.conv_block import ConvBlock, Norm, Shrink, block_start
from quickstudy.core.types import Params

HIDDEN = 8
"""Width of the layer before the score, as in the paper."""


class RelationModule(nn.Module):
    """Two convolutional blocks over the maps of class and query, laid on each other, and two linear layers.

    Args:
        shape: channels, height and width of the maps.
        norm: that of the blocks; with "batch" all pairs of a batch share their statistics.
    """

    def __init__(self, shape: tuple[int, int, int], norm: Norm) -> None:
        super().__init__()
        channels, *sides = shape
        shrinks, flat = _shrinks(sides)
        self.first = ConvBlock(2 * channels, channels, norm, shrinks[0])
        self.second = ConvBlock(channels, channels, norm, shrinks[1])
        self.hidden = nn.utils.skip_init(  # type: ignore[no-untyped-call] # untyped in torch
            nn.Linear, channels * flat, HIDDEN
        )
        self.score = nn.utils.skip_init(nn.Linear, HIDDEN, 1)  # type: ignore[no-untyped-call] # untyped in torch
        self.load_state_dict(relation_start(shape, norm, torch.Generator().manual_seed(0)))

    def forward(self, classes: Tensor, queries: Tensor, real: Tensor | None = None) -> Tensor:
        """Scores [query, class], before the sigmoid.

        Args:
            classes: [class, channel, height, width].
            queries: [query, channel, height, width].
            real: [query * class], 0 for pairs that must not count in the statistics of the batch; None for none.
        """
        # A convolution of maps laid on each other is the sum of two, so each map is convolved once, not once a pair.
        weight = self.first.conv.weight
        ours = functional.conv2d(classes, weight[:, : classes.shape[1]], self.first.conv.bias, padding=1)
        theirs = functional.conv2d(queries, weight[:, classes.shape[1] :], padding=1)
        pairs = (theirs[:, None] + ours).flatten(0, 1)
        maps = self.second(self.first.finish(pairs, real), real)
        scores: Tensor = self.score(torch.relu(self.hidden(maps.flatten(1))))
        return scores.reshape(len(queries), len(classes))


def relation_start(shape: tuple[int, int, int], norm: Norm, generator: torch.Generator) -> Params:
    """Starting values of a RelationModule, by the names of its parameters; linear ones uniform in +-1/sqrt(input)."""
    channels, *sides = shape
    params = block_start("first", 2 * channels, channels, norm, generator)
    params |= block_start("second", channels, channels, norm, generator)
    for name, inputs, outputs in (("hidden", channels * _shrinks(sides)[1], HIDDEN), ("score", HIDDEN, 1)):
        bound = 1 / math.sqrt(inputs)
        params[f"{name}.weight"] = (2 * torch.rand(outputs, inputs, generator=generator) - 1) * bound
        params[f"{name}.bias"] = torch.zeros(outputs)
    return params


def _shrinks(sides: list[int]) -> tuple[list[Shrink], int]:
    """Whether each block pools, which needs sides of 2, and the size of the last map."""
    shrinks: list[Shrink] = []
    for _ in range(2):
        pools = min(sides) > 1
        shrinks.append("pool" if pools else "none")
        sides = [side // 2 for side in sides] if pools else sides
    return shrinks, math.prod(sides)
