"""Memory-augmented neural network. Santoro, Bartunov, Botvinick, Wierstra, Lillicrap, 2016, arXiv 1605.06065.

A row is read before its target is told: the machine sees (x_t, y_{t-1}) and answers for x_t, so it must bind each
target to the input of the step before. It writes to the row used least or read last. The loss is the mean over all
rows of the sequence, each answered before its target came. The adapter is the state after the support, with the last
target still to be told; each query is one step from there. See `backbones.memory.lru` for the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.backbones.memory import Cell
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank
from quickstudy.learners.network import Network
from quickstudy.learners.sequences import answer_loss, answer_means, ask_rows, start_of, state_adapter, tell_rows


@dataclass(frozen=True)
class MANN(Learner):
    """Binds inputs to the targets that come one row later, in a memory with least recently used access.

    Attributes:
        cell: an `LRUCell`; an `LSTMCell` makes the control without a memory. It reads the features and the target of
            the row before, as wide as its outputs.
        network: backbone and delta that make features of the inputs; None for the inputs themselves.
    """

    name: ClassVar[str] = "mann"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    cell: Cell
    network: Network | None = None

    def init(self, generator: torch.Generator) -> Params:
        """`cell.<name>` and the network's starting values."""
        return start_of(self.cell, self.network, generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The mean loss of all rows: those of the support in their order, then each query after the support."""
        support, query = blank(episode.support), blank(episode.query)
        told, state = tell_rows(self.cell, self.network, params, support)
        asked = ask_rows(self.cell, self.network, params, state, query.inputs)
        targets, weights = (
            torch.cat([getattr(part, name) for part in (support, query)]) for name in ("targets", "weights")
        )
        return answer_loss(torch.cat([told, asked]), Batch({}, targets, weights, support.ways), bits=False)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """The machine's state, and `told` [output], the target that it has not seen yet."""
        _, state = tell_rows(self.cell, self.network, params, blank(support))
        return state_adapter(self.name, self.network, state, support.ways)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """One step for each of `inputs`, all from the same state."""
        answers = ask_rows(self.cell, self.network, params, dict(adapter.tensors), inputs)
        return Prediction(answer_means(answers, adapter.facts["ways"], bits=False))
