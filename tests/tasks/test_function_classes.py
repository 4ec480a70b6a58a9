"""Function classes: they are what they are said to be, and the oracles agree with scikit-learn."""

import dataclasses

import pytest
import torch
from sklearn.linear_model import Lasso, Ridge
from sklearn.neighbors import KNeighborsRegressor

from quickstudy.core.errors import TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.function_classes import FunctionClass, lasso, least_squares, nearest_neighbours, ridge

KINDS = ("linear", "sparse_linear", "decision_tree", "two_layer")


def drawn(source, seed=0):
    return source.sample(torch.Generator().manual_seed(seed))


def points(source, seed=0):
    """Support inputs, support targets [example], query inputs and query targets."""
    episode = drawn(source, seed)
    support, query = episode.support, episode.query
    return support.inputs, support.targets[:, 0], query.inputs, query.targets[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_conforms(kind):
    check_source(FunctionClass(kind))
    check_source(FunctionClass(kind, dimension=5, active=3, shots=(2, 6), queries=3, noise=0.1, scale=2.0))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_have_variance_one(kind):
    source = FunctionClass(kind, active=6, shots=64, queries=64)
    targets = torch.cat([torch.cat(points(source, seed)[1::2]) for seed in range(800)])
    assert float(targets.square().mean()) == pytest.approx(1, abs=0.15)


def test_linear_functions_are_solved_from_as_many_examples_as_coordinates():
    source = FunctionClass("linear", dimension=6, shots=6, queries=50)
    x, y, inputs, targets = points(source)
    torch.testing.assert_close(least_squares(x, y, inputs), targets, atol=1e-3, rtol=1e-3)
    few = least_squares(x[:5], y[:5], inputs)
    assert float((few - targets).square().mean()) > 1e-3


def test_sparse_functions_have_so_many_weights():
    source = FunctionClass("sparse_linear", dimension=7, shots=20, nonzero=3, active=5)
    for seed in range(20):
        x, y, *_ = points(source, seed)
        weight = least_squares(x, y, torch.eye(7))
        assert int((weight.abs() > 1e-4).sum()) == 3
        assert not weight[5:].any()


def test_trees_ask_for_signs_and_have_so_many_leaves():
    source = FunctionClass("decision_tree", dimension=4, shots=400, depth=3)
    for seed in range(10):
        x, y, *_ = points(source, seed)
        assert 2 < len(y.unique()) <= 8
        corner = ((x > 0).long() * 2 ** torch.arange(4)).sum(1)
        assert all(len(y[corner == number].unique()) == 1 for number in corner.unique())


def test_a_tree_of_one_question_is_a_step():
    x, y, *_ = points(FunctionClass("decision_tree", dimension=1, shots=100, depth=1))
    assert len(y[x[:, 0] > 0].unique()) == len(y[x[:, 0] <= 0].unique()) == 1
    assert y.unique().numel() == 2


def test_two_layer_networks_are_homogeneous_and_bent():
    source = FunctionClass("two_layer", dimension=3, shots=60, hidden=4)
    (x, y, *_), (twice_x, twice_y, *_) = points(source), points(dataclasses.replace(source, scale=2.0))
    torch.testing.assert_close(twice_x, 2 * x)
    torch.testing.assert_close(twice_y, 2 * y)
    assert float((least_squares(x, y, x) - y).square().mean()) > 0.01


def test_noise_is_on_the_support_only():
    quiet = FunctionClass("linear", dimension=2, shots=500, queries=500)
    x, y, inputs, targets = points(dataclasses.replace(quiet, noise=0.5))
    weights = least_squares(inputs, targets, torch.eye(2))
    assert float((inputs @ weights - targets).abs().max()) < 1e-4
    assert float((x @ weights - y).std()) == pytest.approx(0.5, abs=0.05)


def test_oracles_are_those_of_scikit_learn():
    x, y, inputs, _ = points(FunctionClass("two_layer", dimension=4, shots=30, queries=20))
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(x, y).predict(inputs)
    torch.testing.assert_close(ridge(x, y, inputs, 0.7), torch.as_tensor(theirs).float(), atol=1e-4, rtol=1e-4)
    theirs = Lasso(alpha=0.1, fit_intercept=False, tol=1e-10).fit(x.double(), y.double()).predict(inputs.double())
    torch.testing.assert_close(lasso(x, y, inputs, 0.1), torch.as_tensor(theirs).float(), atol=1e-4, rtol=1e-4)
    theirs = KNeighborsRegressor(3).fit(x, y).predict(inputs)
    torch.testing.assert_close(nearest_neighbours(x, y, inputs), torch.as_tensor(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("oracle", [least_squares, ridge, lasso, nearest_neighbours])
def test_oracles_take_many_tasks_at_once(oracle):
    source = FunctionClass("sparse_linear", shots=12, queries=3)
    cases = [points(source, seed)[:3] for seed in range(4)]
    together = oracle(*(torch.stack(parts) for parts in zip(*cases, strict=True)))
    for row, case in zip(together, cases, strict=True):
        torch.testing.assert_close(row, oracle(*case))


def test_lasso_is_best_for_sparse_functions_and_few_examples():
    source = FunctionClass("sparse_linear", dimension=12, shots=8, nonzero=2)
    x, y, inputs, targets = (torch.stack(part) for part in zip(*(points(source, s) for s in range(200)), strict=True))
    errors = [
        float((answers - targets).square().mean())
        for answers in (lasso(x, y, inputs), least_squares(x, y, inputs), ridge(x, y, inputs))
    ]
    assert errors[0] < 0.7 * min(errors[1:])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (FunctionClass("cubic"), "kind is 'cubic'"),
        (FunctionClass(shots=0), "shots is 0"),
        (FunctionClass(queries=0), "queries is 0"),
        (FunctionClass(dimension=0), "dimension is 0"),
        (FunctionClass(active=9), "active is 9"),
        (FunctionClass("sparse_linear", active=2, nonzero=3), "nonzero is 3"),
        (FunctionClass("decision_tree", depth=0), "depth is 0"),
    ],
)
def test_classes_without_meaning_are_refused(source, words):
    with pytest.raises(TaskError, match=words):
        drawn(source)


def test_oracles_refuse_numbers_without_meaning():
    x, y, inputs, _ = points(FunctionClass())
    with pytest.raises(ValueError, match="penalty is 0"):
        ridge(x, y, inputs, 0)
    with pytest.raises(ValueError, match="penalty is -1"):
        lasso(x, y, inputs, -1)
    with pytest.raises(ValueError, match="count is 0"):
        nearest_neighbours(x, y, inputs, 0)
