"""Layers that read a sequence and see only what came before: dilated convolutions and attention, dense connections.

Mishra, Rohaninejad, Chen, Abbeel 2018, arXiv 1707.03141. Each layer returns its input with new features behind it, and
what a token after the end of the sequence needs of it, so that many such tokens can be answered one by one, cheaply.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from quickstudy.core.types import Params
from quickstudy.learners.transformer import HIDDEN, normal


def dense_start(name: str, inputs: int, filters: int, generator: torch.Generator) -> Params:
    """Starting values of a dense block of that name: kernels of two taps for the signal and its gate."""
    weight = normal(2 * filters, 2 * inputs, generator)
    return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(2 * filters)}


def attention_start(name: str, inputs: int, keys: int, values: int, generator: torch.Generator) -> Params:
    """Starting values of an attention block of that name."""
    return {
        f"{name}.ask": normal(keys, inputs, generator),
        f"{name}.keep": normal(keys + values, inputs, generator),
        f"{name}.keep_bias": torch.zeros(keys + values),
    }


def dense_block(params: Params, name: str, tokens: Tensor, before: Tensor) -> Tensor:
    """[token, input + filter]: `tokens`, and tanh(s) * sigmoid(g) of a convolution with taps now and `before`.

    Args:
        params: those of `dense_start`.
        name: as there.
        tokens: [token, input].
        before: [token, input] or [1, input]: what stood the block's dilation earlier, zeros before the beginning.
    """
    both = torch.cat([tokens, before.expand_as(tokens)], -1)
    signal, gate = linear(both, params[f"{name}.weight"], params[f"{name}.bias"]).chunk(2, -1)
    return torch.cat([tokens, signal.tanh() * gate.sigmoid()], -1)


def earlier(tokens: Tensor, dilation: int) -> Tensor:
    """[token, input]: what stood `dilation` rows before each of `tokens` [token, input]; zeros before the beginning."""
    return pad(tokens, (0, 0, dilation, 0))[: len(tokens)]


def before_end(tokens: Tensor, count: Tensor, dilation: int) -> Tensor:
    """[1, input]: what stands `dilation` rows before row `count` (a scalar) of `tokens`; zeros before the beginning."""
    rows = torch.arange(len(tokens), device=tokens.device)
    return (rows == count - dilation).to(tokens.dtype)[None] @ tokens


def keys_and_values(params: Params, name: str, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Keys [token, key] and values [token, value] of an attention block."""
    keys = params[f"{name}.ask"].shape[0]
    kept = linear(tokens, params[f"{name}.keep"], params[f"{name}.keep_bias"])
    return kept[..., :keys], kept[..., keys:]


def attention_block(params: Params, name: str, tokens: Tensor, sequence: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """[token, input + value]: `tokens`, and what each reads of the sequence and of itself.

    Args:
        params: those of `attention_start`.
        name: as there.
        tokens: [token, input].
        sequence: keys [row, key] and values [row, value] of `keys_and_values`.
        mask: [token, row], true where a token sees a row; itself it always sees beside these.
    """
    own_keys, own_values = keys_and_values(params, name, tokens)
    asked = linear(tokens, params[f"{name}.ask"]) / math.sqrt(own_keys.shape[-1])
    scores = torch.where(mask, asked @ sequence[0].mT, HIDDEN)
    own = (asked * own_keys).sum(-1, keepdim=True)
    shares = torch.softmax(torch.cat([scores, own], -1), -1)
    read = shares[:, :-1] @ sequence[1] + shares[:, -1:] * own_values
    return torch.cat([tokens, read], -1)
