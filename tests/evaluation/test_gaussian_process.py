"""The exact posterior against scikit-learn, its own chain rule, and its calibration."""

import torch
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from quickstudy.core import Batch
from quickstudy.evaluation.coverage import evaluate_density, log_density
from quickstudy.evaluation.gaussian_process import (
    joint_log_density,
    oracle_prediction,
    oracle_scores,
    posterior,
)
from quickstudy.learners.bayesian.cnp import CNP
from quickstudy.tasks.gaussian_processes import KERNELS, GaussianProcesses


def drawn(kernel="rbf", seed=0):
    return GaussianProcesses(kernel, context=(4, 8), points=14).draw(torch.Generator().manual_seed(seed))


def test_posterior_is_that_of_scikit_learn():
    process, episode = drawn()
    real = episode.support.weights > 0
    theirs = GaussianProcessRegressor(
        process.scale**2 * kernels.RBF(process.lengthscale), alpha=process.noise**2, optimizer=None
    ).fit(episode.support.inputs[real].double().numpy(), episode.support.targets[real].double().numpy())
    mean, covariance = theirs.predict(episode.query.inputs.double().numpy(), return_cov=True)
    found, ours = posterior(process, episode.support, episode.query.inputs)
    torch.testing.assert_close(found[:, 0], torch.from_numpy(mean), rtol=1e-6, atol=1e-8)
    noisy = torch.from_numpy(covariance) + process.noise**2 * torch.eye(len(covariance))
    torch.testing.assert_close(ours, noisy, rtol=1e-6, atol=1e-8)


def test_points_together_are_points_one_after_the_other():
    """log p(a, b, c | s) = log p(a | s) + log p(b | s, a) + log p(c | s, a, b)."""
    for kernel in KERNELS:
        process, episode = drawn(kernel, seed=3)
        query = episode.query
        count = int(query.weights.sum())
        x = torch.cat([episode.support.inputs, query.inputs[:count]])
        y = torch.cat([episode.support.targets, query.targets[:count]])
        given = len(episode.support.inputs)
        total = 0.0
        for number in range(count):
            known = torch.cat([episode.support.weights, (torch.arange(count) < number).float()])
            row = slice(given + number, given + number + 1)
            total += float(log_density(oracle_prediction(process, Batch(x, y, known), x[row]), y[row]))
        together = float(joint_log_density(process, episode.support, query))
        torch.testing.assert_close(together * count, total, rtol=1e-4, atol=1e-3)


def test_the_oracle_covers_what_it_should_and_beats_what_knows_less():
    tasks = GaussianProcesses(points=20, context=(3, 10))
    scores, joint = oracle_scores(tasks, 300, seed=5)
    for level, share in scores.coverage.items():
        assert abs(float(share.mean()) - level) < 0.03
    assert scores.calibration_error < 0.02
    assert float(joint.mean()) > float(scores.log_likelihood.mean())
    learner = CNP(width=8)
    untrained = evaluate_density(learner, learner.init(torch.Generator().manual_seed(0)), tasks, 300, seed=5)
    assert float(scores.log_likelihood.mean()) > float(untrained.log_likelihood.mean()) + 0.5


def test_padding_of_the_support_changes_nothing():
    process, episode = drawn()
    real = episode.support.weights > 0
    support = episode.support
    short = Batch(support.inputs[real], support.targets[real], support.weights[real])
    spoilt = Batch(support.inputs, torch.where(real[:, None], support.targets, torch.nan), support.weights)
    expected = oracle_prediction(process, short, episode.query.inputs)
    found = oracle_prediction(process, spoilt, episode.query.inputs)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.variance, expected.variance)
