"""Differentiable neural computer. Graves et al., 2016, Nature 538, 471-476.

Each support row, its target beside it, is one step of the machine: free rows that were read, write to unused rows or to
rows like a key, link them in the order of writing, read by key or along the links. The adapter is the state after the
last row, s = step(s, (x_i, y_i)); the queries go on from there in their order, y = answer(step(s, (x, 0))), so that
one may start where the one before ended. See `backbones.memory.dnc` for the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.backbones.memory import DNCCell
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank
from quickstudy.learners.network import Network
from quickstudy.learners.sequences import answer_means, read_rows, start_of, state_adapter, write_rows, written_loss


@dataclass(frozen=True)
class DNC(Learner):
    """Writes the support set into a memory that knows what is used and in which order it came; reads answers from it.

    Attributes:
        cell: reads the features, the target (as wide as its outputs) and one flag that tells writing from asking.
        network: backbone and delta that make features of the inputs; None for the inputs themselves.
        bits: whether targets without classes are bits, so that answers are probabilities.
    """

    name: ClassVar[str] = "dnc"
    transductive: ClassVar[bool] = True
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    cell: DNCCell
    network: Network | None = None
    bits: bool = False

    def init(self, generator: torch.Generator) -> Params:
        """`cell.<name>` and the network's starting values."""
        return start_of(self.cell, self.network, generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The loss on the query after writing the support."""
        return written_loss(self.cell, self.network, params, episode, self.bits)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The machine's state: `memory`, `usage`, `link`, where its heads are, and what its controller carries."""
        state = write_rows(self.cell, self.network, params, blank(support))
        return state_adapter(self.name, self.network, state, support.ways)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Answers in the order of `inputs`; each may depend on the queries before it."""
        answers = read_rows(self.cell, self.network, params, dict(adapter.tensors), inputs)
        return Prediction(answer_means(answers, adapter.facts["ways"], self.bits))
