"""The solver against scikit-learn, finite differences and the loop."""

import time

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from quickstudy.core.errors import NoSecondOrder
from quickstudy.learners.softmax_regression import Effort, softmax_regression

EXACT = Effort(newton=12, conjugate=25, implicit=40)


def problem(classes, shots, width, dtype=torch.float64, seed=0, unit=True):
    """Features around a centre for each class, off the origin, and one-hot targets."""
    draw = torch.Generator().manual_seed(seed)
    classes_of = torch.arange(classes * shots) % classes
    centres = torch.randn(classes, width, generator=draw)
    x = 1 + centres[classes_of] + 1.2 * torch.randn(classes * shots, width, generator=draw)
    x = torch.nn.functional.normalize(x, dim=-1) if unit else x
    return x.to(dtype), torch.eye(classes, dtype=dtype)[classes_of], torch.ones(len(x), dtype=dtype)


def scalar(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype)


@pytest.mark.parametrize("strength", [1.0, 10.0, 100.0])
@pytest.mark.parametrize(("classes", "shots", "width"), [(3, 20, 8), (5, 1, 40), (5, 5, 40), (20, 5, 64)])
def test_is_the_minimum_of_scikit_learn(classes, shots, width, strength):
    x, y, w = problem(classes, shots, width, torch.float32)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(x.double().numpy(), y.argmax(1).numpy())
    weight, bias = softmax_regression(x, y, w, scalar(1 / strength, torch.float32))
    torch.testing.assert_close(weight.T.double(), torch.tensor(theirs.coef_), rtol=0, atol=1e-3)
    torch.testing.assert_close(bias.double(), torch.tensor(theirs.intercept_), rtol=0, atol=1e-3)


def test_weights_are_those_of_scikit_learn():
    x, y, w = problem(4, 6, 5)
    w = w * torch.tensor([0.0, 1.0, 2.5, 0.3]).double().repeat(6)[: len(w)].roll(1)
    w[:4] = 1.0
    keep = w > 0
    theirs = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000)
    theirs.fit(x[keep].numpy(), y.argmax(1)[keep].numpy(), sample_weight=w[keep].numpy())
    weight, bias = softmax_regression(x, y, w, scalar(0.5))
    torch.testing.assert_close(weight.T, torch.tensor(theirs.coef_), rtol=0, atol=1e-4)
    torch.testing.assert_close(bias, torch.tensor(theirs.intercept_), rtol=0, atol=1e-4)


def test_the_slope_is_zero_for_hard_problems_too():
    x, y, w = problem(3, 20, 8, unit=False)
    weight, bias = softmax_regression(x, y, w, scalar(1e-2), EXACT)
    errors = (x @ weight + bias).softmax(-1) - y
    assert (x.T @ errors + 1e-2 * weight).abs().max() < 1e-8
    assert errors.sum(0).abs().max() < 1e-8


@pytest.mark.parametrize(("shots", "width"), [(3, 4), (1, 7)])
def test_the_derivative_is_that_of_the_minimum(shots, width):
    x, y, w = problem(3, shots, width)
    x.requires_grad_()
    r = scalar(0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, r: softmax_regression(x, y, w, r, EXACT), (x, r), fast_mode=True)


def test_the_default_effort_has_the_same_derivative():
    x, y, w = problem(20, 5, 64, torch.float32)
    grads = []
    for effort in (Effort(), EXACT):
        leaf = x.clone().requires_grad_()
        weight, bias = softmax_regression(leaf, y, w, scalar(0.1, torch.float32), effort)
        (grad,) = torch.autograd.grad(((x @ weight + bias).softmax(-1) - 0.3 * y).square().sum(), leaf)
        grads.append(grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("outer", [lambda weight: weight.square().sum(), lambda weight: weight[0].sum()])
def test_a_second_derivative_is_refused(outer):
    x, y, w = problem(3, 2, 4)
    x.requires_grad_()
    weight, _ = softmax_regression(x, y, w, scalar(0.3))
    (grad,) = torch.autograd.grad(outer(weight[:, :1]), x, create_graph=True)
    with pytest.raises(NoSecondOrder):
        torch.autograd.grad(grad.square().sum(), x)


def test_vmap_of_the_gradient_is_the_loop():
    problems = [problem(3, 4, 6, seed=seed) for seed in range(3)]
    stacked = [torch.stack(parts) for parts in zip(*problems, strict=True)]

    def outer(x, y, w):
        weight, bias = softmax_regression(x, y, w, scalar(0.2))
        return ((x @ weight + bias) * torch.arange(3)).square().sum()

    found = torch.vmap(torch.func.grad(outer))(*stacked)
    expected = torch.stack([torch.func.grad(outer)(*each) for each in problems])
    torch.testing.assert_close(found, expected)


def test_absent_classes_take_no_part():
    x, y, w = problem(4, 5, 6)
    wide = torch.cat([y[:, :2], torch.zeros(len(y), 2).double(), y[:, 2:]], 1)
    weight, bias = softmax_regression(x, y, w, scalar(0.2))
    wide_weight, wide_bias = softmax_regression(x, wide, w, scalar(0.2))
    kept = [0, 1, 4, 5]
    torch.testing.assert_close(wide_weight[:, kept], weight)
    torch.testing.assert_close(wide_bias[kept], bias)
    assert not wide_weight[:, 2:4].any()
    assert not wide_bias[2:4].any()


def test_is_fast_enough_for_77_classes():
    x, y, w = problem(77, 5, 384, torch.float32)
    softmax_regression(x, y, w, scalar(0.1, torch.float32))
    began = time.process_time()
    softmax_regression(x, y, w, scalar(0.1, torch.float32))
    assert time.process_time() - began < 0.6
