"""ANIL moves the head alone and equals MAML with a frozen body."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Episode, InnerLoop
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full
from quickstudy.learners import Network
from quickstudy.learners.optimisation.anil import ANIL
from quickstudy.learners.optimisation.maml import MAML

NETWORK = Network(MLP((4, 8)), Full(), 3)


def test_the_body_does_not_move(points):
    learner = ANIL(NETWORK, InnerLoop(4, SGD(0.3)))
    params = learner.init(torch.Generator().manual_seed(0))
    adapter = learner.adapt(params, points())
    assert set(adapter.tensors) == {"head.weight", "head.bias"}
    assert all((tensor != params[name]).any() for name, tensor in adapter.tensors.items())


@pytest.mark.parametrize("order", ["first", "second"])
def test_is_maml_with_a_frozen_body(points, order, gradients):
    anil = ANIL(NETWORK, InnerLoop(3, SGD(0.3), order=order))
    maml = MAML(NETWORK, InnerLoop(3, SGD(0.3), order=order, freeze=("body.*",)))
    params = anil.init(torch.Generator().manual_seed(0))
    episode = Episode(points(seed=1), points(seed=2))
    expected = gradients(maml, params, episode)
    for name, grad in gradients(anil, params, episode).items():
        torch.testing.assert_close(grad, expected[name])
        assert grad.any()


def test_a_network_without_a_head_is_refused():
    with pytest.raises(ValueError, match="no head"):
        ANIL(Network(MLP((4, 8)), Full())).init(torch.Generator())


def test_a_larger_task_is_refused(points):
    learner = ANIL(NETWORK)
    with pytest.raises(TaskError, match="4 classes, the head has 3 outputs"):
        learner.adapt(learner.init(torch.Generator()), points(ways=4))
