"""Reptile's gradient is the way from the adapted point back to the start."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Adam, Episode, InnerLoop
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
