"""Rows of text inputs: features computed in parts of like length, padding dropped, batches put together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._pytree import tree_map

from quickstudy.backbones.precision import DTYPES, faster_dtype
from quickstudy.backbones.text_encoder import CPU_TOKENS, GPU_TOKENS, buckets
from quickstudy.core.types import Batch, Inputs, Params
from quickstudy.learners.network import Network


def text_features(network: Network, params: Params, inputs: Inputs, dtype: torch.dtype = torch.float32) -> Tensor:
    """Float32 [example, feature].

    Where `inputs` have a mask [example, token], rows of like length are computed together, so that little padding is;
    the features are the same. Under `torch.vmap` all rows are computed at once.

    Args:
        network: a backbone and a delta, without a head.
        params: the network's.
        inputs: what its backbone reads.
        dtype: bfloat16 computes under autocast.
    """
    with torch.autocast(network.device.partition(":")[0], dtype, enabled=dtype != torch.float32, cache_enabled=False):
        if isinstance(inputs, Tensor) or "mask" not in inputs or is_mapped(inputs["mask"]):
            return network.features(params, inputs).float()
        lengths: list[int] = inputs["mask"].sum(-1).clamp(min=1).tolist()
        budget = CPU_TOKENS if network.device == "cpu" else GPU_TOKENS
        parts = list(buckets(lengths, budget))
        features = [network.features(params, _cut(inputs, rows, lengths[rows[0]])) for rows in parts]
    place = torch.tensor([row for rows in parts for row in rows], device=features[0].device).argsort()
    return torch.cat(features).float()[place]


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
    found: Batch = tree_map(lambda leaf: leaf[batch.weights > 0], batch)
    return found


def batches(count: int, rows: int, epochs: int) -> list[Tensor]:
    """Row numbers of each step: all of `count`, or parts of about `rows` of them in a new order for each epoch."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(count, generator=generator) for _ in range(epochs)]
    return [part for order in orders for part in order.chunk(-(-count // rows))]


def take(batch: Batch, rows: Tensor) -> Batch:
    """The rows of `batch` with these numbers."""
    found: Batch = tree_map(lambda leaf: leaf[rows], batch)
    return found


def joined(one: Batch, other: Batch) -> Batch:
    """The rows of `one`, then those of `other`; the shorter token axis is padded with zeros."""
    if isinstance(one.inputs, Tensor) or isinstance(other.inputs, Tensor):
        inputs: Inputs = torch.cat([_tensor(one.inputs), _tensor(other.inputs)])
    else:
        inputs = {name: torch.cat(_padded(tensor, other.inputs[name])) for name, tensor in one.inputs.items()}
    targets = torch.cat([one.targets, other.targets])
    return Batch(inputs, targets, torch.cat([one.weights, other.weights]), one.ways)


def is_mapped(tensor: Tensor) -> bool:
    """Whether `tensor` stands for one of many under `torch.vmap`, so that its values cannot be asked for."""
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return bool(functorch.is_batchedtensor(tensor))


def _cut(inputs: dict[str, Tensor], rows: list[int], length: int) -> dict[str, Tensor]:
    """Rows, cut to `length` tokens."""
    return {name: tensor[rows, :length] for name, tensor in inputs.items()}


def _padded(one: Tensor, other: Tensor) -> list[Tensor]:
    length = max(one.shape[1], other.shape[1])
    return [pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, length - tensor.shape[1]]) for tensor in (one, other)]


def _tensor(inputs: Inputs) -> Tensor:
    assert isinstance(inputs, Tensor), "one batch holds a tensor and the other named ones"
    return inputs
