"""MAML++. Antoniou, Edwards, Storkey, 2019, arXiv 1810.09502.

MAML with p_(i+1) = p_i - a_i * grad L_S(p_i), where each tensor has a learned rate a_i for each step i, and
    multi-step loss         sum_i w_i L_Q(p_i) over all steps; the weights w start equal and end on the last step alone
    derivative order        first at the beginning of meta-training, second afterwards
    per-step normalisation  scale and shift of the normalisation layers, one set for each step
The paper's outer schedule is `FitOptions(schedule="cosine")`. Statistics of batch normalisation are those of the images
at hand, hence of each step; the authors' code uses these too, and keeps running ones for each step beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.optimisers import SGD
from quickstudy.core.parameters import Pattern, split
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, task_outputs, weighted_loss
from quickstudy.learners.network import Network
from quickstudy.training.state import UPDATES

RATE, STEP = "rate.", "step."
"""Begin the names of tensors with one entry for each step: learned rates, and the parameters of `per_step`."""


@dataclass(frozen=True)
class MAMLPlusPlus(Learner):
    """Learns the starting point of a few gradient steps and, for each step, how it is taken.

    Attributes:
        network: backbone, delta and head; the head has as many outputs as the largest task has classes.
        inner: how the inner loop runs, by plain gradient descent; its rate is that at the start.
        learn_rates: whether each tensor has a rate of its own for each step.
        per_step: patterns of the parameters with a value of their own for each step, which no inner step moves:
            the scales and shifts of normalisation layers.
        multi_step_for: meta-updates over which the multi-step loss fades to that of the last step; 0 starts there.
        first_order_for: meta-updates made in first order before `inner.order` holds.

    Raises:
        ValueError: the inner loop has no steps or another optimiser than SGD, a number is below 0, or the delta steers.
    """

    name: ClassVar[str] = "maml_plus_plus"

    network: Network
    inner: InnerLoop = field(default_factory=InnerLoop)
    learn_rates: bool = True
    per_step: tuple[Pattern, ...] = ()
    multi_step_for: int = 0
    first_order_for: int = 0

    def __post_init__(self) -> None:
        if self.inner.steps < 1 or not isinstance(self.inner.optimiser, SGD):
            raise ValueError(f"the inner loop is {self.inner}; give at least one step, and SGD")
        if min(self.multi_step_for, self.first_order_for) < 0:
            raise ValueError(f"{self.multi_step_for} and {self.first_order_for} updates; give 0 or more of each")
        if self.network.steered(self.inner) is not self.inner:
            raise ValueError(f"{self.network.delta} has a say in the steps, and so has MAML++; give MAML, or a LoRA")

    def init(self, generator: torch.Generator) -> Params:
        """The network's values, `rate.<name>` [step], `step.<name>` [step, ...], and the count of updates if needed."""
        own, shared = split(self.network.init(generator), self.per_step)
        _, moving = split(shared, self.inner.freeze)
        steps, rate = self.inner.steps, self.inner.optimiser.rate
        stepped = {STEP + name: tensor.expand(steps, *tensor.shape).clone() for name, tensor in own.items()}
        device = self.network.device
        rates = {RATE + name: torch.full((steps,), rate, device=device) for name in moving if self.learn_rates}
        counted = {UPDATES: torch.zeros((), device=device)} if self.multi_step_for or self.first_order_for else {}
        return {**shared, **stepped, **rates, **counted}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The weighted sum of the losses on the query after each step."""
        query = blank(episode.query)
        updates = float(params[UPDATES].detach()) if UPDATES in params else 0.0
        path = self._path(params, episode.support, updates < self.first_order_for)
        shares = self._shares(updates)
        losses = [
            share * weighted_loss(self._outputs(params, moved, number, query.inputs, query.ways), query)
            for number, (share, moved) in enumerate(zip(shares, path, strict=True))
            if share
        ]
        return torch.stack(losses).sum()

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The parameters that moved, by their names in the network."""
        moved = self._path(params, support, False)[-1]
        return Adapter(moved, self.name, base=self.network.backbone.fingerprint, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """The network's outputs with the adapter's tensors and the last step's own parameters."""
        moved, last = dict(adapter.tensors), self.inner.steps - 1
        return Prediction(self._outputs(params, moved, last, inputs, adapter.facts["ways"]))

    def _path(self, params: Params, support: Batch, first: bool) -> list[Params]:
        """The parameters that move, after each step."""
        support = blank(support)
        shared = {name: tensor for name, tensor in params.items() if not name.startswith((RATE, STEP, UPDATES))}
        _, moved = split(shared, self.inner.freeze)
        path = []
        for number in range(self.inner.steps):

            def support_loss(current: Params, number: int = number) -> Tensor:
                outputs = self._outputs(params, current, number, support.inputs, support.ways)
                return weighted_loss(outputs, support)

            second = self.inner.differentiates(number) and not first
            one = replace(self.inner, steps=1, freeze=(), truncate=None, order="second" if second else "first")
            rates = {name: params[RATE + name][number] for name in moved} if self.learn_rates else None
            moved = adapt_parameters(support_loss, moved, one, rates)
            path.append(moved)
        return path

    def _outputs(self, params: Params, moved: Params, number: int, inputs: Inputs, ways: int) -> Tensor:
        """The network's outputs at step `number`."""
        own = {name.removeprefix(STEP): t[number] for name, t in params.items() if name.startswith(STEP)}
        return task_outputs(self.network, {**params, **own, **moved}, inputs, ways)

    def _shares(self, updates: float) -> list[float]:
        """The weight of each step's loss: equal at the start, 0 but for the last step at the end; their sum is 1."""
        fade = min(updates / self.multi_step_for, 1.0) if self.multi_step_for else 1.0
        others = (1 - fade) / self.inner.steps
        return [others] * (self.inner.steps - 1) + [1 - others * (self.inner.steps - 1)]
