"""The four convolutional blocks of the few-shot papers, from Vinyals et al. 2016, arXiv 1606.04080, on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.conv_block import (
    ConvBlock,
    Norm,
    Shrink,
    block_start,
    channels_last,
    fold_statistics,
    real_rows,
)
from quickstudy.core.types import Fingerprint, Params

NORMS = ("batch", "group", "none")
SHRINKS = ("pool", "stride")
READOUTS = ("maps", "mean")


@dataclass(frozen=True)
class Conv4(Backbone):
    """Blocks of 3x3 convolution, normalisation, ReLU and a halving of the map.

    Conv4() is the network of Vinyals et al. and of prototypical networks, Conv4(shrink="stride", readout="mean") that
    of MAML on Omniglot, Conv4(halvings=2) that of relation networks. With norm "batch" the rows of a batch share their
    statistics, so a query's features depend on the other queries: a learner on it is transductive, and rows that are 0
    altogether (padding, once blanked) do not count. "group" and "none" treat each row by itself. `folded` turns
    parameters trained with "batch" into those of the same network with "none".

    Attributes:
        size: height and width of the images.
        channels: of the images, 1 for grey ones.
        widths: filters of each block.
        shrink: "pool" (2x2 max-pool) or "stride" (convolutions of stride 2).
        halvings: the first so many blocks halve the map; None for all.
        norm: "batch", "group" or "none".
        readout: features are the last maps, flattened, or the "mean" of each.

    Raises:
        ValueError: when first used, if a number is below 1, a name is unknown, or the map is halved to nothing.
    """

    size: tuple[int, int] = (28, 28)
    channels: int = 1
    widths: tuple[int, ...] = (64, 64, 64, 64)
    shrink: Literal["pool", "stride"] = "pool"
    halvings: int | None = None
    norm: Norm = "batch"
    readout: Literal["maps", "mean"] = "maps"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the last maps."""
        height, width = self.size
        for shrink in self._shrinks():
            height, width = (_halved(side, shrink) for side in (height, width))
        self._check(height, width)
        return self.widths[-1], height, width

    @property
    def width(self) -> int:
        """The numbers in the last maps, or the number of maps where their means are read out."""
        shape = self.shape
        return math.prod(shape) if self.readout == "maps" else shape[0]

    @property
    def transductive(self) -> bool:
        """True where a row's features depend on the other rows of the batch."""
        return self.norm == "batch"

    @property
    def fingerprint(self) -> Fingerprint | None:
        """None: there is no file behind it."""
        return None

    def module(self) -> nn.Module:
        """A skeleton that maps images [example, channel, height, width] to [example, width].

        Grey images may come without the axis of channels. Features are maps flattened: `unflatten(1, shape)` gives them
        back.
        """
        skeleton = self._skeleton()
        skeleton.load_state_dict(self.start(torch.Generator().manual_seed(0)))
        return skeleton

    def start(self, generator: torch.Generator) -> Params:
        """`blocks.<i>.conv.weight` [output, input, 3, 3], Glorot-uniform; `norm.weight` 1 and `norm.bias` 0, or
        `conv.bias` 0 where there is no normalisation."""
        self._check(*self.shape[1:])
        params: Params = {}
        for index, (inputs, outputs) in enumerate(pairwise((self.channels, *self.widths))):
            params |= block_start(f"blocks.{index}", inputs, outputs, self.norm, generator)
        return params

    def folded(self, params: Params, batches: Iterable[Tensor]) -> Params:
        """Parameters of the same network with norm "none": the mean statistics of `batches` become part of the
        convolutions.

        Args:
            params: trained with norm "batch"; by the names of `start`.
            batches: images [example, channel, height, width] of training tasks.

        Raises:
            ValueError: the norm is not "batch", or there are no batches.
        """
        return fold_statistics(self._skeleton(), params, ((batch,) for batch in batches))

    def _skeleton(self) -> Conv4Module:
        self._check(*self.shape[1:])
        return Conv4Module((self.channels, *self.widths), self._shrinks(), self.norm, self.readout == "mean")

    def _shrinks(self) -> tuple[Shrink, ...]:
        halvings = len(self.widths) if self.halvings is None else self.halvings
        return tuple(self.shrink if index < halvings else "none" for index in range(len(self.widths)))

    def _check(self, height: int, width: int) -> None:
        names = {"shrink": SHRINKS, "norm": NORMS, "readout": READOUTS}
        for name, known in names.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; give {' or '.join(known)}")
        if not self.widths or min(*self.widths, self.channels, *self.size) < 1:
            raise ValueError(
                f"size {self.size}, channels {self.channels} and widths {self.widths}: give numbers of 1 or more"
            )
        if min(height, width) < 1:
            raise ValueError(f"images of size {self.size} are halved to nothing; give larger ones or fewer halvings")


class Conv4Module(nn.Module):
    """What `Conv4.module` returns."""

    def __init__(self, widths: tuple[int, ...], shrinks: tuple[Shrink, ...], norm: Norm, mean: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConvBlock(inputs, outputs, norm, shrink)
            for (inputs, outputs), shrink in zip(pairwise(widths), shrinks, strict=True)
        )
        self.counts_rows = norm == "batch"
        self.mean = mean

    def forward(self, inputs: Tensor) -> Tensor:
        """[example, width]."""
        images = inputs[:, None] if inputs.dim() == 3 else inputs
        real = real_rows(images) if self.counts_rows else None
        hidden = channels_last(images)
        for block in self.blocks:
            hidden = block(hidden, real)
        return hidden.mean((2, 3)) if self.mean else hidden.flatten(1)


def _halved(side: int, shrink: Shrink) -> int:
    if shrink == "none":
        return side
    return side // 2 if shrink == "pool" else (side + 1) // 2
