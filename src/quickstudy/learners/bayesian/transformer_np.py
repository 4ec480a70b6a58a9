"""Transformer neural process with independent answers, TNP-D. Nguyen and Grover, 2022, arXiv 2207.04179.

Each example is one token: a support token holds x and y, a query token x alone. Support tokens see the support; a query
token sees the support and itself, so that queries are answered in parallel and do not depend on each other. The last
state of a query token gives mean and deviation. The adapter holds the support's keys and values in each block, so a
later query costs its own row only. Blocks normalise before each part, which takes larger learning rates than after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.attention import (
    attend,
    attend_and_self,
    check_heads,
    finished,
    log_weights,
    norm,
    projected,
    start_block,
    start_norm,
)
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import blank, weighted_mean
from quickstudy.learners.processes import (
    check_sizes,
    density,
    layers,
    marked,
    normal,
    one_tensor,
    packed,
    pairs,
    process_loss,
    start_layers,
)


@dataclass(frozen=True)
class TransformerNP(Learner):
    """Reads the support as a sequence without order.

    Attributes:
        inputs, outputs: number of inputs and of outputs.
        width: of a token.
        heads, blocks: number of them; heads divide `width`.
        hidden: width of the inner layer of a block.
        embedding: number of layers that make a token.
        rows: where support and query never hold more real rows together, `loss` runs so many at once, without padding;
            more make it NaN. 0 runs support and query one after the other, padding included.
        least: smallest predictive deviation.
        device: where the meta-parameters lie.

    Raises:
        ValueError: a size is below 1, or `heads` does not divide `width`.
    """

    name: ClassVar[str] = "transformer_np"

    inputs: int = 1
    outputs: int = 1
    width: int = 64
    heads: int = 4
    blocks: int = 6
    hidden: int = 128
    embedding: int = 3
    rows: int = 0
    least: float = 0.01
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_sizes(inputs=self.inputs, outputs=self.outputs, width=self.width, heads=self.heads, hidden=self.hidden)
        check_sizes(blocks=self.blocks, embedding=self.embedding)
        check_heads(self.width, self.heads)

    def init(self, generator: torch.Generator) -> Params:
        """The layers of embedding, blocks and readout."""
        token = self.inputs + self.outputs + 1
        drawn = start_layers("embed", (token, *[self.width] * self.embedding), generator)
        for block in range(self.blocks):
            drawn |= start_block(f"block{block}", self.width, self.hidden, generator)
        drawn |= start_norm("norm", self.width)
        drawn |= start_layers("read", (self.width, self.hidden, 2 * self.outputs), generator)
        return {name: tensor.to(self.device) for name, tensor in drawn.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """Minus the mean log density of the query's targets."""
        if not self.rows:
            return process_loss(self, params, episode)
        known, given, asked = packed(blank(episode.support), blank(episode.query), self.rows)
        prediction = self._together(params, known, given)
        return -weighted_mean(density(prediction, known[:, self.inputs :]), asked)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`keys` and `values` [block, head, example, part], and their `bias` [example].

        Raises:
            TaskError: the task is not a regression on one tensor.
        """
        support = blank(support)
        bias, known = log_weights(support.weights), marked(pairs(support))
        tokens = self._tokens(params, known[:, : self.inputs], known[:, self.inputs :])
        kept = []
        for block in range(self.blocks):
            name = f"block{block}"
            queries, keys, values = projected(params, name, tokens, self.heads)
            kept.append((keys, values))
            if block < self.blocks - 1:
                tokens = finished(params, name, tokens, attend(queries, keys, values, bias))
        keys, values = (torch.stack(each) for each in zip(*kept, strict=True))
        return Adapter({"keys": keys, "values": values, "bias": bias}, self.name)

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Means and variances [example, output]."""
        tokens = self._tokens(params, one_tensor(inputs))
        keys, values, bias = (adapter.tensors[name] for name in ("keys", "values", "bias"))
        for block in range(self.blocks):
            name = f"block{block}"
            mine = projected(params, name, tokens, self.heads)
            tokens = finished(params, name, tokens, attend_and_self(mine, keys[block], values[block], bias))
        return self._read(params, tokens)

    def _together(self, params: Params, known: Tensor, given: Tensor) -> Prediction:
        """Answers to all rows of `known` [row, input + output] in one pass, where those of weight `given` are shown."""
        shown = given > 0
        y = torch.where(shown[:, None], marked(known[:, self.inputs :]), 0.0)
        tokens = self._tokens(params, known[:, : self.inputs], y)
        itself = torch.eye(len(given), dtype=torch.bool, device=given.device) & ~shown
        bias = torch.where(itself, 0.0, log_weights(given))
        for block in range(self.blocks):
            name = f"block{block}"
            tokens = finished(params, name, tokens, attend(*projected(params, name, tokens, self.heads), bias))
        return self._read(params, tokens)

    def _tokens(self, params: Params, x: Tensor, y: Tensor | None = None) -> Tensor:
        """[row, width] from `x` [row, input] and `y` [row, output + 1], targets and a 1, or zeros where not shown."""
        if y is None:
            y = x.new_zeros(len(x), self.outputs + 1)
        return layers(params, "embed", torch.cat([x, y], -1))

    def _read(self, params: Params, tokens: Tensor) -> Prediction:
        return normal(layers(params, "read", norm(params, "norm", tokens)), self.least)
