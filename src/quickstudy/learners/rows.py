"""Rows of text inputs: their features, batches of them, padding dropped, batches put together."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._pytree import tree_map

from quickstudy.backbones.precision import DTYPES, faster_dtype
from quickstudy.core.transforms import is_mapped
from quickstudy.core.types import Batch, Inputs, Params
from quickstudy.learners.network import Network

Rows = TypeVar("Rows", Batch, Inputs)


def text_features(network: Network, params: Params, inputs: Inputs, dtype: torch.dtype = torch.float32) -> Tensor:
    """Float32 [example, feature].

    Args:
        network: a backbone and a delta, without a head.
        params: the network's.
        inputs: what its backbone reads.
        dtype: bfloat16 computes under autocast.
    """
    with torch.autocast(network.device.partition(":")[0], dtype, enabled=dtype != torch.float32, cache_enabled=False):
        return network.features(params, inputs).float()


def compute_dtype(precision: str, device: str) -> torch.dtype:
    """The type that `precision` means on `device`: "float32", "bfloat16", or "auto" for the faster one.

    Raises:
        ValueError: it is none of these.
    """
    if precision == "auto":
        return faster_dtype(device)
    if precision not in DTYPES:
        raise ValueError(f"precision is {precision!r}; give auto, {' or '.join(DTYPES)}")
    return DTYPES[precision]


def without_padding(batch: Batch) -> Batch:
    """The rows of `batch` whose weight is not 0; all of them under `torch.vmap`, which needs one shape."""
    if is_mapped(batch.weights) or bool((batch.weights > 0).all()):
        return batch
    return take(batch, batch.weights > 0)


def batches(count: int, rows: int, epochs: int) -> list[Tensor]:
    """Row numbers of each step: all of `count`, or parts of about `rows` of them in a new order for each epoch."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    return [part for order in orders for part in order.chunk(-(-count // rows))]


def take(examples: Rows, rows: Tensor) -> Rows:
    """The rows of `examples`, a batch or inputs, with these numbers, or where `rows` is true."""
    found: Rows = tree_map(lambda leaf: leaf[rows], examples)
    return found


def joined(one: Batch, other: Batch) -> Batch:
    """The rows of `one`, then those of `other`; the shorter token axis is padded with zeros."""
    if isinstance(one.inputs, Tensor) or isinstance(other.inputs, Tensor):
        inputs: Inputs = torch.cat([_tensor(one.inputs), _tensor(other.inputs)])
    else:
        inputs = {name: torch.cat(_padded(tensor, other.inputs[name])) for name, tensor in one.inputs.items()}
    targets = torch.cat([one.targets, other.targets])
    return Batch(inputs, targets, torch.cat([one.weights, other.weights]), one.ways)


def _padded(one: Tensor, other: Tensor) -> list[Tensor]:
    length = max(one.shape[1], other.shape[1])
    return [pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, length - tensor.shape[1]]) for tensor in (one, other)]


def _tensor(inputs: Inputs) -> Tensor:
    assert isinstance(inputs, Tensor), "one batch holds a tensor and the other named ones"
    return inputs
