"""AdaLoRA (Zhang et al., 2023, arXiv:2303.10512): y = xW + b + s ((x Q^T) lambda) P^T, whose ranks are allotted.

`rank_budget` decides, while a learner adapts, which ranks of which layers stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.core.frozen_linear import FrozenLinear
from quickstudy.core.inner import InnerLoop
from quickstudy.core.types import Params
from quickstudy.deltas.base import Steering
from quickstudy.deltas.lora import Beside, LoRA, low_rank, place_for, replace_linears
from quickstudy.deltas.rank_budget import ENDS, RankBudget, RankSteps, layers_of


@dataclass(frozen=True)
class AdaLoRA(Steering):
    """A product of three beside each matched linear layer, like a decomposition into singular values.

    A rank whose lambda is 0 is pruned: it has no effect.

    Attributes:
        rank: of each layer at the beginning.
        alpha: the product is scaled by alpha / rank, with this rank to the end.
        targets: as those of `LoRA`.
        layers: as those of `LoRA`.
        budget: how many ranks are left of them when a task has been learned, and when the others go.
    """

    rank: int = 12
    alpha: float = 16
    targets: tuple[str, ...] = ("query", "value")
    layers: tuple[int, ...] | None = None
    budget: RankBudget = field(default_factory=RankBudget)

    @property
    def scale(self) -> float:
        """The factor s of the product."""
        return self.alpha / self.rank

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` with an `AdaLoraLinear` in the place of each matched linear layer; weights are shared, names kept.

        Raises:
            ValueError: the rank is below 1, or no linear layer matches; the message lists those there are.
        """
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}; expected 1 or more")
        replace_linears(module, self.targets, self.layers, lambda part: AdaLoraLinear(part, self.rank, self.scale))
        return module

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:  # noqa: ARG002 - contract
        """`<layer>.lora_P` [output, rank], `.lora_lambda` [rank] and `.lora_Q` [rank, input].

        Lambda is zero, and P and Q are drawn from normal distributions that make them nearly orthogonal.
        """
        params = {}
        for name, part in module.named_modules():
            if isinstance(part, AdaLoraLinear):
                outputs, rank = part.lora_P.shape
                inputs = part.lora_Q.shape[1]
                params[f"{name}.lora_P"] = torch.randn(outputs, rank, generator=generator) / math.sqrt(outputs)
                params[f"{name}.lora_lambda"] = torch.zeros(rank)
                params[f"{name}.lora_Q"] = torch.randn(rank, inputs, generator=generator) / math.sqrt(inputs)
        return params

    def steered(self, loop: InnerLoop) -> InnerLoop:
        """`loop` with steps that allot the ranks by the budget."""
        return replace(loop, optimiser=RankSteps(loop.optimiser.rate, loop, self.budget))


class AdaLoraLinear(Beside):
    """A linear layer with a product of three beside it.

    The three may have one more axis in front, [example, ...]: then each row of the batch has its own adapter.
    """

    def __init__(self, linear: nn.Linear | FrozenLinear, rank: int, scale: float) -> None:
        super().__init__(linear)
        self.scale = scale
        self.lora_P = place_for(linear, linear.out_features, rank)
        self.lora_lambda = place_for(linear, rank)
        self.lora_Q = place_for(linear, rank, linear.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """[example, ..., output] from `x` [example, ..., input].

        Raises:
            ValueError: there are adapters for another number of rows than `x` has.
        """
        base = self.of_base(x)
        left = self.lora_P * (self.scale * self.lora_lambda)[..., None, :]
        return base + low_rank(x, self.lora_Q, left).to(base.dtype)


def ranks(params: Params) -> dict[str, int]:
    """Layer -> how many of its ranks are not pruned."""
    return {layer: int((params[f"{layer}.lora_lambda"] != 0).sum()) for layer in layers_of(params)}


def without_pruned(params: Params) -> Params:
    """`params` with the ranks that are not pruned, as many for a layer as it kept; layers with none are left out."""
    found = {}
    for layer in layers_of(params):
        kept = params[f"{layer}.lora_lambda"].nonzero()[:, 0]
        if len(kept):
            found[f"{layer}.lora_P"] = params[f"{layer}.lora_P"][:, kept]
            found[f"{layer}.lora_lambda"] = params[f"{layer}.lora_lambda"][kept]
            found[f"{layer}.lora_Q"] = params[f"{layer}.lora_Q"][kept]
    return found


def as_lora(delta: AdaLoRA, params: Params) -> tuple[LoRA, Params]:
    """The same as an ordinary LoRA, of the largest rank that a layer kept; layers that kept fewer have zeros.

    Raises:
        ValueError: everything is pruned.
    """
    small = without_pruned(params)
    if not small:
        raise ValueError("every rank is pruned, so there is nothing to keep; adapt before this, with a larger budget")
    layers = layers_of(small)
    rank = max(small[f"{layer}.lora_lambda"].shape[0] for layer in layers)
    found = {}
    for layer in layers:
        p, values, q = (small[f"{layer}{end}"] for end in ENDS)
        missing = rank - len(values)
        found[f"{layer}.lora_A"] = F.pad(q, (0, 0, 0, missing))
        found[f"{layer}.lora_B"] = F.pad(p * values, (0, missing))
    targets = tuple(layer.removeprefix("model.") for layer in layers)
    return LoRA(rank, delta.scale * rank, targets), found
