"""What a run carries from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.types import Params
from quickstudy.training.options import FitOptions

UPDATES = "training.updates"
"""A scalar meta-parameter of this name counts the updates made, for losses that change in the course of training.

`fit` adds 1 at each update and nothing else moves it; a run that starts from another's parameters counts on.
"""


@dataclass(frozen=True)
class Position:
    """Where a run is.

    Attributes:
        step: updates made.
        best_step: updates made when the validation loss was lowest.
        best_loss: that loss; None before the first validation.
        stale: validations since then.
    """

    step: int = 0
    best_step: int = 0
    best_loss: float | None = None
    stale: int = 0

    def ended(self, options: FitOptions) -> bool:
        """Whether nothing is left to do."""
        return self.step >= options.steps or self.exhausted(options)

    def exhausted(self, options: FitOptions) -> bool:
        """Whether patience has run out."""
        return options.patience is not None and self.stale >= options.patience


@dataclass(frozen=True)
class State:
    """Everything that decides how a run goes on; tasks and noise follow from the seed and the step.

    Attributes:
        params: the meta-parameters. Those of floating point are changed in place, by `optimiser`.
        optimiser: AdamW over them; None where there are none.
        best: copies of the parameters at the lowest validation loss; empty before the first validation.
        position: where the run is.
    """

    params: Params
    optimiser: torch.optim.AdamW | None
    best: Params
    position: Position


def is_moved(name: str, tensor: Tensor) -> bool:
    """Whether the optimiser moves this meta-parameter."""
    return tensor.is_floating_point() and name != UPDATES


def new_state(start: Params, options: FitOptions) -> State:
    """A state at step 0. `start` is copied, never changed."""
    params = {name: tensor.detach().clone() for name, tensor in start.items()}
    moving = [tensor for name, tensor in params.items() if is_moved(name, tensor)]
    optimiser = None
    if moving:
        optimiser = torch.optim.AdamW(
            moving, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, foreach=True
        )
    return State(params, optimiser, {}, Position())


def update(state: State, gradients: Params, rate: float) -> None:
    """One step of AdamW with learning rate `rate`, counted where the parameters ask for it."""
    assert state.optimiser is not None
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    for name, gradient in gradients.items():
        if is_moved(name, gradient):
            state.params[name].grad = gradient
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    if UPDATES in state.params:
        state.params[UPDATES] += 1


def copied(params: Mapping[str, Tensor]) -> Params:
    """Copies that later updates do not reach."""
    return {name: tensor.detach().clone() for name, tensor in params.items()}


def moments(state: State) -> Params:
    """What the optimiser remembers: `<parameter>/<moment>` -> tensor."""
    if state.optimiser is None:
        return {}
    kept = ((name, state.optimiser.state.get(tensor, {})) for name, tensor in state.params.items())
    return {f"{name}/{moment}": value for name, entries in kept for moment, value in entries.items()}


def restore_moments(state: State, kept: Mapping[str, Tensor]) -> None:
    """Puts back what `moments` returned; the step counter stays on the CPU, where AdamW keeps it."""
    for key, value in kept.items():
        name, moment = key.rsplit("/", 1)
        assert state.optimiser is not None
        tensor = state.params[name]
        device = "cpu" if moment == "step" else tensor.device
        state.optimiser.state[tensor][moment] = value.to(device)
