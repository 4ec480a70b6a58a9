"""Reptile's gradient is the way from the adapted point back to the start."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Adam, Batch, Episode, InnerLoop
from quickstudy.core.inner import adapt_parameters
from quickstudy.deltas import Full
from quickstudy.learners import Network
from quickstudy.learners.optimisation.reptile import Reptile


def test_gradient_on_a_parabola(constant, parabola, gradients):
    """Support and query together ask for 2, 4 and 7; the support alone for 2 and 4."""
    for joint, aim in ((True, 13 / 3), (False, 3.0)):
        learner = Reptile(Network(constant(1.0), Full()), InnerLoop(2, SGD(0.1)), joint=joint)
        adapted = aim + (1 - aim) * 0.8**2
        grad = gradients(learner, learner.init(torch.Generator()), parabola)["body.value"]
        assert float(grad) == pytest.approx(1 - adapted)


def test_minibatches_take_turns(constant, parabola, gradients):
    """Two shares of the support: of 2 and of 4, the first again after the second."""
    learner = Reptile(Network(constant(1.0), Full()), InnerLoop(3, SGD(0.1)), joint=False, minibatch=1)
    adapted = 1.0
    for aim in (2, 4, 2):
        adapted = aim + (adapted - aim) * 0.8
    grad = gradients(learner, learner.init(torch.Generator()), parabola)["body.value"]
    assert float(grad) == pytest.approx(1 - adapted)


def test_minibatches_hold_each_example_once_in_a_round(constant, gradients):
    """Of seven examples, in steps so small that their order does not count, as much as steps on all of them."""
    support = Batch(torch.zeros(7, 1), torch.tensor([[1.0], [2], [4], [8], [16], [32], [64]]), torch.ones(7))

    def moved(minibatch, steps, rate):
        inner = InnerLoop(steps, SGD(rate))
        learner = Reptile(Network(constant(1.0), Full()), inner, joint=False, minibatch=minibatch)
        return float(gradients(learner, learner.init(torch.Generator()), Episode(support, support))["body.value"])

    assert moved(1, 7, 1e-4) == pytest.approx(moved(None, 1, 7e-4), rel=1e-2)
    assert moved(7, 1, 1e-4) == moved(None, 1, 1e-4)
    with pytest.raises(ValueError, match="minibatch is 0"):
        Reptile(Network(constant(1.0), Full()), minibatch=0)


@pytest.mark.parametrize("optimiser", [SGD(0.3), Adam(0.05)])
def test_gradient_is_start_minus_adapted(points, optimiser, gradients):
    learner = Reptile(Network(MLP((4, 8)), Full(), 3), InnerLoop(4, optimiser), joint=False)
    params = learner.init(torch.Generator().manual_seed(0))
    support = points(seed=1)
    adapter = learner.adapt(params, support)
    for name, grad in gradients(learner, params, Episode(support, points(seed=2))).items():
        torch.testing.assert_close(grad, params[name] - adapter.tensors[name])
        assert grad.any()


def test_a_step_of_sgd_on_the_loss_moves_towards_the_adapted_point(points):
    """With rate e: p - e (p - p') = (1 - e) p + e p', the paper's update."""
    learner = Reptile(Network(MLP((4, 8)), Full(), 3), InnerLoop(4, SGD(0.3)), joint=False)
    params = learner.init(torch.Generator().manual_seed(0))
    episode = Episode(points(seed=1), points(seed=2))
    adapter = learner.adapt(params, episode.support)
    moved = adapt_parameters(lambda p: learner.loss(p, episode), params, InnerLoop(1, SGD(0.25), order="first"))
    for name, tensor in moved.items():
        torch.testing.assert_close(tensor, 0.75 * params[name] + 0.25 * adapter.tensors[name])


def test_meta_training_may_run_another_inner_loop(constant, parabola, gradients):
    learner = Reptile(Network(constant(1.0), Full()), InnerLoop(9), training=InnerLoop(1, SGD(0.1)), joint=False)
    grad = gradients(learner, learner.init(torch.Generator()), parabola)["body.value"]
    assert float(grad) == pytest.approx(0.2 * (1 - 3))


def test_frozen_parameters_stay(points):
    learner = Reptile(Network(MLP((4, 8)), Full(), 3), InnerLoop(2, freeze=("body.*",)))
    params = learner.init(torch.Generator().manual_seed(0))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    loss = learner.loss(leaves, Episode(points(seed=1), points(seed=2)))
    grads = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    for name, grad in zip(leaves, grads, strict=True):
        assert bool(grad.any()) == name.startswith("head.")
