"""The ridge head against scikit-learn, on either side of examples = features."""

import pytest
import torch
from sklearn.linear_model import Ridge as TheirRidge

from quickstudy.core import Batch
from quickstudy.deltas import Head
from quickstudy.learners import Network
from quickstudy.learners.closed_form.ridge import Ridge
from quickstudy.learners.heads import ABSENT, ridge


def problem(rows, width, outputs=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=draw, dtype=torch.float64) + 1
    y = torch.randn(rows, outputs, generator=draw, dtype=torch.float64)
    return x, y, torch.rand(rows, generator=draw, dtype=torch.float64) * 2


@pytest.mark.parametrize(("rows", "width"), [(6, 20), (20, 20), (40, 5)])
def test_is_the_ridge_of_scikit_learn(rows, width):
    x, y, w = problem(rows, width)
    w[0] = 0
    theirs = TheirRidge(alpha=0.7).fit(x.numpy(), y.numpy(), sample_weight=w.numpy())
    weight, bias = ridge(x, y, w, torch.tensor(0.7).double())
    torch.testing.assert_close(weight.T, torch.tensor(theirs.coef_), rtol=0, atol=1e-8)
    torch.testing.assert_close(bias, torch.tensor(theirs.intercept_), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("rows", "width"), [(4, 6), (6, 4)])
def test_the_solution_is_differentiable_twice(rows, width):
    x, y, w = problem(rows, width)
    x.requires_grad_()
    r = torch.tensor(0.5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, r: ridge(x, y, w, r), (x, r))
    assert torch.autograd.gradgradcheck(lambda x, r: ridge(x, y, w, r), (x, r))


def test_classes_are_one_hot_targets(points, identity):
    support, query = points(seed=1), points(seed=2)
    learner = Ridge(Network(identity(4), Head()), regularisation=0.5, scale=3.0)
    params = learner.init(torch.Generator())
    means = learner.predict(params, learner.adapt(params, support), query.inputs).mean
    theirs = TheirRidge(alpha=0.5).fit(support.inputs.numpy(), torch.eye(3)[support.targets].numpy())
    torch.testing.assert_close(means, 3 * torch.tensor(theirs.predict(query.inputs.numpy())).float())


def test_regression_is_not_scaled(identity):
    x, y, _ = problem(10, 4)
    learner = Ridge(Network(identity(4), Head()), regularisation=0.5, scale=3.0)
    params = learner.init(torch.Generator())
    means = learner.predict(params, learner.adapt(params, Batch(x, y, torch.ones(10))), x).mean
    theirs = TheirRidge(alpha=0.5).fit(x.numpy(), y.numpy()).predict(x.numpy())
    torch.testing.assert_close(means, torch.tensor(theirs), rtol=0, atol=1e-6)


def test_a_class_without_support_is_never_the_answer(points, identity):
    support = points(ways=3)
    wider = Batch(support.inputs, support.targets, support.weights, 4)
    learner = Ridge(Network(identity(4), Head()))
    params = learner.init(torch.Generator())
    assert (learner.predict(params, learner.adapt(params, wider), support.inputs).mean[:, 3] == ABSENT).all()


def test_wrong_numbers_are_refused(identity):
    for options in ({"regularisation": 0.0}, {"scale": -1.0}, {"scale": float("nan")}):
        with pytest.raises(ValueError, match="above 0"):
            Ridge(Network(identity(4), Head()), **options)
