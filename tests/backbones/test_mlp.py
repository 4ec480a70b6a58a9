import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core.functional import Functional


def test_computes_what_the_formula_says():
    backbone = MLP((3, 4, 2), "tanh")
    start = backbone.start(torch.Generator().manual_seed(1))
    inputs = torch.randn(5, 3)
    hidden = torch.tanh(inputs @ start["layers.0.weight"].T + start["layers.0.bias"])
    expected = torch.tanh(hidden @ start["layers.1.weight"].T + start["layers.1.bias"])
    assert torch.allclose(Functional(backbone.module)(start, inputs), expected, atol=1e-6)


def test_inputs_with_more_axes_are_flattened():
    assert MLP((6, 4)).module()(torch.randn(5, 1, 2, 3)).shape == (5, 4)


def test_weights_lie_within_the_bound_and_fill_it():
    weight = MLP((100, 200)).start(torch.Generator().manual_seed(0))["layers.0.weight"]
    assert weight.abs().max() <= 0.1
    assert weight.abs().max() > 0.099
    assert abs(weight.mean()) < 0.002


@pytest.mark.parametrize("widths", [(3,), (), (3, 0)])
def test_refuses_widths(widths):
    with pytest.raises(ValueError, match="at least two"):
        MLP(widths).module()


def test_refuses_an_unknown_activation():
    with pytest.raises(ValueError, match="relu"):
        MLP((1, 2), "sigmoidal").module()
