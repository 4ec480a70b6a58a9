"""The linear backbone conforms and is a product."""

import pytest
import torch

from quickstudy.backbones.conformance import CHECKS
from quickstudy.backbones.linear import Linear
from quickstudy.core.functional import Functional


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check):
    check(Linear(4, 3), torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))


def test_is_a_product_without_a_bias():
    backbone, inputs = Linear(6, 2), torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    start = backbone.start(torch.Generator().manual_seed(1))
    features = Functional(backbone.module)(start, inputs)
    torch.testing.assert_close(features, inputs.flatten(1) @ start["1.weight"].T)
    assert not Functional(backbone.module)(start, torch.zeros(1, 6)).any()


def test_refuses_sizes_without_meaning():
    with pytest.raises(ValueError, match="0 inputs"):
        Linear(0).module()
    with pytest.raises(ValueError, match="0 outputs"):
        _ = Linear(3, 0).width
