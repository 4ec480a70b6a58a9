"""In-context learning by a model that was tuned on the same examples: test-time training.

Akyürek et al., 2024, arXiv 2411.07279, on one task at a time: gradient steps on a delta, where the loss of each is that
of every example after those before it, in an order drawn anew for each step. The tuned model then reads all examples
before each prompt. Here the delta's start may be meta-trained, by first-order MAML.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from quickstudy.core.inner import InnerLoop, adapt_parameters
from quickstudy.core.parameters import split
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.language_rows import Rows, after_all, logits_after, rows_of
from quickstudy.learners.losses import blank, query_loss, text_loss
from quickstudy.learners.network import Network
from quickstudy.learners.writing import Prompting

READ = ("input_ids", "segments")
"""What an adapter keeps of the support, beside what moved."""


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
        """What moved, by its names in `params`, and the support's `input_ids` and `segments` [example, token]."""
        support = blank(support)

        def loss(current: Params, step: int) -> Tensor:
            return text_loss(self.network, current, _reordered(support, step))

        adapted = adapt_parameters(loss, params, self.network.steered(self.inner))
        _, moved = split(adapted, self.inner.freeze)
        read = {name: rows_of(support.inputs)[name] for name in READ}
        return Adapter({**moved, **read}, self.name, base=self.network.backbone.fingerprint)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits [example, token asked about, vocabulary], each example after all of the support."""
        tuned, read = _parted(params, adapter)
        return Prediction(logits_after(partial(self.network, tuned), read, rows_of(inputs)))

    def continued(self, params: Params, adapter: Adapter, rows: Rows) -> tuple[Params, Rows]:
        """The tuned parameters, and `rows` with the support before them."""
        tuned, read = _parted(params, adapter)
        return tuned, after_all(read, rows)


def _parted(params: Params, adapter: Adapter) -> tuple[Params, Rows]:
    """The parameters with what moved in them, and the support."""
    moved = {name: tensor for name, tensor in adapter.tensors.items() if name not in READ}
    return {**params, **moved}, {name: adapter.tensors[name] for name in READ}


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
