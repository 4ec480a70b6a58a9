"""A distribution over heads: against closed forms, and how far its probabilities can be trusted."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.deltas import Full, Head
from quickstudy.evaluation.calibration import expected_calibration_error
from quickstudy.evaluation.coverage import evaluate_density
from quickstudy.learners import Network
from quickstudy.learners.bayesian.hierarchical import Hierarchical
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions


def start(learner):
    return learner.init(torch.Generator().manual_seed(0))


def test_without_examples_of_weight_the_answer_is_the_prior(points, identity):
    learner = Hierarchical(Network(identity(4), Head()), variance=2.0, noise=0.5)
    params = start(learner) | {"prior.mean": torch.arange(5.0)[None]}
    support = points(seed=1)
    blind = type(support)(support.inputs, torch.randn(12, 1), torch.zeros(12))
    found = learner.predict(params, learner.adapt(params, blind), support.inputs)
    features = torch.cat([support.inputs, torch.ones(12, 1)], -1)
    torch.testing.assert_close(found.mean, features @ torch.arange(5.0)[:, None])
    torch.testing.assert_close(found.variance, 2.0 / 5 * features.square().sum(-1, keepdim=True) + 0.25)


def test_more_examples_narrow_the_answer_to_the_noise(identity):
    learner = Hierarchical(Network(identity(1), Head()), noise=0.1)
    params, x = start(learner), torch.linspace(-1, 1, 500)[:, None]
    y = 2 * x + 1 + 0.1 * torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    batch = Sinusoids(shots=1).sample(torch.Generator()).support
    variances = []
    for count in (2, 20, 500):
        rows = torch.linspace(0, 499, count).long()
        known = type(batch)(x[rows], y[rows], torch.ones(count))
        found = learner.predict(params, learner.adapt(params, known), x)
        variances.append(float(found.variance.max()))
    assert variances[0] > variances[1] > variances[2] > 0.01
    assert variances[2] < 0.0102
    torch.testing.assert_close(found.mean, 2 * x + 1, rtol=0, atol=0.03)


def test_learns_sine_waves_and_how_far_it_may_be_wrong():
    learner = Hierarchical(Network(MLP((1, 32, 32), "tanh"), Full()))
    tasks = Sinusoids(shots=(3, 10), queries=10)
    options = FitOptions(steps=150, tasks_per_step=8, lr=1e-2, mode="vmap", schedule="cosine", progress=False)
    trained = evaluate_density(learner, fit(learner, tasks, options).params, tasks, 300, seed=1)
    untrained = evaluate_density(learner, start(learner), tasks, 300, seed=1)
    assert float(trained.squared_error.mean()) < float(untrained.squared_error.mean()) / 3
    assert float(trained.log_likelihood.mean()) > float(untrained.log_likelihood.mean()) + 0.5
    assert float(trained.coverage[0.9].mean()) == pytest.approx(0.9, abs=0.08)


def test_probabilities_are_calibrated():
    """Meta-training moves the temperature; the start's is too careful."""
    learner = Hierarchical(Network(MLP((4, 16, 16), "tanh"), Full()), noise=1.0)
    tasks = GaussianBlobs(ways=3, shots=2, queries=10, width=4, spread=1.0)
    options = FitOptions(steps=50, tasks_per_step=8, lr=5e-2, mode="vmap", schedule="cosine", progress=False)
    errors = []
    for params in (start(learner), fit(learner, tasks, options).params):
        generator = torch.Generator().manual_seed(1)
        episodes = [tasks.sample(generator) for _ in range(150)]
        answers = [learner.predict(params, learner.adapt(params, e.support), e.query.inputs) for e in episodes]
        probabilities = torch.cat([answer.probabilities() for answer in answers])
        errors.append(expected_calibration_error(probabilities, torch.cat([e.query.targets for e in episodes])))
    assert errors[1] < 0.05 < errors[0]


def test_wrong_use_is_refused(identity, points):
    with pytest.raises(ValueError, match="variance is 0"):
        Hierarchical(Network(identity(4), Head()), variance=0.0)
    with pytest.raises(ValueError, match="noise is -1"):
        Hierarchical(Network(identity(4), Head()), noise=-1.0)
    learner = Hierarchical(Network(identity(4), Head(), outputs=3))
    with pytest.raises(ValueError, match="brings one of 3 outputs"):
        learner.adapt(start(learner), points())
