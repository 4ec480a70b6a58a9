import pytest
import torch
from torch import nn

from quickstudy.deltas import Full, Head


def test_full_moves_every_parameter_and_keeps_their_gradients(factory, inputs):
    module = factory()
    start = {name: parameter.detach() for name, parameter in module.named_parameters()}
    params = Full().init(Full().attach(module), start, torch.Generator())
    assert params.keys() == start.keys()
    expected = torch.autograd.grad(module(inputs).square()[:, 0].sum(), list(module.parameters()))
    found = torch.func.grad(
        lambda tensors: torch.func.functional_call(module, tensors, (inputs,)).square()[:, 0].sum()
    )(params)
    for gradient, other in zip(expected, found.values(), strict=True):
        assert torch.allclose(gradient, other, atol=1e-6)


def test_full_refuses_a_start_that_lacks_a_parameter():
    with pytest.raises(ValueError, match=r"'bias' and 0 more"):
        Full().init(nn.Linear(2, 2), {"weight": torch.zeros(2, 2)}, torch.Generator())


def test_head_moves_nothing(factory):
    module = factory()
    assert Head().attach(module) is module
    assert Head().init(module, {}, torch.Generator()) == {}
