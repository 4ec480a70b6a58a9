"""transformers' caches: empty ones, with a prefix put into them, and what a text has left in them."""

from __future__ import annotations

from typing import Any

import torch

from quickstudy.core.places import KeysAndValues


def causal_cache() -> Any:
    """An empty cache of a causal language model."""
    from transformers import DynamicCache

    return DynamicCache()


def decoder_cache() -> Any:
    """An empty cache of the decoder of an encoder-decoder."""
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def put_prefix(cache: Any, prefix: KeysAndValues, dtype: torch.dtype) -> None:
    """Adds keys and values of each layer to an empty cache of a causal language model."""
    for number, (keys, values) in enumerate(prefix):
        cache.update(keys.to(dtype), values.to(dtype), number)


def kept(cache: Any) -> KeysAndValues:
    """Of each layer, the keys and values [head, token, width] of the first row."""
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]
