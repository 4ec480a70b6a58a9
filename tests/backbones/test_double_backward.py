"""Convolution and batch normalisation of our own, up to the third derivative."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.backbones import double_backward
from quickstudy.backbones.double_backward import batch_normalise, convolve

EPSILON = 1e-3


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def by_formula(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Written out: the third derivative of torch's own batch normalisation is wrong."""
    variance, mean = torch.var_mean(inputs, (0, 2, 3), correction=0, keepdim=True)
    return weight[:, None, None] * (inputs - mean) * torch.rsqrt(variance + EPSILON) + bias[:, None, None]


def our_normalise(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return batch_normalise(inputs, weight, bias, EPSILON)


def torch_convolve(inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
    return functional.conv2d(inputs, weight, None, stride, 1)


def our_convolve(inputs: Tensor, weight: Tensor, stride: int) -> Tensor:
    return convolve(inputs, weight, None, stride, 1)


def derivatives(function: Callable[..., Tensor], *inputs: Tensor, orders: int = 3) -> list[Tensor]:
    """Gradients of a curved sum of the outputs, of a curved sum of those, and so on."""
    value = function(*inputs).sin().sum()
    found: list[Tensor] = []
    for order in range(orders):
        last = order == orders - 1
        gradients = torch.autograd.grad(value, inputs, create_graph=not last, materialize_grads=True)
        found += gradients
        value = torch.stack([gradient.cos().sum() for gradient in gradients]).sum()
    return found


def same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-9)


class TestNormalisation:
    def test_derivatives_up_to_the_third_are_those_of_the_formula(self) -> None:
        inputs = drawn(4, 3, 5, 2), drawn(3, seed=1), drawn(3, seed=2)
        same(derivatives(our_normalise, *inputs), derivatives(by_formula, *inputs))

    def test_channels_last_makes_no_difference(self) -> None:
        maps = drawn(4, 3, 5, 2).detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        rest = drawn(3, seed=1), drawn(3, seed=2)
        same(derivatives(our_normalise, maps, *rest), derivatives(by_formula, drawn(4, 3, 5, 2), *rest))

    def test_maps_that_need_no_gradient(self) -> None:
        maps = drawn(4, 3, 5, 2).detach()
        params = drawn(3, seed=1), drawn(3, seed=2)
        same(
            derivatives(lambda *given: our_normalise(maps, *given), *params),
            derivatives(lambda *given: by_formula(maps, *given), *params),
        )

    def test_finite_differences_agree(self) -> None:
        inputs = drawn(3, 2, 2, 2), drawn(2, seed=1), drawn(2, seed=2)
        assert torch.autograd.gradgradcheck(our_normalise, inputs)


class TestConvolution:
    @pytest.mark.parametrize("stride", [1, 2])
    def test_derivatives_up_to_the_third_are_torch_s(self, stride: int) -> None:
        inputs = drawn(2, 3, 5, 6), drawn(4, 3, 3, 3, seed=1)
        ours = derivatives(lambda *given: our_convolve(*given, stride), *inputs)
        same(ours, derivatives(lambda *given: torch_convolve(*given, stride), *inputs))

    def test_images_that_need_no_gradient(self) -> None:
        images, weight = drawn(2, 1, 6, 6).detach(), drawn(4, 1, 3, 3, seed=1)
        ours = derivatives(lambda given: our_convolve(images, given, 2), weight)
        same(ours, derivatives(lambda given: torch_convolve(images, given, 2), weight))

    def test_weights_that_need_no_gradient(self) -> None:
        images, weight = drawn(2, 1, 6, 6), drawn(4, 1, 3, 3, seed=1).detach()
        ours = derivatives(lambda given: our_convolve(given, weight, 2), images)
        same(ours, derivatives(lambda given: torch_convolve(given, weight, 2), images))

    def test_finite_differences_agree(self) -> None:
        inputs = drawn(2, 2, 4, 3), drawn(3, 2, 3, 3, seed=1)
        assert torch.autograd.gradgradcheck(lambda *given: our_convolve(*given, 2), inputs)


def composed(maps: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return batch_normalise(convolve(maps, kernel, None, 1, 1), weight, bias, EPSILON).relu().sum()


def theirs_composed(maps: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return by_formula(torch_convolve(maps, kernel, 1), weight, bias).relu().sum()


class TestElsewhere:
    """Where these functions step aside."""

    inputs = drawn(2, 3, 4, 4), drawn(5, 3, 3, 3, seed=1), drawn(5, seed=2), drawn(5, seed=3)

    def test_under_vmap_each_task_is_as_alone(self) -> None:
        kernels = torch.stack([self.inputs[1], 2 * self.inputs[1]])
        gradient = torch.func.grad(composed, argnums=1)
        mapped = torch.vmap(gradient, in_dims=(None, 0, None, None))(
            self.inputs[0], kernels, self.inputs[2], self.inputs[3]
        )
        for kernel, found in zip(kernels, mapped, strict=True):
            alone = torch.autograd.grad(composed(self.inputs[0], kernel, *self.inputs[2:]), kernel)[0]
            torch.testing.assert_close(found, alone)

    def test_under_torch_func(self) -> None:
        found = torch.func.grad(composed, argnums=(0, 1, 2, 3))(*self.inputs)
        alone = torch.autograd.grad(theirs_composed(*self.inputs), self.inputs)
        same(list(found), list(alone))

    def test_under_autocast_the_convolution_runs_in_the_lower_precision(self) -> None:
        inputs = [each.detach().float().requires_grad_() for each in self.inputs]
        with torch.autocast("cpu", torch.bfloat16):
            assert convolve(inputs[0], inputs[1], None, 1, 1).dtype == torch.bfloat16
            value = composed(*inputs)
        gradients = torch.autograd.grad(value, inputs)
        assert all(gradient.dtype == torch.float32 for gradient in gradients)

    def test_a_bias_is_added(self) -> None:
        bias = self.inputs[2]
        found = convolve(self.inputs[0], self.inputs[1], bias, 1, 1)
        torch.testing.assert_close(found, torch_convolve(self.inputs[0], self.inputs[1], 1) + bias[:, None, None])

    def test_the_own_route_is_taken_where_a_backward_is_to_come(self) -> None:
        assert "_Convolution" in type(convolve(*self.inputs[:2], None, 1, 1).grad_fn).__name__
        with torch.no_grad():
            assert not double_backward._is_plain(*self.inputs[:2])
