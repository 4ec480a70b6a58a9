"""The block that few-shot image networks are made of: 3x3 convolution, normalisation, ReLU, a halving of the map."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from quickstudy.backbones.double_backward import batch_normalise, convolve
from quickstudy.core.transforms import is_mapped
from quickstudy.core.types import Params

Norm: TypeAlias = Literal["batch", "group", "none"]
"""Statistics of all rows of the batch at hand, of each row alone in groups of channels, or a bias only."""

Shrink: TypeAlias = Literal["pool", "stride", "none"]
"""How a block halves its map: 2x2 max-pool, convolution of stride 2, or not at all."""

EPSILON = 1e-5
GROUP = 8
"""Channels in a group of "group", where their number allows it."""


class ConvBlock(nn.Module):
    """3x3 convolution, normalisation, ReLU; the map is halved as `shrink` says."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, shrink: Shrink) -> None:
        super().__init__()
        stride = 2 if shrink == "stride" else 1
        self.conv: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call] # untyped in torch
            nn.Conv2d, inputs, outputs, 3, stride=stride, padding=1, bias=norm == "none"
        )
        self.norm = nn.Identity() if norm == "none" else (BatchNorm if norm == "batch" else GroupNorm)(outputs)
        self.pools = shrink == "pool"

    def forward(self, hidden: Tensor, real: Tensor | None = None) -> Tensor:
        """[example, output, height, width] for `hidden` [example, input, height, width]."""
        return self.finish(convolve(hidden, self.conv.weight, self.conv.bias, self.conv.stride[0], 1), real)

    def finish(self, convolved: Tensor, real: Tensor | None = None) -> Tensor:
        """What follows the convolution.

        Args:
            convolved: [example, output, height, width].
            real: [example], 0 for rows that must not count in the statistics of the batch; None for none.
        """
        hidden: Tensor = convolved if isinstance(self.norm, nn.Identity) else self.norm(convolved, real)
        # The largest of four, then ReLU: the same as the other way round, on a quarter of the numbers.
        return torch.relu(functional.max_pool2d(hidden, 2) if self.pools else hidden)


class BatchNorm(nn.Module):
    """Batch normalisation by the statistics of the batch at hand. Ioffe and Szegedy 2015, arXiv 1502.03167.

    There are no running statistics: a function of parameters and inputs has nowhere to keep them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, real: Tensor | None = None) -> Tensor:
        """`hidden` [example, channel, height, width], shifted and scaled for each channel."""
        if real is None:
            return batch_normalise(hidden, self.weight, self.bias, EPSILON)
        scale, shift = affine(self.weight, self.bias, *moments(hidden, real))
        return torch.addcmul(shift[:, None, None], hidden, scale[:, None, None])


class GroupNorm(nn.Module):
    """Group normalisation, each row by itself. Wu and He 2018, arXiv 1803.08494."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = channels // math.gcd(channels, GROUP)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor, real: Tensor | None = None) -> Tensor:  # noqa: ARG002 - one signature for norms
        """`hidden` [example, channel, height, width], shifted and scaled."""
        return functional.group_norm(hidden, self.groups, self.weight, self.bias, EPSILON)


def moments(hidden: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [channel] of the rows of `hidden` [example, channel, height, width], by `real` [example]."""
    share = real / real.sum().clamp(min=1.0)
    spread, centres = torch.var_mean(hidden, (2, 3), correction=0)
    mean = share @ centres
    return mean, share @ (spread + (centres - mean).square())


def affine(weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift [channel] that batch normalisation with these statistics amounts to."""
    scale = weight * torch.rsqrt(variance + EPSILON)
    return scale, bias - mean * scale


def real_rows(images: Tensor) -> Tensor | None:
    """[example]: 1 for rows that hold something, 0 for rows that are 0 altogether, as blanked padding is.

    None where all rows hold something, as far as can be asked: not under `torch.vmap`.
    """
    found = (images != 0).flatten(1).any(1)
    if not is_mapped(images) and bool(found.all()):
        return None
    return found.to(images.dtype)


def channels_last(images: Tensor) -> Tensor:
    """`images` [example, channel, height, width] with the channels of a point side by side in memory.

    Convolutions, normalisation and pooling keep that order and are about twice as fast in it on a CPU.
    """
    if is_mapped(images):
        return images
    if images.shape[1] == 1:
        # Both orders are the same here; torch goes by the stride of the axis, which this sets to 1.
        return images.reshape(-1, *images.shape[2:], 1).movedim(3, 1)
    return images.contiguous(memory_format=torch.channels_last)


def block_start(name: str, inputs: int, outputs: int, norm: Norm, generator: torch.Generator) -> Params:
    """Starting values of a ConvBlock called `name`: Glorot-uniform weights, no shift."""
    bound = math.sqrt(6 / (9 * (inputs + outputs)))
    weight = torch.rand(outputs, inputs, 3, 3, generator=generator)
    params = {f"{name}.conv.weight": (2 * weight - 1) * bound}
    if norm == "none":
        return params | {f"{name}.conv.bias": torch.zeros(outputs)}
    return params | {f"{name}.norm.weight": torch.ones(outputs), f"{name}.norm.bias": torch.zeros(outputs)}


def fold_statistics(module: nn.Module, params: Params, calls: Iterable[tuple[Any, ...]]) -> Params:
    """`params` for the same network with norm "none": batch normalisation with fixed statistics, made part of the
    convolutions.

    Mean and variance of each block are those of the batches in `calls`, averaged. The network that comes out treats
    each row by itself.

    Args:
        module: holds ConvBlocks with norm "batch"; its parameters are overwritten.
        params: all of its parameters.
        calls: arguments of `module`, such as batches of training images, on the device of `params`.

    Raises:
        ValueError: there is no such block, or there are no calls.
    """
    blocks = {name: block for name, block in module.named_modules() if isinstance(block, ConvBlock)}
    blocks = {name: block for name, block in blocks.items() if isinstance(block.norm, BatchNorm)}
    if not blocks:
        raise ValueError('the module has no block with norm "batch", so there are no statistics to fold')
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in blocks}
    hooks = [block.norm.register_forward_hook(partial(_record, found[name])) for name, block in blocks.items()]
    module.to(next(iter(params.values())).device).load_state_dict(params)
    try:
        with torch.no_grad():
            for inputs in calls:
                module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    folded = dict(params)
    for name, statistics in found.items():
        if not statistics:
            raise ValueError("there were no batches to take statistics from; give at least one")
        mean, variance = (torch.stack(list(each)).mean(0) for each in zip(*statistics, strict=True))
        scale, shift = affine(folded.pop(f"{name}.norm.weight"), folded.pop(f"{name}.norm.bias"), mean, variance)
        folded[f"{name}.conv.weight"] = folded[f"{name}.conv.weight"] * scale[:, None, None, None]
        folded[f"{name}.conv.bias"] = shift
    return folded


def _record(into: list[tuple[Tensor, Tensor]], _: nn.Module, inputs: tuple[Any, ...], __: Tensor) -> None:
    hidden, real = inputs
    into.append(moments(hidden, hidden.new_ones(len(hidden)) if real is None else real))
