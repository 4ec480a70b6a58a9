"""The inner loop: a few steps of gradient descent on one task that an outer loss can be differentiated through."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from quickstudy.core.optimisers import SGD, Optimiser, Rates, State
from quickstudy.core.parameters import Pattern, clip_by_norm, split
from quickstudy.core.transforms import refuse_transforms, transformed
from quickstudy.core.types import Params

Loss: TypeAlias = Callable[[Params], Tensor] | Callable[[Params, int], Tensor]
"""A scalar loss of the parameters, or of the parameters and the number of the step, counted from 0."""


@dataclass(frozen=True)
class Summed:
    """A loss that is the sum of its parts. Where gradients are held still, one part's activations are held at a time.

    Attributes:
        parts: scalar losses of the parameters, at least one.
    """

    parts: tuple[Callable[[Params], Tensor], ...]

    def __call__(self, params: Params) -> Tensor:
        """The sum."""
        return torch.stack([part(params) for part in self.parts]).sum()


@dataclass(frozen=True)
class InnerLoop:
    """How the inner loop runs.

    Attributes:
        steps: number of steps; 0 returns the parameters as they are.
        optimiser: what makes a step of a gradient.
        clip: largest norm of the gradient of all moving parameters together; None for no limit.
        freeze: patterns of the names that do not move; the outer loss still reaches them.
        order: "second" differentiates through the gradients, "first" holds them still (first-order MAML), so that
            memory does not grow with the steps.
        truncate: differentiate through the gradients of the last so many steps only; those of the steps before are
            held still. None means all, 0 is the same as first order.
        rows: how many rows of the support learners compute at once where gradients are held still, so that memory does
            not grow with the support; None for all. For networks that treat each row by itself.
        checkpoint: keep the parameters of each step only and compute the rest again in the outer backward. Gradients
            are the same, memory no longer grows with the size of the network times the steps.

    Raises:
        ValueError: a number is negative or `order` is neither.
    """

    steps: int = 5
    optimiser: Optimiser = field(default_factory=SGD)
    clip: float | None = None
    freeze: tuple[Pattern, ...] = ()
    order: Literal["second", "first"] = "second"
    truncate: int | None = None
    rows: int | None = None
    checkpoint: bool = False

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}; give 0 or more")
        if self.truncate is not None and self.truncate < 0:
            raise ValueError(f"truncate is {self.truncate}; give None, or 0 or more")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}; give None, or 1 or more")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; give None or a number above 0")
        if self.order not in {"first", "second"}:
            raise ValueError(f'order is {self.order!r}; give "first" or "second"')

    def differentiates(self, step: int) -> bool:
        """Whether the outer loss is differentiated through the gradient of this step."""
        last = self.steps if self.truncate is None else self.truncate
        return self.order == "second" and step >= self.steps - last


def adapt_parameters(loss: Loss, params: Params, options: InnerLoop, rates: Rates | None = None) -> Params:
    """The parameters after the inner loop, in the order of `params`; frozen ones are passed through.

    `params` stay as they are. The result carries the graph back to `params`, to `rates` and to whatever else `loss`
    reads; under `torch.no_grad()` it carries none. Runs under `torch.vmap` and `torch.func.grad`, except with
    `options.checkpoint`.

    Args:
        loss: takes all of `params`, frozen ones included.
        params: dotted name -> floating-point tensor.
        options: how it runs.
        rates: learning rates; None for the optimiser's own. Reached by the outer gradient in either order.

    Raises:
        ValueError: a pattern of `options.freeze` matches no name, or nothing is left to move.
        NotAvailable: `options.checkpoint` under `torch.vmap` or `torch.func.grad`.
    """
    frozen, moving = split(params, options.freeze)
    if options.steps and not moving:
        raise ValueError(f"all of the {len(params)} parameters are frozen by {options.freeze}; leave one that moves")
    # Nothing is kept for a backward that cannot come.
    saves = options.checkpoint and torch.is_grad_enabled()
    if saves:
        refuse_transforms("checkpoint")
    takes_step = _takes_step(loss)
    state = options.optimiser.start(moving)
    for step in range(options.steps):
        run = _Step(loss, options, step, takes_step)
        if saves and options.differentiates(step):
            moving, state = checkpoint(run, frozen, moving, state, rates, use_reentrant=False)
        else:
            moving, state = run(frozen, moving, state, rates)
    return {name: moving.get(name, tensor) for name, tensor in params.items()}


def gradients_at(loss: Loss, params: Params, options: InnerLoop) -> Params:
    """The gradients of the first step, held still, by the names of the parameters that move."""
    frozen, moving = split(params, options.freeze)
    return _Step(loss, replace(options, order="first"), 0, _takes_step(loss)).gradients(frozen, moving)


@dataclass(frozen=True)
class _Step:
    """One inner step as a function of all that it reads."""

    loss: Loss
    options: InnerLoop
    number: int
    takes_step: bool

    def __call__(self, frozen: Params, moving: Params, state: State, rates: Rates | None) -> tuple[Params, State]:
        grads = self.gradients(frozen, moving)
        if self.options.clip is not None:
            grads = clip_by_norm(grads, self.options.clip)
        return self.options.optimiser.step(moving, grads, state, rates)

    def gradients(self, frozen: Params, moving: Params) -> Params:
        """Of the loss at this step, for what moves."""

        def value(current: Params) -> Tensor:
            merged = {**frozen, **current}
            return self.loss(merged, self.number) if self.takes_step else self.loss(merged)  # type: ignore[call-arg]

        through = self.options.differentiates(self.number) and torch.is_grad_enabled()
        # Where nothing moving leads back, torch.func.grad makes a graph only if `loss` reads something that does.
        leads_back = not through or self.options.checkpoint or any(t.requires_grad for t in moving.values())
        if leads_back and not transformed():
            if isinstance(self.loss, Summed) and not through:
                return _gradients_by_parts(self.loss, frozen, moving)
            return _plain_gradients(value, moving, through)
        with torch.set_grad_enabled(through):
            gradients: Params = torch.func.grad(value)(moving)
        return gradients


def _plain_gradients(value: Callable[[Params], Tensor], moving: Params, through: bool) -> Params:
    """What `torch.func.grad` returns, by `torch.autograd.grad`, which checkpointing needs, and functions of
    our own with a backward of their own.

    Args:
        value: scalar loss of the moving parameters.
        moving: those.
        through: keep the graph that leads back to `moving`.
    """
    # A new tensor each: `value` may also read the outer parameters, and that way does not count here.
    fresh = {n: t.view_as(t) if through and t.requires_grad else t.detach().requires_grad_() for n, t in moving.items()}
    with torch.enable_grad():
        loss = value(fresh)
    found = torch.autograd.grad(loss, list(fresh.values()), create_graph=through, materialize_grads=True)
    return dict(zip(fresh, found, strict=True))


def _gradients_by_parts(loss: Summed, frozen: Params, moving: Params) -> Params:
    """The sum of the parts' gradients, one part after the other; no graph is kept."""
    total: Params = {}
    for part in loss.parts:
        found = _plain_gradients(lambda current, part=part: part({**frozen, **current}), moving, False)  # type: ignore[misc] # mypy does not type defaults
        total = {name: total[name] + gradient if total else gradient for name, gradient in found.items()}
    return total


def _takes_step(loss: Loss) -> bool:
    needed = [
        p for p in inspect.signature(loss).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    return len(needed) == 2
