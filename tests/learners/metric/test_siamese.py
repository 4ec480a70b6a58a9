"""Siamese networks: the log-odds are those of the formula, and equal pairs have their share of the loss."""

from dataclasses import replace

import pytest
import torch

from quickstudy.core import Batch, Episode
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.heads import ABSENT
from quickstudy.learners.metric.siamese import Siamese
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_contract(check, mlp):
    check(Siamese(Network(mlp, Full())), BLOBS)


def test_learns(mlp):
    options = FitOptions(steps=40, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    checks.check_learns(Siamese(Network(mlp, Full())), BLOBS, options)


def given(learner, weight, bias=0.5):
    return {**learner.init(torch.Generator()), "head.weight": weight, "head.bias": torch.tensor(bias)}


def test_answers_are_mean_log_odds_of_verification(points, identity):
    learner = Siamese(Network(identity(4), Head()))
    support, query = points(seed=1), points(seed=2)
    weight = torch.tensor([-1.0, -2.0, 0.5, -0.1])
    params = given(learner, weight)
    odds = ((query.inputs[:, None] - support.inputs).abs() * weight).sum(-1) + 0.5
    expected = torch.stack([odds[:, support.targets == k].mean(1) for k in range(3)], 1)
    found = learner.predict(params, learner.adapt(params, support), query.inputs).mean
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_the_loss_gives_equal_pairs_their_share(share, points, identity):
    """With no features and bias b, every pair has log-odds b: the loss is a mean of two cross-entropies."""
    learner = Siamese(Network(identity(4), Head()), share)
    params = given(learner, torch.zeros(4), 0.7)
    loss = learner.loss(params, Episode(points(seed=1), points(seed=2)))
    odds = torch.tensor(0.7)
    logsigmoid = torch.nn.functional.logsigmoid
    torch.testing.assert_close(loss, -share * logsigmoid(odds) - (1 - share) * logsigmoid(-odds))


def test_the_first_example_of_a_class_decides_where_it_is_the_query_itself(points, identity):
    learner = Siamese(Network(identity(4), Head()))
    support = Batch(torch.eye(4), torch.arange(4), torch.ones(4), 4)
    params = given(learner, -torch.ones(4))
    found = learner.predict(params, learner.adapt(params, support), torch.eye(4)).mean
    assert found.argmax(1).tolist() == [0, 1, 2, 3]


def test_absent_classes_and_regression(points, identity):
    learner = Siamese(Network(identity(4), Head()))
    params = given(learner, -torch.ones(4))
    gap = replace(points(seed=1), ways=5)
    found = learner.predict(params, learner.adapt(params, gap), points(seed=2).inputs).mean
    assert (found[:, 3:] == ABSENT).all()
    with pytest.raises(TaskError, match="regression"):
        learner.adapt(params, Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)))
    with pytest.raises(ValueError, match="equal_share is 1"):
        Siamese(Network(identity(4), Head()), 1.0)
