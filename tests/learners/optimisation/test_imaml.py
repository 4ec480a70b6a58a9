"""iMAML's meta-gradient is that of the exact solution of the inner problem."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Batch, Episode, InnerLoop
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.vectorise import mean_loss_and_gradients
from quickstudy.deltas import Full
from quickstudy.learners import Network, conformance
from quickstudy.learners.optimisation.imaml import IMAML, conjugate_gradient
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
INNER = InnerLoop(steps=5, optimiser=SGD(0.2))
CLASSES = IMAML(Network(MLP((4, 16, 12)), Full(), 3), INNER)
WAVES = IMAML(Network(MLP((1, 16, 12), "tanh"), Full(), 1), INNER)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract(check):
    check(CLASSES, BLOBS)
    check(WAVES, Sinusoids(shots=(4, 8), queries=6))


def test_learns_blobs():
    options = FitOptions(steps=20, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    conformance.check_learns(CLASSES, BLOBS, options)


@pytest.mark.parametrize("strength", [0.5, 2.0, 30.0])
def test_on_a_parabola_both_solution_and_gradient_have_their_closed_form(constant, parabola, strength, gradients):
    """(q - 3)^2 + s/2 (q - 1)^2 is least at (6 + s) / (2 + s), which moves by s / (2 + s) for each step of p."""
    learner = IMAML(Network(constant(1.0), Full()), InnerLoop(200, SGD(1 / (2 + strength))), strength)
    params = learner.init(torch.Generator())
    solution = (6 + strength) / (2 + strength)
    assert float(learner.adapt(params, parabola.support).tensors["body.value"]) == pytest.approx(solution)
    grad = float(gradients(learner, params, parabola)["body.value"])
    assert grad == pytest.approx(2 * (solution - 7) * strength / (2 + strength))


def linear_task(rows, seed):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 3, generator=draw, dtype=torch.float64)
    return Batch(inputs, torch.randn(rows, 2, generator=draw, dtype=torch.float64), torch.ones(rows).double())


def test_gradient_is_that_of_the_exact_solution_of_a_quadratic(identity, gradients):
    """Linear regression: the solution solves a linear system, which torch differentiates by itself."""
    strength = 0.7
    learner = IMAML(Network(identity(3), Full(), 2), InnerLoop(400, SGD(0.2)), strength, solver_steps=8)
    params = {name: tensor.double() for name, tensor in learner.init(torch.Generator().manual_seed(0)).items()}
    episode = Episode(linear_task(6, 1), linear_task(5, 2))
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    start = torch.cat([leaves["head.weight"], leaves["head.bias"][:, None]], 1)
    design, query = (torch.cat([b.inputs, torch.ones(len(b.inputs), 1)], 1) for b in (episode.support, episode.query))
    # The loss is the mean over rows and both outputs, so its Hessian is X'X / rows for each output.
    rows = len(design)
    system = design.T @ design / rows + strength * torch.eye(4, dtype=torch.float64)
    solution = torch.linalg.solve(system, design.T @ episode.support.targets / rows + strength * start.T)
    exact = (query @ solution - episode.query.targets).square().mean()
    expected = torch.autograd.grad(exact, list(leaves.values()))
    torch.testing.assert_close(learner.loss(params, episode), exact.detach())
    for grad, wanted in zip(gradients(learner, params, episode).values(), expected, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-6, atol=1e-9)
    few = IMAML(learner.network, learner.inner, strength, solver_steps=1)
    assert any(
        (grad - wanted).abs().max() > 1e-3
        for grad, wanted in zip(gradients(few, params, episode).values(), expected, strict=True)
    )


def test_frozen_parameters_get_the_total_derivative(points, gradients, difference, in_double):
    """Finite differences of the whole loss, inner problem included, by an entry that the inner problem holds still."""
    network = Network(MLP((4, 6), "tanh"), Full(), 3)
    inner = InnerLoop(200, SGD(0.8), freeze=("body.*",))
    learner = IMAML(network, inner, strength=0.5, solver_steps=21)
    params = in_double(learner.init(torch.Generator().manual_seed(0)))
    episode = in_double(Episode(points(seed=1), points(seed=2)))
    grads = gradients(learner, params, episode)
    for name, entry in (("body.layers.0.weight", (1, 2)), ("head.weight", (0, 3))):
        expected = difference(learner, params, episode, name, entry, step=1e-5)
        assert float(grads[name][entry]) == pytest.approx(expected, rel=1e-4)


def test_vmap_and_loop_agree_with_frozen_parameters(points):
    inner = InnerLoop(4, SGD(0.3), freeze=("body.layers.0.*",))
    learner = IMAML(Network(MLP((4, 6, 5)), Full(), 3), inner)
    params = learner.init(torch.Generator().manual_seed(0))
    stack = stack_episodes([Episode(points(seed=2 * n), points(seed=2 * n + 1)) for n in range(3)])
    losses, grads = mean_loss_and_gradients(learner.loss, params, stack, "vmap")
    expected_losses, expected = mean_loss_and_gradients(learner.loss, params, stack, "loop")
    torch.testing.assert_close(losses, expected_losses)
    for name in params:
        torch.testing.assert_close(grads[name], expected[name])


def test_the_graph_does_not_grow_with_the_inner_steps(points):
    """What the backward needs does not depend on the way to the solution."""

    def nodes(steps):
        learner = IMAML(Network(MLP((4, 6)), Full(), 3), InnerLoop(steps, SGD(0.1)))
        params = {n: t.requires_grad_() for n, t in learner.init(torch.Generator().manual_seed(0)).items()}
        waiting, seen = [learner.loss(params, Episode(points(seed=1), points(seed=2))).grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        return len(seen)

    assert nodes(20) == nodes(2)


def test_conjugate_gradient_solves_and_stays_where_it_is_solved():
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=draw, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(5), torch.randn(5, generator=draw, dtype=torch.float64)
    for steps in (5, 50):
        torch.testing.assert_close(conjugate_gradient(lambda v: matrix @ v, target, steps) @ matrix, target)
    assert not conjugate_gradient(lambda v: matrix @ v, torch.zeros(5).double(), 3).any()
    assert conjugate_gradient(lambda v: -v, target, 3).isfinite().all()


@pytest.mark.parametrize("field", [{"strength": 0.0}, {"strength": -1.0}, {"solver_steps": 0}])
def test_wrong_fields_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        IMAML(Network(MLP((4, 6)), Full(), 3), **field)
