"""Allotting ranks to layers in an inner loop: gradient steps during which a falling budget goes where it is needed.

Zhang et al., 2023, arXiv:2303.10512. With g the gradient of the loss, of each entry w of P, lambda and Q
    I <- beta1 I + (1 - beta1) |w g|,    U <- beta2 U + (1 - beta2) | |w g| - I |,    s(w) = I U
and the score of a rank is s(lambda) + the mean of s over its column of P + the mean over its row of Q. After a step,
the lambdas of all ranks of all layers but those of the b best scores become 0. The budget b falls with the cube of the
time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import Optimiser, Rates, State
from quickstudy.core.parameters import transform
from quickstudy.core.types import Params

ENDS = (".lora_P", ".lora_lambda", ".lora_Q")
"""Of the names of a layer's tensors."""


@dataclass(frozen=True)
class RankBudget:
    """How many ranks are kept, and when the others go.

    Attributes:
        mean_rank: how many ranks a layer keeps in the end, on average; the budget is this times the layers. None for
            two thirds of those it begins with.
        warmup: first steps, with all ranks; None for a tenth of the steps.
        settling: last steps, with the ranks that are left; None for three tenths.
        every: steps from one pruning to the next. What is pruned may come back until the settling begins.
        orthogonality: weight of the term that keeps P and Q orthogonal.
        beta1: decay of the mean importance.
        beta2: decay of its uncertainty.

    Raises:
        ValueError: a number is out of its range.
    """

    mean_rank: float | None = None
    warmup: int | None = None
    settling: int | None = None
    every: int = 1
    orthogonality: float = 0.1
    beta1: float = 0.85
    beta2: float = 0.85

    def __post_init__(self) -> None:
        if self.every < 1 or (self.mean_rank is not None and self.mean_rank <= 0) or self.orthogonality < 0:
            raise ValueError(
                f"every is {self.every}, mean_rank {self.mean_rank}, orthogonality {self.orthogonality}; expected 1 or "
                "more, above 0, and 0 or more"
            )
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 is {self.beta1} and beta2 {self.beta2}; expected 0 to below 1")

    def span(self, steps: int) -> tuple[int, int]:
        """The last step with all ranks and the step after which ranks stay as they are, of so many, counted from 1.

        Raises:
            ValueError: there is no step between warmup and settling.
        """
        first = max(1, steps // 10) if self.warmup is None else self.warmup
        last = steps - (3 * steps // 10 if self.settling is None else self.settling)
        if steps and not 1 <= first < last <= steps:
            raise ValueError(
                f"{steps} steps with {first} of warmup and {steps - last} of settling leave none to prune ranks in; "
                "give more steps, or at least one of warmup and fewer of both"
            )
        return first, last

    def at(self, step: int, steps: int, layers: int, rank: int) -> int:
        """How many ranks of all layers are kept after this step of so many (section 3.3 of the paper)."""
        first, last = self.span(steps)
        mean = 2 * rank / 3 if self.mean_rank is None else self.mean_rank
        whole, end = layers * rank, max(1, min(layers * rank, round(layers * mean)))
        left = 1 - (min(max(step, first), last) - first) / (last - first)
        return end + int((whole - end) * left**3)


@dataclass(frozen=True)
class RankSteps(Optimiser):
    """The steps of an inner loop, after which ranks are pruned. Parameters of other kinds move as they do without.

    Which ranks go is held still when an outer loss is differentiated; the way through those that stay is not.

    Attributes:
        rate: of the loop's optimiser.
        loop: the inner loop as it was given.
        budget: how many ranks are kept.
    """

    rate: float
    loop: InnerLoop
    budget: RankBudget

    def start(self, params: Params) -> State:
        """The state before the first step.

        Raises:
            ValueError: there are no steps to prune in, or a layer lacks one of P, lambda and Q.
        """
        self.budget.span(self.loop.steps)
        factors = factors_of(params)
        zeros = transform(torch.zeros_like, factors)
        kept = {name: torch.ones_like(factors[name], dtype=torch.bool) for name in lambdas_of(factors)}
        anchor = next(iter(params.values()), torch.zeros(()))
        return {
            **_under("optimiser.", self.loop.optimiser.start(params)),
            **_under("importance.", zeros),
            **_under("uncertainty.", zeros),
            **_under("kept.", kept),
            "step": torch.zeros((), dtype=torch.int64, device=anchor.device),
        }

    def step(self, params: Params, grads: Params, state: State, rates: Rates | None = None) -> tuple[Params, State]:
        """`(params, state)` after one step; the lambdas of pruned ranks are 0."""
        number, steps = int(state["step"]) + 1, self.loop.steps
        first, last = self.budget.span(steps)
        factors = factors_of(params)
        grads = grads | self._regularised(factors, grads, self.loop.differentiates(number - 1))
        moved, inner = self.loop.optimiser.step(params, grads, _of("optimiser.", state), rates)
        importance, uncertainty = (_of(kind, state) for kind in ("importance.", "uncertainty."))
        kept = _of("kept.", state)
        with torch.no_grad():
            if number <= last:
                importance, uncertainty = weighed(factors, grads, importance, uncertainty, self.budget)
            prunes = number == last or (first < number < last and number % self.budget.every == 0)
            if prunes and kept:
                rank = next(iter(kept.values())).shape[-1]
                kept = best(scores(importance, uncertainty), self.budget.at(number, steps, len(kept), rank))
        if prunes or number > last:
            moved = moved | {name: moved[name] * mask for name, mask in kept.items()}
        return moved, {
            **_under("optimiser.", inner),
            **_under("importance.", importance),
            **_under("uncertainty.", uncertainty),
            **_under("kept.", kept),
            "step": state["step"] + 1,
        }

    def _regularised(self, factors: Params, grads: Params, through: bool) -> Params:
        """The gradients of P and Q with that of |P^T P - 1|^2 + |Q Q^T - 1|^2 (section 3.1 of the paper)."""
        factors = factors if through else transform(torch.Tensor.detach, factors)
        found = {}
        for layer in layers_of(factors) if factors else ():
            p, q = factors[f"{layer}.lora_P"], factors[f"{layer}.lora_Q"]
            one = torch.eye(q.shape[0], dtype=q.dtype, device=q.device)
            weight = 4 * self.budget.orthogonality
            found[f"{layer}.lora_P"] = grads[f"{layer}.lora_P"] + weight * p @ (p.T @ p - one)
            found[f"{layer}.lora_Q"] = grads[f"{layer}.lora_Q"] + weight * (q @ q.T - one) @ q
        return found


def factors_of(params: Params) -> Params:
    """P, lambda and Q of all layers among `params`."""
    return {name: tensor for name, tensor in params.items() if name.endswith(ENDS)}


def lambdas_of(factors: Params) -> list[str]:
    """The names of the lambdas, layer by layer.

    Raises:
        ValueError: a layer lacks one of P, lambda and Q.
    """
    return [f"{layer}.lora_lambda" for layer in layers_of(factors)] if factors else []


def layers_of(params: Params) -> list[str]:
    """Names of the layers whose P, lambda and Q are in `params`.

    Raises:
        ValueError: one of the three is missing, or there is another tensor, or none.
    """
    layers = sorted({name.rpartition(".")[0] for name in params})
    wanted = {f"{layer}{end}" for layer in layers for end in ENDS}
    if not layers or wanted != params.keys():
        odd = sorted(wanted ^ params.keys())[:3] or "nothing"
        raise ValueError(f"expected P, lambda and Q of each layer and no other tensors; too few or too many: {odd}")
    return layers


def weighed(
    params: Params, grads: Params, importance: Params, uncertainty: Params, budget: RankBudget
) -> tuple[Params, Params]:
    """The importance and the uncertainty of each entry, after one more gradient."""
    now = transform(lambda p, g: (p.detach() * g.detach()).abs(), params, grads)
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


def _under(prefix: str, tree: Params) -> Params:
    return {prefix + name: tensor for name, tensor in tree.items()}


def _of(prefix: str, tree: Params) -> Params:
    return {name.removeprefix(prefix): tensor for name, tensor in tree.items() if name.startswith(prefix)}
