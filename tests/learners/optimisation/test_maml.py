"""MAML against closed forms on a parabola, and on sine waves."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Episode, InnerLoop
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full
from quickstudy.evaluation import evaluate
from quickstudy.learners import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

RATE, STEPS, START = 0.1, 3, 1.0


def gradient(learner, episode):
    params = {name: t.requires_grad_() for name, t in learner.init(torch.Generator()).items()}
    (grad,) = torch.autograd.grad(learner.loss(params, episode), list(params.values()))
    return float(grad)


def on_parabola(constant, order="second", steps=STEPS):
    return MAML(Network(constant(START), Full()), InnerLoop(steps, SGD(RATE), order=order))


def test_adapting_walks_down_the_parabola(constant, parabola):
    """Each step takes the share 1 - 2 rate of the distance to the support's mean, 3."""
    learner = on_parabola(constant)
    adapter = learner.adapt(learner.init(torch.Generator()), parabola.support)
    expected = 3 + (START - 3) * (1 - 2 * RATE) ** STEPS
    assert float(adapter.tensors["body.value"]) == pytest.approx(expected)
    assert float(learner.predict({}, adapter, torch.zeros(1, 1)).mean) == pytest.approx(expected)


def test_meta_gradient_has_its_closed_form(constant, parabola):
    """d/dp (p' - 7)^2 = 2 (p' - 7) (1 - 2 rate)^steps; first order lacks the last factor."""
    shrink = (1 - 2 * RATE) ** STEPS
    slope = 2 * (3 + (START - 3) * shrink - 7)
    assert gradient(on_parabola(constant), parabola) == pytest.approx(slope * shrink)
    assert gradient(on_parabola(constant, "first"), parabola) == pytest.approx(slope)


def test_no_steps_is_plain_training(constant, parabola):
    assert gradient(on_parabola(constant, steps=0), parabola) == pytest.approx(2 * (START - 7))


def test_frozen_parameters_are_not_in_the_adapter_but_are_meta_trained(points):
    learner = MAML(Network(MLP((4, 6)), Full(), 3), InnerLoop(2, freeze=("body.*",)))
    params = {n: t.requires_grad_() for n, t in learner.init(torch.Generator().manual_seed(0)).items()}
    assert set(learner.adapt(params, points()).tensors) == {"head.weight", "head.bias"}
    loss = learner.loss(params, Episode(points(seed=1), points(seed=2)))
    assert all(grad.any() for grad in torch.autograd.grad(loss, list(params.values())))


def test_a_smaller_task_uses_the_first_outputs(points):
    learner = MAML(Network(MLP((4, 6)), Full(), 5))
    params = learner.init(torch.Generator().manual_seed(0))
    adapter = learner.adapt(params, points(ways=3))
    assert learner.predict(params, adapter, points().inputs).mean.shape == (12, 3)
    assert torch.equal(adapter.tensors["head.weight"][3:], params["head.weight"][3:])


def test_a_larger_task_is_refused(points):
    learner = MAML(Network(MLP((4, 6)), Full(), 3))
    with pytest.raises(TaskError, match="4 classes, the head has 3 outputs"):
        learner.adapt(learner.init(torch.Generator()), points(ways=4))


def test_learns_sine_waves():
    """After meta-training, adapting makes the error a third; from a random start it does not."""
    tasks = Sinusoids(shots=10, queries=10)
    network = Network(MLP((1, 40, 40), "relu"), Full(), 1)
    learner = MAML(network, InnerLoop(3, SGD(0.02)))
    unadapted = MAML(network, InnerLoop(0))
    options = FitOptions(steps=600, tasks_per_step=16, lr=3e-3, mode="vmap", progress=False)
    params = fit(learner, tasks, options).params
    random = learner.init(torch.Generator().manual_seed(0))
    after = evaluate(learner, params, tasks, 200, seed=1, mode="vmap").mean
    before = evaluate(unadapted, params, tasks, 200, seed=1, mode="vmap").mean
    control = evaluate(learner, random, tasks, 200, seed=1, mode="vmap").mean
    assert after < before / 3
    assert after < control / 3
