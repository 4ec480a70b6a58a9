"""In-context learning by a model that was tuned on the same examples: test-time training.

Akyürek et al., 2024, arXiv 2411.07279, on one task at a time: gradient steps on a delta, where the loss of each is that
of every example after those before it, in an order drawn anew for each step. The tuned model then reads all examples
before each prompt. Here the delta's start may be meta-trained, by first-order MAML.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.parameters import split
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.language_rows import Rows
from quickstudy.learners.losses import blank, query_loss, text_loss
from quickstudy.learners.network import Network
from quickstudy.learners.writing import Prompting


@dataclass(frozen=True)
class TunedDemonstrations(Prompting):
    """Tunes a delta on the examples read in context, and reads them so.

    Attributes:
        network: a language model and a delta, without a head.
        inner: how the inner loop runs; its `rows` have no meaning here, for the examples are one text.
    """

    name: ClassVar[str] = "tuned_demonstrations"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    inner: InnerLoop = field(default_factory=lambda: InnerLoop(order="first"))

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values."""
        return self.network.init(generator)

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy of the query's tokens after tuning and after the support."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """What moved, by its names in `params`, and the demonstrations as `Demonstrations` keeps them."""
        support = blank(support)

        def loss(current: Params, step: int) -> Tensor:
            return text_loss(self.network, current, _reordered(support, step))

        adapted = adapt_parameters(loss, params, self.network.steered(self.inner))
        _, moved = split(adapted, self.inner.freeze)
        read = self._reader.adapt(params, support)
        return replace(read, tensors={**moved, **read.tensors}, learner=self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits [example, token asked about, vocabulary], each example after all demonstrations."""
        return self._reader.predict(*self._tuned(params, adapter), inputs)

    def continued(self, params: Params, adapter: Adapter, rows: Rows) -> tuple[Params, Rows]:
        """The tuned parameters, and `rows` with the demonstrations before them."""
        return self._reader.continued(*self._tuned(params, adapter), rows)

    @property
    def _reader(self) -> Demonstrations:
        return Demonstrations(self.network)

    def _tuned(self, params: Params, adapter: Adapter) -> tuple[Params, Adapter]:
        moved = {name: tensor for name, tensor in adapter.tensors.items() if name in params}
        read = {name: tensor for name, tensor in adapter.tensors.items() if name not in params}
        return {**params, **moved}, replace(adapter, tensors=read)


def _reordered(support: Batch, step: int) -> Batch:
    """The examples in another order; the first step takes them as they are.

    An example's place among the others does not depend on how many rows of padding follow.
    """
    if step == 0:
        return support
    rng = random.Random(step)
    keys = [rng.random() for _ in range(len(support.weights))]
    order = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), device=support.weights.device)
    reordered: Batch = tree_map(lambda leaf: leaf[order], support)
    return reordered
