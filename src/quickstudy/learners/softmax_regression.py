"""Softmax regression solved by a fixed number of Newton steps, so that it runs under `torch.vmap`.

minimise F(W, b) = sum_i w_i CE(x_i W + b, y_i) + r/2 |W|^2, the bias free, as scikit-learn's LogisticRegression(C=1/r).

Each Newton system is solved by conjugate gradients in the axes of the features' covariance, where a diagonal
preconditioner fits well; the step is halved until F is lowest. The solution is differentiable by the implicit function
theorem: at the minimum, d(W, b) = -H^-1 d(grad F), so one more Newton step, with H held still, has its derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy.core.errors import NoSecondOrder
from quickstudy.learners.heads import weighted_centre

_HIDDEN = -1e9
_TINY = 1e-30
_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.02)


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes:
        newton: Newton steps.
        conjugate: conjugate-gradient steps in each of them.
        implicit: conjugate-gradient steps of the last one, which carries the derivative, and of its backward.
    """

    newton: int = 8
    conjugate: int = 12
    implicit: int = 25


class _System(NamedTuple):
    """The Hessian in the axes: V -> D' S (diag P - P P') D V + penalty V."""

    design: Tensor
    """D [example, axis + 1], the last column ones."""
    penalty: Tensor
    """[axis + 1, 1]: r, and 0 for the bias."""
    sizes: Tensor
    """[axis + 1, 1]: the squared length of each column of D, weighted."""
    weights: Tensor
    """S [example, 1]."""
    shares: Tensor
    """P [example, class]."""
    present: Tensor
    """[class]: 1 where a class has examples, else 0."""


def softmax_regression(
    features: Tensor, targets: Tensor, weights: Tensor, regularisation: Tensor, effort: Effort | None = None
) -> tuple[Tensor, Tensor]:
    """`(weight [feature, class], bias [class])` at the minimum of F; each row of both sums to 0 over the classes seen.

    Classes without any example take no part: their weight and bias are 0. Differentiable once, in `features` and
    `regularisation`; a second derivative raises NoSecondOrder.

    Args:
        features: [example, feature].
        targets: [example, class], one-hot.
        weights: [example]; a row of weight 2 counts as two rows.
        regularisation: r, a scalar above 0.
        effort: how hard to try; None for the default.
    """
    effort = effort or Effort()
    mass = weights[:, None]
    hidden = torch.where((targets * mass).sum(0) > 0, 0.0, _HIDDEN)
    with torch.no_grad():
        centre = weighted_centre(features, weights)
        axes = _axes((features - centre) * mass.sqrt())
        system = _system((features - centre) @ axes, mass, regularisation, hidden)
        solution, system = _minimise(system, targets, hidden, effort)
        weight = axes @ solution[:-1]
        bias = solution[-1] - centre @ weight
    errors = mass * ((features @ weight + bias + hidden).softmax(-1) - targets)
    slope = torch.cat([features.T @ errors + regularisation * weight, errors.sum(0, keepdim=True)])
    step: Tensor = _InverseHessian.apply(slope, axes.detach(), centre.detach(), *system, effort.implicit)  # type: ignore[no-untyped-call] # torch leaves it untyped
    moved = torch.cat([weight, bias[None]]) - step
    return moved[:-1], moved[-1]


def _axes(rows: Tensor) -> Tensor:
    """[feature, axis]: orthonormal, along the covariance of `rows` [example, feature], spanning all rows."""
    examples, width = rows.shape
    if examples < width:
        span: Tensor = torch.linalg.qr(rows.T)[0]
        within: Tensor = torch.linalg.eigh((rows @ span).T @ (rows @ span))[1]
        return span @ within
    axes: Tensor = torch.linalg.eigh(rows.T @ rows)[1]
    return axes


def _system(design: Tensor, mass: Tensor, regularisation: Tensor, hidden: Tensor) -> _System:
    design = torch.cat([design, torch.ones_like(design[:, :1])], 1)
    sizes = (mass * design.square()).sum(0)[:, None]
    ones = torch.ones_like(sizes)
    penalty = regularisation * torch.cat([ones[:-1], torch.zeros_like(ones[:1])])
    shares = (torch.zeros_like(mass) + hidden).softmax(-1)
    return _System(design, penalty, sizes, mass, shares, (hidden == 0).to(design.dtype))


def _minimise(system: _System, targets: Tensor, hidden: Tensor, effort: Effort) -> tuple[Tensor, _System]:
    """The solution [axis + 1, class] and the Hessian there."""
    lengths = torch.tensor(_LENGTHS, dtype=targets.dtype, device=targets.device)
    solution = torch.zeros_like(system.sizes @ targets[:1])
    logits = torch.zeros_like(targets)
    for _ in range(effort.newton):
        slope = system.design.T @ (system.weights * (system.shares - targets)) + system.penalty * solution
        step = -_conjugate_gradients(system, slope, effort.conjugate)
        change = system.design @ step
        values = [_objective(system, targets, logits + t * change + hidden, solution + t * step) for t in _LENGTHS]
        length = lengths.gather(0, torch.stack(values).argmin()[None])
        solution, logits = solution + length * step, logits + length * change
        system = system._replace(shares=(logits + hidden).softmax(-1))
    return solution, system


def _objective(system: _System, targets: Tensor, logits: Tensor, solution: Tensor) -> Tensor:
    """F; in float64, for near the minimum steps differ in the last digits."""
    losses = system.weights * (logits.logsumexp(-1, keepdim=True) - (logits * targets).sum(-1, keepdim=True))
    return losses.double().sum() + (system.penalty * solution.square()).double().sum() / 2


def _conjugate_gradients(system: _System, right: Tensor, steps: int) -> Tensor:
    """H^-1 `right` [axis + 1, class], with the part of the bias that all classes share left out, where H is 0."""
    right = _balanced(right, system.present)
    curvature = (system.weights * system.shares * (1 - system.shares)).sum(0) / system.weights.sum().clamp_min(_TINY)
    scale = (system.sizes * curvature + system.penalty).clamp_min(1e-6)
    found = torch.zeros_like(right)
    residual, direction = right, _balanced(right / scale, system.present)
    length = (residual * direction).sum()
    enough = length * torch.finfo(right.dtype).eps ** 2
    for _ in range(steps):
        image = _hessian(system, direction)
        going = length > enough
        stride = torch.where(going, length / (direction * image).sum().clamp_min(_TINY), 0.0)
        found, residual = found + stride * direction, residual - stride * image
        ahead = _balanced(residual / scale, system.present)
        after = (residual * ahead).sum()
        direction = ahead + torch.where(going, after / length.clamp_min(_TINY), 0.0) * direction
        length = after
    return found


def _hessian(system: _System, vector: Tensor) -> Tensor:
    moved = system.shares * (system.design @ vector)
    moved = system.weights * (moved - system.shares * moved.sum(-1, keepdim=True))
    return _balanced(system.design.T @ moved + system.penalty * vector, system.present)


def _balanced(values: Tensor, present: Tensor) -> Tensor:
    """`values` [axis + 1, class] with the mean of the bias row taken out, over the classes that are there."""
    bias = values[-1:] * present
    return torch.cat([values[:-1], bias - present * bias.sum() / present.sum().clamp_min(1)])


class _InverseHessian(torch.autograd.Function):
    """H^-1 times a slope [feature + 1, class]; linear and symmetric, so its own backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, axes: Tensor, centre: Tensor, *rest: Any) -> Tensor:
        return _solve(slope, axes, centre, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        ctx.save_for_backward(*inputs[:-1])
        ctx.steps = inputs[-1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        slope, *parts = ctx.saved_tensors
        return _Last.apply(_solve(grad, *parts, ctx.steps), slope), *[None] * 9  # type: ignore[no-untyped-call] # torch's


class _Last(torch.autograd.Function):
    """Its first argument; whoever differentiates it, or asks how it depends on the second, is refused.

    The Hessian was held still, so a further derivative would be wrong without a word.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG004 - it is there for its graph
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # noqa: ARG004 - torch's signature
        raise NoSecondOrder(
            "the minimum of softmax regression can be differentiated once; use it in the outer loop only"
        )


def _solve(slope: Tensor, axes: Tensor, centre: Tensor, *rest: Any) -> Tensor:
    """In the axes the bias stands at the centre of the features; outside them H is the penalty alone."""
    *parts, steps = rest
    system = _System(*parts)
    centred = slope[:-1] - centre[:, None] * slope[-1:]
    inside = axes.T @ centred
    found = _conjugate_gradients(system, torch.cat([inside, slope[-1:]]), steps)
    weight = axes @ found[:-1] + (centred - axes @ inside) / system.penalty[0]
    return torch.cat([weight, found[-1:] - centre @ weight])
