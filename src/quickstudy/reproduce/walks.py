"""Losses along the walks of optimisers, hand-written and learned, on many functions side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from quickstudy.core.optimisers import SGD, Adam, Momentum, Optimiser, Rates, State
from quickstudy.core.parameters import transform
from quickstudy.core.stacking import stack_episodes
from quickstudy.core.types import Episode, Params
from quickstudy.learners.learned_rule import LearnedRule
from quickstudy.learners.network import Network
from quickstudy.learners.optimisees import optimisee, starting_values

AT_ONCE = 100

LARGEST = 1e30
"""What a loss counts as that runs away, so that means stay numbers."""


@dataclass(frozen=True)
class RMSprop(Optimiser):
    """RMSprop (Tieleman and Hinton, 2012): v <- decay * v + (1 - decay) g^2; p <- p - rate * g / (sqrt(v) + eps)."""

    rate: float = 1e-2
    decay: float = 0.99
    eps: float = 1e-8

    def start(self, params: Params) -> State:
        return transform(torch.zeros_like, params)

    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        assert rates is None, "the rate is the optimiser's own here"
        after = transform(lambda v, g: self.decay * v + (1 - self.decay) * g.square(), state, grads)
        moved = transform(lambda p, g, v: p - self.rate * g / (v.sqrt() + self.eps), params, grads, after)
        return moved, after


HAND_WRITTEN: dict[str, Optimiser] = {
    "SGD": SGD(),
    "momentum": Momentum(),
    "RMSprop": RMSprop(),
    "Adam": Adam(),
}
RATES = tuple(2.0 ** (half / 2) for half in range(-20, 9))
"""The rates among which each hand-written optimiser takes its own best one, on functions of their own."""


class Walker(Protocol):
    """What turns gradients [task, entry] into steps."""

    def start(self, like: Tensor) -> Params:
        """The state before the first step from `like` [task, entry]."""
        ...

    def step(self, gradient: Tensor, state: Params) -> tuple[Tensor, Params]:
        """What is to be added to the entries, and the state after it."""
        ...


@dataclass(frozen=True)
class ByHand:
    """A hand-written optimiser as a walker."""

    optimiser: Optimiser

    def start(self, like: Tensor) -> Params:
        """The optimiser's own."""
        return self.optimiser.start({"entries": like})

    def step(self, gradient: Tensor, state: Params) -> tuple[Tensor, Params]:
        """A step from 0 is what is to be added."""
        moved, after = self.optimiser.step({"entries": torch.zeros_like(gradient)}, {"entries": gradient}, state)
        return moved["entries"], after


@dataclass(frozen=True)
class Learned:
    """A learned rule as a walker."""

    rule: LearnedRule
    weights: Params

    def start(self, like: Tensor) -> Params:
        """The rule's own."""
        return self.rule.start(like)

    def step(self, gradient: Tensor, state: Params) -> tuple[Tensor, Params]:
        """The rule's own."""
        return self.rule.step(self.weights, gradient, state)


def losses(network: Network, episodes: Sequence[Episode], walker: Walker, steps: int) -> Tensor:
    """[step, task]: the loss before the first step and after each; `LARGEST` where it is larger or not a number."""
    parts = [episodes[first : first + AT_ONCE] for first in range(0, len(episodes), AT_ONCE)]
    with torch.no_grad():
        return torch.cat([_walked(network, stack_episodes(part), walker, steps) for part in parts], 1)


def _walked(network: Network, episodes: Episode, walker: Walker, steps: int) -> Tensor:
    like = starting_values(network)

    def begin(episode: Episode) -> Tensor:
        return optimisee(network, episode.support, like).start()

    def measure(entries: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        return optimisee(network, episode.support, like).value_and_gradient(entries)

    entries = torch.vmap(begin)(episodes)
    state, values = walker.start(entries), []
    for _ in range(steps):
        value, gradient = torch.vmap(measure)(entries, episodes)
        values.append(value)
        move, state = walker.step(gradient, state)
        entries = entries + move
    values.append(torch.vmap(measure)(entries, episodes)[0])
    return torch.stack(values).nan_to_num(nan=LARGEST, posinf=LARGEST).clamp(max=LARGEST)


def best_rate(
    network: Network,
    episodes: Sequence[Episode],
    optimiser: Optimiser,
    score: Callable[[Tensor], Tensor],
    steps: int,
    rates: Sequence[float] = RATES,
) -> float:
    """The rate with the smallest mean of `score` of the losses [task] after `steps`."""

    def reached(rate: float) -> float:
        walker = ByHand(replace(optimiser, rate=rate))  # type: ignore[type-var] # each optimiser is a dataclass
        return float(score(losses(network, episodes, walker, steps)[-1]).mean())

    return min(rates, key=reached)
