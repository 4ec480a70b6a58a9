"""A transformer over examples and questions: examples see examples, questions see examples, nobody sees a question.

Vaswani et al. 2017, arXiv 1706.03762, with normalisation before each sublayer. There are no position embeddings: the
order of the examples, where it matters, lies in the mask. Keys and values come from the examples only, so they are all
that a set of examples leaves behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, pad

from quickstudy.core.types import Params

HIDDEN = -1e9
"""Added to the score of what must not be seen: finite, so that a row that sees nothing stays finite."""


@dataclass(frozen=True)
class Kept:
    """What the examples leave behind.

    Attributes:
        keys: [layer, example, width].
        values: [layer, example, width].
    """

    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Transformer:
    """Blocks of attention and a two-layer network, each added to what it reads.

    Every token can also attend to one learned slot of a block, so that a token that sees no example has something to
    see. Parameter names are `layers.<i>.<what>`.

    Attributes:
        width: size of a token.
        layers: number of blocks.
        heads: attention heads of a block; divides `width`.
        hidden: units of a block's network.
        normalise: whether queries and keys are brought to unit length, times a learned scale (Henry et al. 2020,
            arXiv 2010.04245).

    Raises:
        ValueError: a number is below 1, or `heads` does not divide `width`.
    """

    width: int = 64
    layers: int = 8
    heads: int = 4
    hidden: int = 256
    normalise: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.hidden) < 1 or self.width % self.heads:
            sizes = f"width {self.width}, layers {self.layers}, heads {self.heads}, hidden {self.hidden}"
            raise ValueError(f"a transformer of {sizes}; give numbers from 1 up, and heads that divide the width")

    def init(self, generator: torch.Generator) -> Params:
        """Starting values; what is added to the tokens is drawn smaller the more layers there are."""
        params: Params = {}
        shares = 1 / math.sqrt(2 * self.layers)
        for number in range(self.layers):
            sizes = {
                "ask": (self.width, self.width, 1.0),
                "keep": (2 * self.width, self.width, 1.0),
                "give": (self.width, self.width, shares),
                "up": (self.hidden, self.width, 1.0),
                "down": (self.width, self.hidden, shares),
            }
            for name, (outputs, inputs, share) in sizes.items():
                params[f"layers.{number}.{name}"] = normal(outputs, inputs, generator) * share
            params[f"layers.{number}.up_bias"] = torch.zeros(self.hidden)
            params[f"layers.{number}.slot"] = torch.zeros(2, self.width)
            if self.normalise:
                params[f"layers.{number}.sharpness"] = torch.zeros(self.heads)
        return params

    def read(self, params: Params, examples: Tensor, questions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Kept]:
        """`(examples [example, width], questions [question, width], what is kept)` after all blocks.

        Args:
            params: those of `init`.
            examples: [example, width].
            questions: [question, width]; may have no rows.
            mask: [example + question, example], or with the heads in front: added to the scores, `HIDDEN` where a
                token does not see an example.
        """
        count, keys, values = len(examples), [], []
        for number in range(self.layers):
            layer = _layer(params, number)
            key, value = linear(_normal(examples), layer["keep"]).chunk(2, -1)
            keys.append(key)
            values.append(value)
            tokens = torch.cat([examples, questions])
            tokens = self._block(layer, tokens, key, value, mask)
            examples, questions = tokens[:count], tokens[count:]
        return examples, questions, Kept(torch.stack(keys), torch.stack(values))

    def ask(self, params: Params, kept: Kept, questions: Tensor, mask: Tensor) -> Tensor:
        """[question, width] after all blocks, from what `read` kept.

        Args:
            params: as in `read`.
            kept: what `read` returned.
            questions: [question, width].
            mask: as in `read`, [question, example].
        """
        for number in range(self.layers):
            questions = self._block(_layer(params, number), questions, kept.keys[number], kept.values[number], mask)
        return questions

    def _block(self, layer: Mapping[str, Tensor], tokens: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        asked = linear(_normal(tokens), layer["ask"])
        key_slot, value_slot = layer["slot"][:1], layer["slot"][1:]
        query, key, value = (
            self._heads(part) for part in (asked, torch.cat([keys, key_slot]), torch.cat([values, value_slot]))
        )
        if self.normalise:
            sharpness = layer["sharpness"].exp()[:, None, None]
            scores = _unit(query) * sharpness @ _unit(key).mT * math.sqrt(self.width / self.heads)
        else:
            scores = query @ key.mT / math.sqrt(self.width / self.heads)
        scores = scores + pad(mask, (0, 1))
        seen = (torch.softmax(scores, -1) @ value).transpose(0, 1).flatten(1)
        tokens = tokens + linear(seen, layer["give"])
        hidden = gelu(linear(_normal(tokens), layer["up"], layer["up_bias"]), approximate="tanh")
        return tokens + linear(hidden, layer["down"])

    def _heads(self, tokens: Tensor) -> Tensor:
        """[head, token, width of a head]."""
        return tokens.reshape(len(tokens), self.heads, self.width // self.heads).transpose(0, 1)


def normal(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """[output, input]: weights that keep the variance of normal inputs."""
    return torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)


def _layer(params: Params, number: int) -> dict[str, Tensor]:
    prefix = f"layers.{number}."
    return {name[len(prefix) :]: tensor for name, tensor in params.items() if name.startswith(prefix)}


def _normal(tokens: Tensor) -> Tensor:
    """Mean 0 and variance 1 in each token; gains and shifts lie in the weights that follow."""
    return layer_norm(tokens, tokens.shape[-1:])


def _unit(parts: Tensor) -> Tensor:
    return parts * torch.rsqrt(parts.square().sum(-1, keepdim=True) + 1e-6)
