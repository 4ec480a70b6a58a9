"""A meta-trained rule as a `torch.optim.Optimizer`, for any torch model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from quickstudy.core.types import Params
from quickstudy.learners.learned_rule import LearnedRule

AT_ONCE = 1 << 16


class LearnedOptimiser(torch.optim.Optimizer):
    """Moves parameters by what a meta-trained LSTM says.

    Parameters that have no gradient stay where they are and keep their state. The state is some 80 numbers for each
    coordinate, so this is for small networks. `load_state_dict` also takes states of an optimiser with the same rule
    over parameters of the same shapes.

        optimiser = LearnedOptimiser(model.parameters(), fitted.params, learner.rule)
        for inputs, targets in batches:
            optimiser.zero_grad()
            loss(model(inputs), targets).backward()
            optimiser.step()

    Args:
        params: tensors, or groups of them as for any torch optimiser.
        weights: the meta-parameters of a `learned_optimiser`. They are copied, to the device of each parameter.
        rule: the rule that they were trained for.
        lr: what each step is multiplied with, 1 as it was trained; torch's schedulers move it.

    Raises:
        ValueError: the weights are not those of the rule, or `lr` is not above 0.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        weights: Params,
        rule: LearnedRule | None = None,
        lr: float = 1.0,
    ) -> None:
        self.rule = rule or LearnedRule()
        _check(weights, self.rule, lr)
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        super().__init__(params, {"lr": lr})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """What `closure` returned, or None; the parameters are moved in place.

        Args:
            closure: computes the loss and the gradients anew.

        Raises:
            ValueError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, param.grad, group["lr"])
        return loss

    def _move(self, param: Tensor, gradient: Tensor, lr: float) -> None:
        if gradient.is_sparse:
            raise ValueError("a gradient is sparse; the learned optimiser needs dense ones, set sparse=False")
        state, flat = self.state[param], gradient.flatten().float()
        if not state:
            state.update(self.rule.start(flat))
        weights = {name: tensor.to(param.device) for name, tensor in self.weights.items()}
        moves, after = [], []
        for first in range(0, max(len(flat), 1), AT_ONCE):
            where = slice(first, first + AT_ONCE)
            before = {name: tensor[where].float() for name, tensor in state.items()}
            move, part = self.rule.step(weights, flat[where], before)
            moves.append(move)
            after.append(part)
        state.update({name: torch.cat([part[name] for part in after]) for name in after[0]})
        param.add_(torch.cat(moves).view_as(param).to(param.dtype), alpha=lr)


def _check(weights: Params, rule: LearnedRule, lr: float) -> None:
    if not lr > 0:
        raise ValueError(f"lr is {lr}; give a number above 0")
    expected = {name: tuple(t.shape) for name, t in rule.init(torch.Generator().manual_seed(0)).items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    if found != expected:
        wrong = next(name for name in sorted({**expected, **found}) if expected.get(name) != found.get(name))
        raise ValueError(
            f"{wrong!r} has shape {found.get(wrong)}, the rule needs {expected.get(wrong)}; "
            "give the rule that the weights were trained with"
        )
