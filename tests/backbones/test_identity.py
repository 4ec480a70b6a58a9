"""Features that are inputs."""

import torch

from quickstudy.backbones.identity import Identity
from quickstudy.deltas import Head
from quickstudy.learners import Network


def test_features_are_the_inputs_and_nothing_is_drawn():
    backbone = Identity(3)
    draw = torch.Generator().manual_seed(0)
    before = draw.get_state()
    assert backbone.start(draw) == {}
    assert torch.equal(draw.get_state(), before)
    inputs = torch.randn(4, 3, generator=draw)
    assert torch.equal(backbone.module()(inputs), inputs)
    assert torch.equal(Network(backbone, Head()).features({}, inputs), inputs)
    assert (backbone.width, backbone.fingerprint) == (3, None)
