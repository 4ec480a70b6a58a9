"""The learned optimiser: known walks on parabolas, derivatives by two routes, learning on quadratics."""

from dataclasses import replace

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.backbones.linear import Linear
from quickstudy.core import Episode
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full
from quickstudy.evaluation import evaluate
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.learned_rule import LearnedRule
from quickstudy.learners.optimisation.learned_optimiser import L2O
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.optimisees import Quadratics, StartedTasks
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

LINE = Network(Linear(4), Full())
SMALL = Network(MLP((4, 8)), Full(), 3)
QUADRATICS = Quadratics(width=4)
STARTED = StartedTasks(GaussianBlobs(3, (2, 4), 6, width=4), (4, 8, 3))
RULE = LearnedRule(hidden=6)
CASES = {
    "quadratics": (L2O(LINE, RULE, steps=5, truncate=3), QUADRATICS),
    "logarithms": (L2O(LINE, RULE, steps=5, weighting="log"), QUADRATICS),
    "second order": (L2O(LINE, RULE, steps=4, order="second"), QUADRATICS),
    "small networks": (L2O(SMALL, RULE, steps=4), STARTED),
    "relative": (L2O(SMALL, replace(RULE, output="relative"), steps=4), STARTED),
    "no start in the task": (L2O(Network(MLP((1, 8)), Full(), 1), RULE, steps=4), Sinusoids(shots=(4, 8))),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("learner", "tasks"), CASES.values(), ids=CASES)
def test_conforms(learner, tasks, check):
    check(learner, tasks)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def heavy_ball(learner):
    """Weights of a relative rule whose LSTM always says 0."""
    return {name: torch.zeros_like(tensor) for name, tensor in learner.init(seeded()).items()}


def test_a_rule_that_says_nothing_walks_as_momentum_does(constant, parabola):
    """The support's mean is 3, so the gradient at p is 2 (p - 3)."""
    learner = L2O(Network(constant(1.0), Full()), LearnedRule(output="relative", limit=1e3), steps=6)
    point, velocity = 1.0, 0.0
    for _ in range(6):
        velocity = 0.9 * velocity - 0.2 * 2 * (point - 3)
        point += velocity
    adapter = learner.adapt(heavy_ball(learner), parabola.support)
    assert float(adapter.tensors["body.value"]) == pytest.approx(point, abs=1e-5)


@pytest.mark.parametrize("weighting", ["sum", "log"])
def test_the_loss_weighs_the_losses_along_the_walk(weighting):
    """The loss after step t is that of adapting t steps."""
    learner = L2O(LINE, RULE, steps=3, weighting=weighting)
    params, episode = learner.init(seeded()), QUADRATICS.sample(seeded(1))
    losses = []
    for steps in (1, 2, 3):
        adapter = replace(learner, steps=steps).adapt(params, episode.support)
        means = learner.predict(params, adapter, episode.support.inputs).mean
        losses.append((means - episode.support.targets).square().mean())
    one, two, three = losses
    point = episode.support.inputs["start"][0]
    start = (episode.support.inputs["x"] @ point - episode.support.targets[:, 0]).square().mean()
    expected = {
        "sum": (one + two + three) / 3,
        "log": (one.log() + two.log() + three.log() + (one + two + three) / start) / 3,
    }
    torch.testing.assert_close(learner.loss(params, episode), expected[weighting])


def test_second_order_is_the_slope_of_the_loss_and_first_order_is_not(gradients, differences, in_double):
    learner = L2O(LINE, LearnedRule(hidden=3, layers=1), steps=4, truncate=10, order="second")
    params, episode = in_double(learner.init(seeded())), in_double(QUADRATICS.sample(seeded(1)))
    numeric = differences(learner, params, episode)
    torch.testing.assert_close(gradients(learner, params, episode), numeric, rtol=1e-4, atol=1e-6)
    first = gradients(replace(learner, order="first"), params, episode)
    assert not all(torch.allclose(first[name], numeric[name], rtol=3e-4, atol=1e-6) for name in params)


def test_first_order_is_the_slope_with_the_gradients_of_the_walk_held(gradients):
    """The moves as a function of recorded gradients, the sum of the losses where they lead to."""
    learner = L2O(LINE, LearnedRule(hidden=3), steps=5, truncate=10)
    params, episode = learner.init(seeded()), QUADRATICS.sample(seeded(1))
    inputs, targets = episode.support.inputs["x"], episode.support.targets[:, 0]

    def loss_at(point):
        return (inputs @ point - targets).square().mean()

    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    point, total = episode.support.inputs["start"][0], 0.0
    state = learner.rule.start(point)
    for _ in range(5):
        gradient = torch.func.grad(loss_at)(point.detach())
        move, state = learner.rule.step(leaves, gradient, state)
        point = point + move
        total = total + loss_at(point) / 5
    expected = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    torch.testing.assert_close(gradients(learner, params, episode), expected)


def test_no_derivative_goes_through_a_cut(gradients):
    """With a cut after each step, a loss tells of the step before it alone."""
    learner = L2O(LINE, RULE, steps=2, truncate=1)
    params, episode = learner.init(seeded()), QUADRATICS.sample(seeded(1))
    whole, cut = (gradients(replace(learner, truncate=t), params, episode) for t in (2, 1))
    assert not all(torch.allclose(whole[name], cut[name]) for name in params)
    torch.testing.assert_close(learner.loss(params, episode), replace(learner, truncate=2).loss(params, episode))


def test_the_walk_starts_where_the_support_says():
    learner, episode = L2O(LINE, RULE, steps=1), QUADRATICS.sample(seeded(1))
    params = {name: torch.zeros_like(tensor) for name, tensor in learner.init(seeded()).items()}
    adapter = learner.adapt(params, episode.support)
    assert torch.equal(adapter.tensors["body.1.weight"], episode.support.inputs["start"][:1])


def test_a_start_of_a_network_lands_in_its_layers():
    """Weights uniform in +-1/sqrt(inputs), biases 0, by the names of the network."""
    learner = L2O(SMALL, RULE, steps=1)
    params = {name: torch.zeros_like(tensor) for name, tensor in learner.init(seeded()).items()}
    tensors = learner.adapt(params, STARTED.sample(seeded(2)).support).tensors
    assert not tensors["body.layers.0.bias"].any()
    assert not tensors["head.bias"].any()
    assert 0.4 < tensors["body.layers.0.weight"].abs().max() <= 1 / 4**0.5
    assert 0.25 < tensors["head.weight"].abs().max() <= 1 / 8**0.5


def test_meta_training_makes_it_fast_and_an_untrained_one_is_not():
    learner = L2O(LINE, LearnedRule(hidden=10, layers=1), steps=15, truncate=8)
    options = FitOptions(steps=80, tasks_per_step=16, lr=2e-2, mode="vmap", clip=1.0, progress=False)
    params = fit(learner, QUADRATICS, options).params
    trained, untrained, unmoved = (
        evaluate(replace(learner, steps=steps), weights, QUADRATICS, 200, seed=1, mode="vmap").mean
        for steps, weights in ((15, params), (15, learner.init(seeded())), (1, learner.init(seeded())))
    )
    assert trained < unmoved / 3
    assert trained < untrained / 3


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        L2O(LINE, steps=0)
    with pytest.raises(ValueError, match="truncate is 0"):
        L2O(LINE, truncate=0)
    with pytest.raises(ValueError, match="weighting is 'last'"):
        L2O(LINE, weighting="last")
    with pytest.raises(ValueError, match="order is 'third'"):
        L2O(LINE, order="third")
    learner, episode = L2O(LINE), Quadratics(width=5).sample(seeded())
    with pytest.raises(TaskError, match="the start has 5 entries, the network 4"):
        learner.adapt(learner.init(seeded()), episode.support)
    larger = Episode(*(STARTED.sample(seeded()).__dict__[side] for side in ("support", "query")))
    with pytest.raises(TaskError, match="the start has 67 entries, the network 58"):
        L2O(Network(MLP((4, 8)), Full(), 2)).loss(learner.init(seeded()), larger)
