"""Adapting with AdaLoRA: gradient steps during which a falling budget of ranks goes to the layers that need them.

Zhang et al., 2023, arXiv:2303.10512. With g the gradient of the loss, of each entry w of P, lambda and Q
    I <- beta1 I + (1 - beta1) |w g|,    U <- beta2 U + (1 - beta2) | |w g| - I |,    s(w) = I U
and the score of a rank is s(lambda) + the mean of s over its column of P + the mean over its row of Q. After a step,
the lambdas of all ranks of all layers but those of the b best scores become 0. The budget b falls with the cube of the
time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from quickstudy.core.optimisers import Adam, Optimiser, State
from quickstudy.core.parameters import transform
from quickstudy.core.types import Params
from quickstudy.deltas.adalora import layers_of, orthogonality


@dataclass(frozen=True)
class RankBudget:
    """How the steps are taken.

    Attributes:
        steps: how many.
        mean_rank: how many ranks a layer keeps in the end, on average; the budget is this times the layers.
        optimiser: what makes a step of a gradient.
        warmup: first steps, with all ranks; None for a tenth of the steps.
        settling: last steps, with the ranks that are left; None for three tenths.
        every: steps from one pruning to the next. What is pruned may come back until the settling begins.
        orthogonality: weight of the term that keeps P and Q orthogonal.
        beta1: decay of the mean importance.
        beta2: decay of its uncertainty.

    Raises:
        ValueError: there is no step between warmup and settling, or a number is out of its range.
    """

    steps: int = 100
    mean_rank: float = 8
    optimiser: Optimiser = field(default_factory=lambda: Adam(1e-2))
    warmup: int | None = None
    settling: int | None = None
    every: int = 1
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.last <= self.steps:
            raise ValueError(
                f"{self.steps} steps with {self.first} of warmup and {self.steps - self.last} of settling leave none "
                "to prune in; give more steps, or at least one of warmup and fewer of both"
            )
        if self.every < 1 or self.mean_rank <= 0 or self.orthogonality < 0:
            raise ValueError(
                f"every is {self.every}, mean_rank {self.mean_rank}, orthogonality {self.orthogonality}; expected 1 or "
                "more, above 0, and 0 or more"
            )
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 is {self.beta1} and beta2 {self.beta2}; expected 0 to below 1")

    @property
    def first(self) -> int:
        """The last step with all ranks."""
        return max(1, self.steps // 10) if self.warmup is None else self.warmup

    @property
    def last(self) -> int:
        """The step after which ranks stay as they are."""
        return self.steps - (3 * self.steps // 10 if self.settling is None else self.settling)

    def at(self, step: int, layers: int, rank: int) -> int:
        """How many ranks of all layers are kept after this step, counted from 1 (section 3.3 of the paper)."""
        whole, end = layers * rank, min(layers * rank, round(layers * self.mean_rank))
        left = 1 - (min(max(step, self.first), self.last) - self.first) / (self.last - self.first)
        return end + int((whole - end) * left**3)


@dataclass(frozen=True)
class RankState:
    """What is carried from step to step.

    Attributes:
        params: P, lambda and Q of each layer.
        optimiser: the optimiser's.
        importance: the mean importance I of each entry.
        uncertainty: its uncertainty U.
        kept: name of a lambda -> bool [rank], which are not pruned.
        step: how many steps were taken.
    """

    params: Params
    optimiser: State
    importance: Params
    uncertainty: Params
    kept: Params
    step: int = 0


def adapt_ranks(loss: Callable[[Params], Tensor], params: Params, budget: RankBudget) -> Params:
    """The tensors after all steps; those of pruned ranks have a lambda of 0. Nothing leads back to `params`.

    Runs under `torch.vmap`, for many tasks at once.

    Args:
        loss: a scalar, of P, lambda and Q of each layer.
        params: where these start.
        budget: how the steps are taken.

    Raises:
        ValueError: `params` are not those of an AdaLoRA.
    """
    state = start_ranks(params, budget)
    while state.step < budget.steps:
        state = rank_step(loss, state, budget)
    return state.params


def start_ranks(params: Params, budget: RankBudget) -> RankState:
    """The state before the first step.

    Raises:
        ValueError: `params` are not those of an AdaLoRA.
    """
    params = transform(torch.Tensor.detach, params)
    values = {f"{layer}.lora_lambda": params[f"{layer}.lora_lambda"] for layer in layers_of(params)}
    zeros = transform(torch.zeros_like, params)
    kept = transform(lambda tensor: torch.ones_like(tensor, dtype=torch.bool), values)
    return RankState(params, budget.optimiser.start(params), zeros, zeros, kept)


def rank_step(loss: Callable[[Params], Tensor], state: RankState, budget: RankBudget) -> RankState:
    """The state after one step."""

    def regularised(params: Params) -> Tensor:
        return loss(params) + budget.orthogonality * orthogonality(params)

    step, params = state.step + 1, state.params
    with torch.no_grad():
        grads: Params = torch.func.grad(regularised)(params)
        importance, uncertainty, kept = state.importance, state.uncertainty, state.kept
        if step <= budget.last:
            importance, uncertainty = weighed(params, grads, importance, uncertainty, budget)
        moved, optimiser = budget.optimiser.step(params, grads, state.optimiser)
        prunes = step == budget.last or (budget.first < step < budget.last and step % budget.every == 0)
        if prunes:
            some = next(iter(kept.values()))
            kept = best(scores(importance, uncertainty), budget.at(step, len(kept), some.shape[-1]))
        if prunes or step > budget.last:
            moved = moved | {name: moved[name] * mask for name, mask in kept.items()}
    return RankState(moved, optimiser, importance, uncertainty, kept, step)


def weighed(
    params: Params, grads: Params, importance: Params, uncertainty: Params, budget: RankBudget
) -> tuple[Params, Params]:
    """The importance and the uncertainty of each entry, after one more gradient."""
    now = transform(lambda p, g: (p * g).abs(), params, grads)
    mean = transform(lambda i, n: budget.beta1 * i + (1 - budget.beta1) * n, importance, now)
    spread = transform(lambda u, n, i: budget.beta2 * u + (1 - budget.beta2) * (n - i).abs(), uncertainty, now, mean)
    return mean, spread


def scores(importance: Params, uncertainty: Params) -> Params:
    """Name of a lambda -> [rank], how much each rank counts."""
    each = transform(torch.mul, importance, uncertainty)
    return {
        f"{layer}.lora_lambda": each[f"{layer}.lora_lambda"]
        + each[f"{layer}.lora_P"].mean(-2)
        + each[f"{layer}.lora_Q"].mean(-1)
        for layer in layers_of(importance)
    }


def best(scored: Params, number: int) -> Params:
    """Name -> bool [rank], true for the `number` best of all layers together."""
    together = torch.cat(list(scored.values()), -1)
    chosen = torch.zeros_like(together, dtype=torch.bool).scatter(-1, together.topk(number).indices, True)
    parts = torch.split(chosen, [tensor.shape[-1] for tensor in scored.values()], -1)
    return dict(zip(scored, parts, strict=True))
