"""Convolution and batch normalisation whose second derivatives are fast on a CPU.

Learners that differentiate through gradient steps go backward through a backward. torch composes that of batch
normalisation from some thirty products over the whole map, and that of a convolution from convolutions whose kernels
are as large as the map. Both are sums of a few terms for which fast kernels exist.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.transforms import transformed

aten = torch.ops.aten


def convolve(inputs: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """As `torch.nn.functional.conv2d`."""
    if bias is not None or not _is_plain(inputs, weight):
        return functional.conv2d(inputs, weight, bias, stride, padding)
    convolved: Tensor = _Convolution.apply(inputs, weight, stride, padding)  # type: ignore[no-untyped-call]
    return convolved


def batch_normalise(inputs: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """`inputs` [example, channel, height, width] normalised by their own mean and variance, scaled and shifted."""
    if not _is_plain(inputs, weight, bias):
        return torch.batch_norm(inputs, weight, bias, None, None, True, 0.0, epsilon, False)
    normalised: Tensor = _Normalisation.apply(inputs, weight, bias, epsilon)[0]  # type: ignore[no-untyped-call]
    return normalised


def _is_plain(inputs: Tensor, *params: Tensor) -> bool:
    """On a CPU, under neither `torch.func` nor autocast, in one precision, and with a backward to come."""
    return (
        inputs.device.type == "cpu"
        and torch.is_grad_enabled()
        and not transformed()
        and not torch.is_autocast_enabled("cpu")
        and all(param.dtype == inputs.dtype for param in params)
    )


def _convolution_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor, sides: tuple[int, int], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients for `inputs` and for `weight`, linear in `gradient` and in the other one of the two.

    Args:
        gradient: for what the convolution returned.
        inputs: of the convolution.
        weight: of the convolution.
        sides: stride and padding.
        wanted: which of the two; the other is None.
    """
    stride, padding = sides
    options = [stride, stride], [padding, padding], [1, 1], False, [0, 0], 1
    found = aten.convolution_backward(gradient, inputs, weight, None, *options, [*wanted, False])
    return found[0], found[1]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.sides = stride, padding
        return functional.conv2d(inputs, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        wanted = ctx.needs_input_grad[:2]
        found = _ConvolutionBackward.apply(gradient, *ctx.saved_tensors, ctx.sides, wanted)  # type: ignore[no-untyped-call]
        return *found, None, None


class _ConvolutionBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor, sides: tuple[int, int], wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(gradient, inputs, weight)
        ctx.sides = sides
        ctx.set_materialize_grads(False)
        return _convolution_backward(gradient, inputs, weight, sides, wanted)

    @staticmethod
    def backward(ctx: Any, for_inputs: Tensor | None, for_weight: Tensor | None) -> Any:
        gradient, inputs, weight = ctx.saved_tensors
        wants_gradient, wants_inputs, wants_weight = ctx.needs_input_grad[:3]
        to_gradient = to_inputs = to_weight = None
        if for_inputs is not None:
            if wants_gradient:
                to_gradient = functional.conv2d(for_inputs, weight, None, *ctx.sides)
            if wants_weight:
                to_weight = _convolution_backward(gradient, for_inputs, weight, ctx.sides, (False, True))[1]
        if for_weight is not None:
            if wants_gradient:
                other = functional.conv2d(inputs, for_weight, None, *ctx.sides)
                to_gradient = other if to_gradient is None else to_gradient + other
            if wants_inputs:
                to_inputs = _convolution_backward(gradient, inputs, for_weight, ctx.sides, (True, False))[0]
        return to_gradient, to_inputs, to_weight, None, None


def _normalisation_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor, mean: Tensor, spread: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for inputs, weight and bias; `spread` is one over the standard deviation."""
    found: tuple[Tensor, Tensor, Tensor] = aten.native_batch_norm_backward(
        gradient, inputs, weight, None, None, mean, spread, True, epsilon, [True, True, True]
    )
    return found


class _Normalisation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        normalised, mean, spread = torch.native_batch_norm(inputs, weight, bias, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(inputs, weight, mean, spread)
        ctx.mark_non_differentiable(mean, spread)
        ctx.epsilon = epsilon
        return normalised, mean, spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> Any:
        found = _NormalisationBackward.apply(gradient, *ctx.saved_tensors, ctx.epsilon)  # type: ignore[no-untyped-call]
        return *found, None


class _NormalisationBackward(torch.autograd.Function):
    """With x the normalised inputs, P(g) = g - mean(g) - x mean(g x) and s = 1 / deviation, the gradient for the inputs
    is weight s P(g), for the weight sum(g x), for the bias sum(g). Means and sums are over examples and places."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, inputs: Tensor, weight: Tensor, mean: Tensor, spread: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = _normalisation_backward(gradient, inputs, weight, mean, spread, epsilon)
        ctx.save_for_backward(gradient, inputs, weight, mean, spread, *found[1:])
        ctx.epsilon = epsilon
        return found

    @staticmethod
    def backward(ctx: Any, for_inputs: Tensor, for_weight: Tensor, for_bias: Tensor) -> Any:
        gradient, inputs, weight, mean, spread, to_scale, to_shift = ctx.saved_tensors
        count = inputs.numel() // inputs.shape[1]
        pulled, along, total = _normalisation_backward(for_inputs, inputs, weight, mean, spread, ctx.epsilon)
        if torch.is_grad_enabled():  # for a third derivative: the saved ones do not depend on the inputs
            variance, mean = torch.var_mean(inputs, (0, 2, 3), correction=0)
            spread = torch.rsqrt(variance + ctx.epsilon)
        # How far `for_inputs` and `gradient` agree once mean and x are taken out of them: sum(for_inputs P(gradient)).
        agreement = (for_inputs * gradient).sum((0, 2, 3)) - (total * to_shift + along * to_scale) / count
        to_gradient = pulled + _weighted((for_weight * spread, inputs), shift=for_bias - for_weight * spread * mean)
        # x and s depend on the inputs by P(.) s and by x s / count.
        bend = -weight * spread.square() / count
        per_direction, per_gradient = bend * to_scale, for_weight * spread + bend * along
        per_x = bend * agreement - (per_direction * along + per_gradient * to_scale) / count
        to_inputs = _weighted(
            (per_direction, for_inputs),
            (per_gradient, gradient),
            (per_x * spread, inputs),
            shift=-per_x * spread * mean - (per_direction * total + per_gradient * to_shift) / count,
        )
        return to_gradient, to_inputs, agreement * spread, None, None, None


def _weighted(*terms: tuple[Tensor, Tensor], shift: Tensor) -> Tensor:
    """`shift` and the sum of maps [example, channel, height, width], each times a number for its channels."""
    total = shift[:, None, None]
    for factor, maps in terms:
        total = torch.addcmul(total, maps, factor[:, None, None])
    return total
