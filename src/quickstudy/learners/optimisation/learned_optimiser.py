"""The learned optimiser, L2O. Andrychowicz et al., 2016, arXiv 1606.04474.

On the loss L of a task, from a start p_0: p_t+1 = p_t + step_t, (step_t, h_t+1) = LSTM(grad L(p_t), h_t), coordinate by
coordinate. Meta-training lowers the mean of the L(p_t), or of their logarithms, by the LSTM's weights, through unrolls
cut into pieces, with the gradients grad L(p_t) held still or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quickstudy.core.parameters import detach
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.learned_rule import LearnedRule
from quickstudy.learners.losses import task_outputs
from quickstudy.learners.network import Network
from quickstudy.learners.optimisees import data, optimisee, starting_values

TINY = 1e-10


@dataclass(frozen=True)
class L2O(Learner):
    """Learns how to make steps, not where to start.

    A task starts where its support says (`tasks.optimisees`), else at what the network draws with seed 0.

    Attributes:
        network: what is trained on each task; all of its parameters move, by the steps of the rule.
        rule: the LSTM.
        steps: number of steps, in meta-training and in `adapt`.
        truncate: the unroll is cut after so many steps: no derivative goes through a cut.
        weighting: "sum" lowers the mean of the losses along the unroll, as in the paper; "log" that of log L + L / L_0
            with the loss L_0 of the start: small losses count as much, and a few large ones are still seen.
        order: "first" holds the task's gradients still, "second" differentiates through them.

    Raises:
        ValueError: a number is below 1 or a word is not known.
    """

    name: ClassVar[str] = "learned_optimiser"

    network: Network
    rule: LearnedRule = field(default_factory=LearnedRule)
    steps: int = 100
    truncate: int = 20
    weighting: Literal["sum", "log"] = "sum"
    order: Literal["first", "second"] = "first"

    def __post_init__(self) -> None:
        if min(self.steps, self.truncate) < 1:
            raise ValueError(f"steps is {self.steps} and truncate is {self.truncate}; give 1 or more")
        if self.weighting not in {"sum", "log"}:
            raise ValueError(f'weighting is {self.weighting!r}; give "sum" or "log"')
        if self.order not in {"first", "second"}:
            raise ValueError(f'order is {self.order!r}; give "first" or "second"')

    @cached_property
    def _like(self) -> Params:
        return starting_values(self.network)

    def init(self, generator: torch.Generator) -> Params:
        """The weights of the rule."""
        weights = self.rule.init(generator)
        return {name: tensor.to(self.network.device) for name, tensor in weights.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The weighted mean of the losses on the support along the unroll; the query is not looked at."""
        task = optimisee(self.network, episode.support, self._like)
        entries = task.start()
        first, gradient = (each.detach() for each in task.value_and_gradient(entries))
        state = self.rule.start(entries)
        total = entries.new_zeros(())
        for step in range(self.steps):
            if step % self.truncate == 0:
                entries, gradient, state = entries.detach(), gradient.detach(), detach(state)
            move, state = self.rule.step(params, gradient, state)
            entries = entries + move
            value, gradient = task.value_and_gradient(entries, self.order)
            total = total + (torch.log(value + TINY) + value / first if self.weighting == "log" else value)
        return total / self.steps

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The network's parameters after the last step, by their names in it."""
        task = optimisee(self.network, support, self._like)
        entries = task.start()
        state = self.rule.start(entries)
        for _ in range(self.steps):
            _, gradient = task.value_and_gradient(entries, self.order)
            move, state = self.rule.step(params, gradient, state)
            entries = entries + move
        base = self.network.backbone.fingerprint
        return Adapter(task.params(entries), self.name, base=base, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:  # noqa: ARG002 - contract
        """The outputs of the network with the adapter's tensors; the rule has no part in it."""
        return Prediction(task_outputs(self.network, dict(adapter.tensors), data(inputs), adapter.facts["ways"]))
