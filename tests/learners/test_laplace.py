"""Posteriors of a head against closed forms, scikit-learn and finite differences."""

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessClassifier, kernels

from quickstudy.learners.laplace import class_covariance, classified, classify, regress, regressed


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes_of(rows, ways, seed=1):
    numbers = torch.arange(rows) % ways
    return torch.nn.functional.one_hot(
        numbers[torch.randperm(rows, generator=torch.Generator().manual_seed(seed))]
    ).double()


def test_regression_is_that_of_weight_space():
    """Precision of the weights: prior precision + sum w f f' / noise."""
    features, new, targets = draws(6, 4), draws(3, 4, seed=2), draws(6, 2, seed=3)
    variances, noise = torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    precision = torch.diag(1 / variances) + features.T @ (weights[:, None] * features) / noise
    mean = torch.linalg.solve(precision, features.T @ (weights[:, None] * targets) / noise)
    spread = (new * torch.linalg.solve(precision, new.T).T).sum(-1)
    tensors = regress((features * variances) @ features.T, targets, weights, noise)
    found, variance = regressed((new * variances) @ features.T, (new.square() * variances).sum(-1), tensors)
    torch.testing.assert_close(found, new @ mean)
    torch.testing.assert_close(variance[:, 0], spread)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_mode_is_a_mode(scale):
    """There alpha = w (y - softmax(K alpha)), the gradient of the log posterior being 0."""
    features, classes = draws(9, 5), classes_of(9, 3)
    weights = torch.tensor([1.0, 2, 1, 1, 0, 1, 1, 1, 0], dtype=torch.float64)
    covariance = scale * features @ features.T
    alpha = classify(covariance, classes, weights)["alpha"]
    expected = weights[:, None] * (classes - (covariance @ alpha).softmax(-1))
    torch.testing.assert_close(alpha, expected, rtol=0, atol=1e-6)


def test_two_classes_are_those_of_scikit_learn():
    """The difference of two functions of covariance K has covariance 2 K."""
    inputs, new = draws(20, 1), 2 * draws(15, 1, seed=5)
    labels = (inputs[:, 0] + 0.5 * draws(20, seed=6) > 0).long()
    kernel = kernels.RBF(1.0)
    theirs = GaussianProcessClassifier(4.0 * kernel, optimizer=None).fit(inputs.numpy(), labels.numpy())
    known, cross = (torch.from_numpy(2.0 * kernel(each.numpy(), inputs.numpy())) for each in (inputs, new))
    tensors = classify(known, torch.nn.functional.one_hot(labels).double(), torch.ones(20, dtype=torch.float64))
    found = classified(cross, torch.full((15,), 2.0, dtype=torch.float64), tensors).softmax(-1)
    torch.testing.assert_close(found, torch.from_numpy(theirs.predict_proba(new.numpy())), rtol=0, atol=0.02)


def test_predictions_match_draws_from_the_posterior():
    """The covariance of the outputs by the inverse of the Hessian in weight space, and the mean softmax by sampling."""
    features, classes, new = draws(12, 3), classes_of(12, 3), draws(4, 3, seed=8)
    weights = torch.ones(12, dtype=torch.float64)
    tensors = classify(features @ features.T, classes, weights)
    mode = features.T @ tensors["alpha"]

    def energy(flat):
        w = flat.reshape(3, 3)
        return -(classes * (features @ w).log_softmax(-1)).sum() + 0.5 * w.square().sum()

    hessian = torch.autograd.functional.hessian(energy, mode.flatten())
    root = torch.linalg.cholesky(torch.linalg.inv(hessian))
    samples = mode.flatten() + draws(20_000, 9, seed=9) @ root.T
    expected = (new @ samples.reshape(-1, 3, 3)).softmax(-1).mean(0)
    covariance = class_covariance(new @ features.T, new.square().sum(-1), tensors)
    exact = torch.einsum("qi,icjd,qj->qcd", new, torch.linalg.inv(hessian).reshape(3, 3, 3, 3), new)
    torch.testing.assert_close(covariance, exact, rtol=1e-6, atol=1e-8)
    found = classified(new @ features.T, new.square().sum(-1), tensors).softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    plug_in = (new @ mode).softmax(-1)
    assert float((found - expected).abs().max()) < float((plug_in - expected).abs().max())


def test_the_gradient_goes_through_the_mode():
    """Against central differences, which repeat all steps."""
    features, classes = draws(8, 3), classes_of(8, 2)
    weights = torch.tensor([1.0, 1, 1, 0, 1, 1, 2, 1], dtype=torch.float64)
    new = draws(2, 3, seed=4)

    def loss(scale):
        scaled = scale * features
        return classified(new @ scaled.T, new.square().sum(-1), classify(scaled @ scaled.T, classes, weights))[0, 0]

    point = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(loss(point), point)
    with torch.no_grad():
        expected = (loss(point + 1e-5) - loss(point - 1e-5)) / 2e-5
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_class_without_examples_changes_nothing():
    features, classes = draws(8, 3), classes_of(8, 2)
    more = torch.cat([classes, torch.zeros(8, 1)], -1).double()
    new, weights = draws(4, 3, seed=4), torch.ones(8, dtype=torch.float64)
    covariance, cross, own = features @ features.T, new @ features.T, new.square().sum(-1)
    two, three = (classified(cross, own, classify(covariance, each, weights)).softmax(-1) for each in (classes, more))
    torch.testing.assert_close(three[:, :2], two)
    assert (three[:, 2] == 0).all()
