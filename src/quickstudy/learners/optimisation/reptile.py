"""Reptile. Nichol, Achiam, Schulman, 2018, arXiv 1803.02999.

Take a few gradient steps on the task, from p to p', and move p towards p'. The loss is half the squared distance
|p - p'|^2 / 2 with p' held still: its gradient is p - p', the Reptile direction, so that any optimiser makes the move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.parameters import detach, split
from quickstudy.core.stacking import pad_to
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import support_loss, task_outputs
from quickstudy.learners.network import Network


@dataclass(frozen=True)
class Reptile(Learner):
    """Learns a starting point near the solutions of all tasks, with first derivatives only.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs when a task is learned; its order does not matter. Frozen parameters stay as
            they were drawn.
        training: how it runs in meta-training; None for the same.
        joint: meta-train on support and query together, for Reptile needs no split; else on the support alone.
        minibatch: how many examples a step of meta-training reads at most: the next share of them, in turn, so that
            the way moved holds what gradients of different examples have in common. None for all of them.

    Raises:
        ValueError: `minibatch` is below 1.
    """

    name: ClassVar[str] = "reptile"
    packs: ClassVar[bool] = True

    network: Network
    inner: InnerLoop = field(default_factory=InnerLoop)
    training: InnerLoop | None = None
    joint: bool = True
    minibatch: int | None = None

    def __post_init__(self) -> None:
        if self.minibatch is not None and self.minibatch < 1:
            raise ValueError(f"minibatch is {self.minibatch}; give None, or 1 or more")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Half the squared distance to the adapted parameters; its gradient, not its value, is what counts."""
        seen = _together(episode.support, episode.query) if self.joint else episode.support
        shares = -(-len(seen.weights) // (self.minibatch or len(seen.weights)))
        adapted = self._adapted(detach(params), seen, self.training or self.inner, shares)
        squares = [(params[name] - tensor).square().sum() for name, tensor in adapted.items()]
        return torch.stack(squares).sum() / 2

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in `params`."""
        moved = self._adapted(params, support, self.inner)
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors in place of the meta-parameters."""
        adapted = {**params, **adapter.tensors}
        return Prediction(task_outputs(self.network, adapted, inputs, adapter.facts["ways"]))

    def _adapted(self, params: Params, batch: Batch, inner: InnerLoop, shares: int = 1) -> Params:
        parts = [tree_map(lambda leaf, at=at: leaf[at::shares], batch) for at in range(shares)]
        losses = [support_loss(self.network, part, inner.rows) for part in parts]
        loss = losses[0] if shares == 1 else partial(_in_turn, losses)
        adapted = adapt_parameters(loss, params, self.network.steered(replace(inner, order="first")))
        _, moved = split(adapted, inner.freeze)
        return moved


def _in_turn(losses: Sequence[Callable[[Params], Tensor]], params: Params, step: int) -> Tensor:
    return losses[step % len(losses)](params)


def _together(support: Batch, query: Batch) -> Batch:
    """Both, with zeros after the shorter texts, as padding is."""

    def joined(first: Tensor, second: Tensor) -> Tensor:
        longest = [max(sizes) for sizes in zip(first.shape[1:], second.shape[1:], strict=True)]
        return torch.cat([pad_to(part, [len(part), *longest]) for part in (first, second)])

    both: Batch = tree_map(joined, support, query)
    return both
