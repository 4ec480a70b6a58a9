"""Functional optimisers against torch.optim and against finite differences."""

import pytest
import torch

from quickstudy.core.optimisers import SGD, Adam, Momentum

OPTIMISERS = [SGD(0.1), Momentum(0.1, 0.8), Adam(0.1)]


def tree(seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 2), "b": (2,)}
    return {name: torch.randn(shape, generator=draw, dtype=dtype) for name, shape in shapes.items()}


def walk(optimiser, params, gradients, rates=None):
    state = optimiser.start(params)
    for grads in gradients:
        params, state = optimiser.step(params, grads, state, rates)
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Momentum(0.1, 0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        (Adam(0.1, eps=1e-16), lambda p: torch.optim.Adam(p, lr=0.1, eps=1e-8)),
    ],
)
def test_steps_are_those_of_torch(ours, theirs):
    params, gradients = tree(), [tree(seed) for seed in range(1, 6)]
    copies = {name: tensor.clone() for name, tensor in params.items()}
    optimiser = theirs(list(copies.values()))
    for grads in gradients:
        for name, tensor in copies.items():
            tensor.grad = grads[name]
        optimiser.step()
    found = walk(ours, params, gradients)
    for name, expected in copies.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_arguments_are_left_alone(optimiser):
    params, grads = tree(), tree(1)
    state = optimiser.start(params)
    before = [t.clone() for part in (params, grads, state) for t in part.values()]
    optimiser.step(params, grads, state)
    assert all(
        torch.equal(a, b) for a, b in zip(before, [*params.values(), *grads.values(), *state.values()], strict=True)
    )


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_rates_may_be_a_number_a_scalar_or_a_tree(optimiser):
    params, gradients = tree(), [tree(1), tree(2)]
    trees = {name: torch.full_like(tensor, 0.3) for name, tensor in params.items()}
    found = [walk(optimiser, params, gradients, rates) for rates in (0.3, torch.tensor(0.3).double(), trees)]
    for other in found[1:]:
        for name in params:
            torch.testing.assert_close(other[name], found[0][name])
    still = walk(optimiser, params, gradients, {**trees, "b": torch.zeros(())})
    assert torch.equal(still["b"], params["b"])
    assert not torch.equal(still["a"], params["a"])


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_tree_of_rates_must_name_all(optimiser):
    with pytest.raises(ValueError, match="no rate for 'b'"):
        walk(optimiser, tree(), [tree(1)], {"a": torch.ones(())})


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_two_steps_can_be_differentiated_twice(optimiser):
    """By gradients, rates and parameters; one gradient is zero at both steps."""

    def after(a, rate):
        grads = {"a": a * torch.tensor([1.0, 2.0, 0.0])}
        return walk(optimiser, {"a": a}, [grads, {"a": grads["a"].square()}], rate)["a"]

    a = torch.tensor([0.5, -0.7, 0.3], dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(after, (a, rate))
    assert torch.autograd.gradgradcheck(after, (a, rate))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_has_no_nan_at_zero_second_moment(dtype):
    start = torch.zeros(2, dtype=dtype, requires_grad=True)
    moved = walk(Adam(0.1), {"a": start}, [{"a": start * 1.0}, {"a": start.square()}])["a"]
    (once,) = torch.autograd.grad(moved.sum(), start, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), start)
    assert torch.isfinite(moved).all()
    assert torch.isfinite(once).all()
    assert torch.isfinite(twice).all()
