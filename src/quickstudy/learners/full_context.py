"""Full-context embeddings: features that know the support set. Vinyals et al. 2016, arXiv 1606.04080, section 2.1.2.

Support: an LSTM reads it forwards, another backwards; g(x_i, S) = forward_i + backward_i + features_i.
Query: an LSTM with attention reads the support a few times. At each step, with the state h and what was read, r:
h = LSTM(features, [h, r]) + features; r = sum_i softmax_i(h . g(x_i, S)) g(x_i, S).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.types import Params
from quickstudy.learners.heads import ABSENT

READ = ("forward", "backward")


def context_start(width: int, generator: torch.Generator) -> Params:
    """Starting values of the three LSTMs for features of `width`: uniform in +-1/sqrt(width).

    `context.<forward|backward|attend>.input` [4 width, width], `.hidden` [4 width, width], or [4 width, 2 width] for
    "attend", and `.bias` [4 width].
    """
    params: Params = {}
    for name in (*READ, "attend"):
        shapes = {"input": (width,), "hidden": (2 * width,) if name == "attend" else (width,), "bias": ()}
        for part, shape in shapes.items():
            draw = torch.rand(4 * width, *shape, generator=generator)
            params[f"context.{name}.{part}"] = (2 * draw - 1) / math.sqrt(width)
    return params


def support_context(params: Params, features: Tensor, weights: Tensor) -> Tensor:
    """g(x_i, S) [example, feature]; rows of weight 0 are passed over.

    Args:
        params: holds `context.*`.
        features: [example, feature].
        weights: [example].
    """
    forward = _read(params, "forward", features, weights)
    backward = _read(params, "backward", features.flip(0), weights.flip(0)).flip(0)
    return forward + backward + features


def query_context(params: Params, features: Tensor, keys: Tensor, weights: Tensor, steps: int) -> Tensor:
    """f(x, S) [query, feature].

    Args:
        params: holds `context.*`.
        features: [query, feature].
        keys: g(x_i, S) [example, feature].
        weights: [example], those of the keys; weight 0 is not attended to.
        steps: how often the support is read.
    """
    logs = torch.where(weights > 0, torch.where(weights > 0, weights, 1.0).log(), ABSENT)
    gates = functional.linear(features, params["context.attend.input"], params["context.attend.bias"])
    state, cell, seen = features, torch.zeros_like(features), torch.zeros_like(features)
    for _ in range(steps):
        hidden = functional.linear(torch.cat([state, seen], 1), params["context.attend.hidden"])
        state, cell = _lstm(gates + hidden, cell)
        state = state + features
        seen = torch.softmax(state @ keys.T + logs, 1) @ keys
    return state


def _read(params: Params, name: str, features: Tensor, weights: Tensor) -> Tensor:
    """[example, feature]: the states of the LSTM `name` after each row."""
    gates = functional.linear(features, params[f"context.{name}.input"], params[f"context.{name}.bias"])
    state = cell = torch.zeros_like(features[0])
    states = []
    for row, weight in zip(gates, weights, strict=True):
        found = _lstm(row + params[f"context.{name}.hidden"] @ state, cell)
        state, cell = (torch.where(weight > 0, new, old) for new, old in zip(found, (state, cell), strict=True))
        states.append(state)
    return torch.stack(states)


def _lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """State and cell [..., width] after a step whose gates [..., 4 width] are summed up already."""
    enter, forget, candidate, leave = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(leave) * torch.tanh(cell), cell
