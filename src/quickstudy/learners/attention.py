"""Attention of neural processes: heads, weights as log terms, and blocks of a transformer, as functions of parameters.

A row of weight w takes part like w equal rows: the logarithm of w is added to its score. Rows of weight 0 take no part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from quickstudy.core.types import Batch, Params
from quickstudy.learners.processes import layers, linear, one_tensor, pairs, start_layers

NEVER = -1e9
"""The score of a row that takes no part: finite, so that a row that may look nowhere stays finite."""


def log_weights(weights: Tensor) -> Tensor:
    """[example]: the logarithm of `weights`, `NEVER` where they are 0."""
    real = weights > 0
    return torch.where(real, torch.where(real, weights, 1.0).log(), NEVER)


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """[head, row, part] from [row, width]."""
    return rows.reshape(*rows.shape[:-1], heads, -1).transpose(-2, -3)


def merge_heads(rows: Tensor) -> Tensor:
    """[row, width] from [head, row, part]."""
    return rows.transpose(-2, -3).flatten(-2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """[head, query, part]: the mean of `values` [head, key, part] by how near each key is.

    Args:
        queries: [head, query, part].
        keys: [head, key, part].
        values: [head, key, part].
        bias: added to the scores, [key] or [query, key].
    """
    scores = queries @ keys.mT * (1 / math.sqrt(queries.shape[-1])) + bias
    return scores.softmax(-1) @ values


def attend_and_self(mine: tuple[Tensor, Tensor, Tensor], keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """As `attend`, where each query also sees itself, and no other query.

    Args:
        mine: queries, keys and values of the queries, each [head, query, part].
        keys: as in `attend`.
        values: as in `attend`.
        bias: [key].
    """
    queries, own_keys, own_values = mine
    scale = 1 / math.sqrt(queries.shape[-1])
    scores = queries @ keys.mT * scale + bias
    own = (queries * own_keys).sum(-1, keepdim=True) * scale
    shares = torch.cat([scores, own], -1).softmax(-1)
    return shares[..., :-1] @ values + shares[..., -1:] * own_values


def start_block(name: str, width: int, hidden: int, generator: torch.Generator) -> Params:
    """A block of a transformer with normalisation before each part: attention, then two layers."""
    return {
        **start_norm(f"{name}.before", width),
        **start_layers(f"{name}.project", (width, 3 * width), generator),
        **start_layers(f"{name}.merge", (width, width), generator),
        **start_norm(f"{name}.between", width),
        **start_layers(f"{name}.widen", (width, hidden), generator),
        **start_layers(f"{name}.narrow", (hidden, width), generator),
    }


def projected(params: Params, name: str, rows: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [head, row, part] of the block `name` for `rows` [row, width]."""
    found = linear(params, f"{name}.project.0", norm(params, f"{name}.before", rows))
    queries, keys, values = found.chunk(3, -1)
    return split_heads(queries, heads), split_heads(keys, heads), split_heads(values, heads)


def finished(params: Params, name: str, rows: Tensor, attended: Tensor) -> Tensor:
    """[row, width]: what the block makes of `rows` [row, width] and of what they `attended` [head, row, part]."""
    rows = rows + linear(params, f"{name}.merge.0", merge_heads(attended))
    hidden = functional.gelu(linear(params, f"{name}.widen.0", norm(params, f"{name}.between", rows)))
    return rows + linear(params, f"{name}.narrow.0", hidden)


def start_encoder(name: str, widths: Sequence[int], blocks: int, generator: torch.Generator) -> Params:
    """Layers for each pair of input and target, and `blocks` of self-attention over what they give."""
    drawn = start_layers(name, widths, generator)
    for block in range(blocks):
        drawn |= start_block(f"{name}.block{block}", widths[-1], widths[-1], generator)
    return drawn


def encoded(params: Params, name: str, batch: Batch, heads: int, blocks: int) -> Tensor:
    """[example, width]: each pair of `batch`, seen among the others."""
    rows, bias = layers(params, name, pairs(batch)), log_weights(batch.weights)
    for block in range(blocks):
        place = f"{name}.block{block}"
        rows = finished(params, place, rows, attend(*projected(params, place, rows, heads), bias))
    return rows


def start_lookup(inputs: int, width: int, generator: torch.Generator) -> Params:
    """Cross-attention of queries to support inputs: layers on the inputs of both, and the projections of heads."""
    drawn = start_layers("near", (inputs, width, width), generator)
    for part in ("keys", "queries", "values", "merge"):
        drawn |= start_layers(part, (width, width), generator)
    return drawn


def written(params: Params, batch: Batch, rows: Tensor, heads: int) -> Params:
    """`keys` and `values` [head, example, part] and `bias` [example], under which `rows` [example, width] are found."""
    keys = linear(params, "keys.0", layers(params, "near", one_tensor(batch.inputs)))
    values = linear(params, "values.0", rows)
    bias = log_weights(batch.weights)
    return {"keys": split_heads(keys, heads), "values": split_heads(values, heads), "bias": bias}


def looked_up(params: Params, tensors: Mapping[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """[example, width]: what each of `x` [example, input] finds in what `written` gave."""
    queries = split_heads(linear(params, "queries.0", layers(params, "near", x)), heads)
    found = attend(queries, tensors["keys"], tensors["values"], tensors["bias"])
    return linear(params, "merge.0", merge_heads(found))


def check_heads(width: int, heads: int) -> None:
    """Nothing, where `heads` divides `width`.

    Raises:
        ValueError: it does not.
    """
    if width % heads:
        raise ValueError(f"width is {width} and heads is {heads}; give heads that divide the width")


def norm(params: Params, name: str, rows: Tensor) -> Tensor:
    """[row, width]: layer normalisation."""
    return functional.layer_norm(rows, rows.shape[-1:], params[f"{name}.weight"], params[f"{name}.bias"])


def start_norm(name: str, width: int) -> Params:
    """A layer normalisation that changes nothing yet."""
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
