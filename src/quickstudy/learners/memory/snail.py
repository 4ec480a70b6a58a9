"""SNAIL: a simple neural attentive meta-learner. Mishra, Rohaninejad, Chen, Abbeel, 2018, arXiv 1707.03141.

The sequence (f(x1), y1), ..., (f(xk), yk), (f(x), 0) goes through attention and temporal convolutions in turn, each
seeing only what came before, and each adding features to those before it; the last token is answered. For a block of
temporal convolutions, dilations are 1, 2, 4, ... up to the length of the sequence.

What the support leaves behind is what a token after it needs: keys and values of each attention, and for each
convolution the one row that its second tap reaches. So each query costs one token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Adapter, Batch, Episode, Inputs, Params, Prediction
from quickstudy.learners.base import Learner
from quickstudy.learners.heads import one_hot
from quickstudy.learners.losses import blank, query_loss
from quickstudy.learners.network import Network
from quickstudy.learners.temporal import (
    attention_block,
    attention_start,
    before_end,
    dense_block,
    dense_start,
    earlier,
    keys_and_values,
)
from quickstudy.learners.transformer import normal


@dataclass(frozen=True)
class SNAIL(Learner):
    """Reads the support as a sequence, by temporal convolutions and causal attention.

    Attributes:
        network: backbone and delta that make features of inputs, without a head.
        ways: the largest number of classes.
        length: the largest number of support examples; decides how many dilations there are.
        filters: features that a convolution adds.
        attention: sizes of keys and values of each attention block; a block of convolutions stands between two.

    Raises:
        ValueError: a size is below 1.
    """

    name: ClassVar[str] = "snail"
    order_matters: ClassVar[bool] = True
    weights_repeat: ClassVar[bool] = False

    network: Network
    ways: int = 5
    length: int = 5
    filters: int = 128
    attention: tuple[tuple[int, int], ...] = ((64, 32), (256, 128), (512, 256))

    def __post_init__(self) -> None:
        sizes = [self.ways, self.length, self.filters, *(size for pair in self.attention for size in pair)]
        if min(sizes) < 1 or not self.attention:
            raise ValueError(f"sizes are {sizes}; give numbers from 1 up, and at least one attention block")

    def init(self, generator: torch.Generator) -> Params:
        """The network's starting values, and `block.<i>.*` and `answer`."""
        start = self.network.init(generator)
        width = self.network.backbone.width + self.ways
        own: Params = {}
        for name, dilation, keys, values in self._blocks():
            if dilation:
                own |= dense_start(name, width, self.filters, generator)
            else:
                own |= attention_start(name, width, keys, values, generator)
            width += self.filters if dilation else values
        own |= {"answer": 0.1 * normal(self.ways, width, generator), "answer_bias": torch.zeros(self.ways)}
        return start | {name: tensor.to(self.network.device) for name, tensor in own.items()}

    def loss(self, params: Params, episode: Episode) -> Tensor:
        """The cross-entropy on the query; answers along the support are not trained, as in the paper."""
        return query_loss(self, params, episode)

    def adapt(self, params: Params, support: Batch) -> Adapter:
        """`<block>.before` [1, feature] or `<block>.keys` and `.values` [example, ...], and `weights` [example].

        Raises:
            TaskError: the task is a regression or has more than `ways` classes.
        """
        if not 1 <= support.ways <= self.ways:
            raise TaskError(f"the task has {support.ways} ways (0: regression), this learner takes 1 to {self.ways}")
        support = blank(support)
        features = self.network.features(params, support.inputs)
        labels = pad(one_hot(support, features.dtype), (0, self.ways - support.ways))
        # Real rows first, so that distances count real rows.
        order = torch.argsort((support.weights <= 0).to(torch.int8), stable=True)
        tokens, weights = torch.cat([features, labels], -1)[order], support.weights[order]
        rows = torch.arange(len(tokens), device=tokens.device)
        mask, count = (rows[:, None] > rows) & (weights > 0), (weights > 0).sum()
        tensors = {"weights": weights}
        for name, dilation, *_ in self._blocks():
            if dilation:
                tensors[f"{name}.before"] = before_end(tokens, count, dilation)
                tokens = dense_block(params, name, tokens, earlier(tokens, dilation))
            else:
                kept = keys_and_values(params, name, tokens)
                tensors |= {f"{name}.keys": kept[0], f"{name}.values": kept[1]}
                tokens = attention_block(params, name, tokens, kept, mask)
        base = self.network.backbone.fingerprint
        return Adapter(tensors, self.name, base=base, facts={"ways": support.ways})

    def predict(self, params: Params, adapter: Adapter, inputs: Inputs) -> Prediction:
        """Logits: each input is the token after the support."""
        tensors = adapter.tensors
        tokens = pad(self.network.features(params, inputs), (0, self.ways))
        mask = (tensors["weights"] > 0).expand(len(tokens), -1)
        for name, dilation, *_ in self._blocks():
            if dilation:
                tokens = dense_block(params, name, tokens, tensors[f"{name}.before"])
            else:
                kept = tensors[f"{name}.keys"], tensors[f"{name}.values"]
                tokens = attention_block(params, name, tokens, kept, mask)
        return Prediction(linear(tokens, params["answer"], params["answer_bias"])[..., : adapter.facts["ways"]])

    def _blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """`(name, dilation, keys, values)` of each layer in order; the dilation of an attention block is 0."""
        dilations = [2**power for power in range(math.ceil(math.log2(self.length + 1)))]
        for number, (keys, values) in enumerate(self.attention):
            for dilation in dilations if number else ():
                yield f"block.{number}.dilated{dilation}", dilation, 0, 0
            yield f"block.{number}.attention", 0, keys, values
