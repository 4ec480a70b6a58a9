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
from torch.nn.functional import gelu, layer_norm, linear, pad, scaled_dot_product_attention

from quickstudy.core.transforms import transformed
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
        tokens, mask = torch.cat([examples, questions]), pad(mask, (0, 1))
        for number in range(self.layers):
            tokens, key, value = self._block(_layer(params, number), tokens, count, mask)
            keys.append(key)
            values.append(value)
        return tokens[:count], tokens[count:], Kept(torch.stack(keys), torch.stack(values))

    def answer(self, params: Params, examples: Tensor, questions: Tensor, mask: Tensor) -> Tensor:
        """[question, width] after all blocks: what `read` returns of the questions, for less, since nothing is kept and
        the last block leaves out the examples. Takes what `read` takes."""
        count, tokens, mask = len(examples), torch.cat([examples, questions]), pad(mask, (0, 1))
        for number in range(self.layers):
            last = number == self.layers - 1
            tokens, *_ = self._block(_layer(params, number), tokens, count, mask, count if last else 0)
        return tokens

    def ask(self, params: Params, kept: Kept, questions: Tensor, mask: Tensor) -> Tensor:
        """[question, width] after all blocks, from what `read` kept.

        Args:
            params: as in `read`.
            kept: what `read` returned.
            questions: [question, width].
            mask: as in `read`, [question, example].
        """
        mask = pad(mask, (0, 1))
        for number in range(self.layers):
            layer, kept_here = _layer(params, number), (kept.keys[number], kept.values[number])
            questions = questions + self._seen(layer, _normal(questions), kept_here, mask)
            questions = questions + _network(layer, questions)
        return questions

    def _block(
        self, layer: Mapping[str, Tensor], tokens: Tensor, count: int, mask: Tensor, first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens from `first` on after a block, and the keys and values of the first `count`."""
        normal_tokens = _normal(tokens)
        key, value = linear(normal_tokens[:count], layer["keep"]).chunk(2, -1)
        tokens = tokens[first:] + self._seen(layer, normal_tokens[first:], (key, value), mask[..., first:, :])
        return tokens + _network(layer, tokens), key, value

    def _seen(self, layer: Mapping[str, Tensor], tokens: Tensor, kept: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """[token, width]: what attention adds; the last column of `mask` is the learned slot's."""
        slots = layer["slot"].chunk(2)
        query = self._heads(linear(tokens, layer["ask"]))
        key, value = (self._heads(torch.cat([part, slot])) for part, slot in zip(kept, slots, strict=True))
        scale = 1 / math.sqrt(self.width / self.heads)
        if self.normalise:
            query, key = _unit(query) * layer["sharpness"].exp()[:, None, None], _unit(key)
            scale = 1 / scale
        seen = _attention(query, key, value, mask, scale).transpose(0, 1).flatten(1)
        return linear(seen, layer["give"])

    def _heads(self, tokens: Tensor) -> Tensor:
        """[head, token, width of a head]."""
        return tokens.reshape(len(tokens), self.heads, self.width // self.heads).transpose(0, 1)


def normal(outputs: int, inputs: int, generator: torch.Generator) -> Tensor:
    """[output, input]: weights that keep the variance of normal inputs."""
    return torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)


def _layer(params: Params, number: int) -> dict[str, Tensor]:
    prefix = f"layers.{number}."
    return {name[len(prefix) :]: tensor for name, tensor in params.items() if name.startswith(prefix)}


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """[head, token, part]; by the fused kernel where nothing is differentiated or mapped, which it is not made for."""
    if torch.is_grad_enabled() or transformed():
        return torch.softmax(query @ key.mT * scale + mask, -1) @ value
    return scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=mask, scale=scale)[0]


def _network(layer: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    hidden = gelu(linear(_normal(tokens), layer["up"], layer["up_bias"]), approximate="tanh")
    return linear(hidden, layer["down"])


def _normal(tokens: Tensor) -> Tensor:
    """Mean 0 and variance 1 in each token; gains and shifts lie in the weights that follow."""
    return layer_norm(tokens, tokens.shape[-1:])


def _unit(parts: Tensor) -> Tensor:
    return parts * torch.rsqrt(parts.square().sum(-1, keepdim=True) + 1e-6)
