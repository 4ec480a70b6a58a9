"""The logistic head against scikit-learn."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from quickstudy.core import Batch, Episode
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Head
from quickstudy.learners import Network
from quickstudy.learners.closed_form.logistic import Logistic


def test_logits_are_those_of_scikit_learn(points, identity):
    support, query = points(seed=1), points(seed=2)
    learner = Logistic(Network(identity(4), Head()), regularisation=0.2, scale=2.0)
    params = learner.init(torch.Generator())
    means = learner.predict(params, learner.adapt(params, support), query.inputs).mean
    theirs = LogisticRegression(C=5.0, tol=1e-10, max_iter=10_000)
    theirs.fit(support.inputs.double().numpy(), support.targets.numpy())
    expected = 2 * torch.tensor(theirs.decision_function(query.inputs.double().numpy())).float()
    torch.testing.assert_close(means, expected, rtol=0, atol=1e-3)


def test_two_classes_give_the_probabilities_of_the_symmetric_problem(points, identity):
    """A row for each class, with half the penalty each, is the binary problem with one row."""
    support, query = points(ways=2, seed=1), points(ways=2, seed=2)
    learner = Logistic(Network(identity(4), Head()), regularisation=0.5)
    params = learner.init(torch.Generator())
    found = learner.predict(params, learner.adapt(params, support), query.inputs).probabilities()
    theirs = LogisticRegression(C=4.0, tol=1e-10, max_iter=10_000)
    theirs.fit(support.inputs.double().numpy(), support.targets.numpy())
    expected = torch.tensor(theirs.predict_proba(query.inputs.double().numpy())).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_regularisation_and_scale_are_learned(points, identity):
    learner = Logistic(Network(identity(4), Head()))
    params = {name: tensor.double() for name, tensor in learner.init(torch.Generator()).items()}
    support, query = (
        Batch(batch.inputs.double(), batch.targets, batch.weights.double(), batch.ways)
        for batch in (points(seed=1), points(seed=2))
    )
    leaves = {name: tensor.requires_grad_() for name, tensor in params.items()}
    grads = torch.autograd.grad(learner.loss(leaves, Episode(support, query)), list(leaves.values()))
    for (name, tensor), grad in zip(params.items(), grads, strict=True):
        up, down = ({**params, name: tensor.detach() + step} for step in (1e-4, -1e-4))
        slope = (learner.loss(up, Episode(support, query)) - learner.loss(down, Episode(support, query))) / 2e-4
        torch.testing.assert_close(grad, slope.detach(), rtol=1e-3, atol=1e-7)
        assert grad.abs() > 1e-4


def test_wrong_use_is_refused(identity):
    with pytest.raises(ValueError, match="above 0"):
        Logistic(Network(identity(4), Head()), regularisation=0.0)
    with pytest.raises(TaskError, match="regression"):
        Logistic(Network(identity(4), Head())).adapt({}, Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)))
