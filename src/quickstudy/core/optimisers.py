"""Optimisers as pure functions of tensors, so that an outer loss can be differentiated through their steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.core.parameters import transform
from quickstudy.core.types import Params

Rates: TypeAlias = float | Tensor | Mapping[str, Tensor]
"""Learning rates: one number, a scalar tensor, or a tensor for each parameter that broadcasts to its shape."""

State: TypeAlias = Params
"""What an optimiser carries from step to step: a tree of tensors."""


class Optimiser(ABC):
    """A frozen dataclass with a `rate`, used where `step` is given no rates."""

    rate: float

    @abstractmethod
    def start(self, params: Params) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        """`(params, state)` after one step; nothing is changed in place. `grads` has the names of `params`.

        Raises:
            ValueError: `rates` is a tree that lacks a name.
        """


@dataclass(frozen=True)
class SGD(Optimiser):
    """Gradient descent: p <- p - rate * g."""

    rate: float = 0.1

    def start(self, params: Params) -> State:  # noqa: ARG002 - the contract's signature
        return {}

    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        return _moved(params, grads, self.rate if rates is None else rates), state


@dataclass(frozen=True)
class Momentum(Optimiser):
    """Heavy ball (Polyak, 1964): v <- decay * v + g; p <- p - rate * v."""

    rate: float = 0.1
    decay: float = 0.9

    def start(self, params: Params) -> State:
        return transform(torch.zeros_like, params)

    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        velocity = transform(lambda v, g: self.decay * v + g, state, grads)
        return _moved(params, velocity, self.rate if rates is None else rates), velocity


@dataclass(frozen=True)
class Adam(Optimiser):
    """Adam (Kingma and Ba, 2014, arXiv 1412.6980) with `eps` inside the root: p <- p - rate * m / sqrt(v + eps).

    m and v are the bias-corrected running means of g and g^2. The root of v alone has no derivative at v = 0, so a
    parameter that got no gradient would turn the meta-gradient into NaN.
    """

    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def start(self, params: Params) -> State:
        state = {}
        for name, tensor in params.items():
            state[f"first.{name}"] = torch.zeros_like(tensor)
            state[f"second.{name}"] = torch.zeros_like(tensor)
        anchor = next(iter(params.values()), torch.zeros(()))
        state["count"] = torch.zeros((), dtype=torch.float32, device=anchor.device)
        return state

    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        count = state["count"] + 1
        after: State = {"count": count}
        directions: Params = {}
        # In float64: 1 - beta2^count loses four digits in float32.
        unbias1 = 1 - self.beta1 ** count.double()
        unbias2 = 1 - self.beta2 ** count.double()
        for name, grad in grads.items():
            first = self.beta1 * state[f"first.{name}"] + (1 - self.beta1) * grad
            second = self.beta2 * state[f"second.{name}"] + (1 - self.beta2) * grad.square()
            after[f"first.{name}"], after[f"second.{name}"] = first, second
            root = (second / unbias2.to(second.dtype) + self.eps).sqrt()
            directions[name] = first / unbias1.to(first.dtype) / root
        return _moved(params, directions, self.rate if rates is None else rates), after


def _moved(params: Params, directions: Params, rates: Rates) -> Params:
    if isinstance(rates, Mapping):
        if missing := params.keys() - rates.keys():
            raise ValueError(f"there is no rate for {min(missing)!r}; give one tensor for each parameter that moves")
        return transform(lambda p, d, rate: p - rate * d, params, directions, rates)
    if isinstance(rates, Tensor):
        return transform(lambda p, d: p - rates * d, params, directions)
    # One pass over the entries, and one backward, where p - rate * d has two and three.
    return transform(lambda p, d: torch.add(p, d, alpha=-rates), params, directions)
