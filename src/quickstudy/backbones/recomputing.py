"""Layers that keep their inputs alone and compute the rest again in the backward (Chen et al., 2016, arXiv 1604.06174).

transformers' own checkpointing computes again when `functional_call` has put the module's own parameters back, so that
gradients would belong to other parameters. Here a layer's parameters go with its inputs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from quickstudy.core.errors import NotAvailable
from quickstudy.core.transforms import refuse_transforms
from quickstudy.core.types import Params


def recompute_layers(model: Any) -> None:
    """Makes the layers of a transformers model do so from now on wherever a gradient may be asked for.

    Raises:
        NotAvailable: it is not known what the layers of this type of model are.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers:
        raise NotAvailable(f"the layers of a {model.config.model_type!r} are not known; give recompute=False")
    for layer in layers:
        layer.forward = _Recomputing(layer)


class _Recomputing:
    """The forward pass of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._inside = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if self._inside or not torch.is_grad_enabled():
            return type(self._layer).forward(self._layer, *inputs, **named)
        refuse_transforms("recompute")
        # The first run adds to the caches that were given, a later one to copies of what they were.
        before, first = copied_caches(named), iter([named])

        def run(params: Params) -> Any:
            return self._run(params, inputs, next(first, {}) or copied_caches(before))

        params = dict(self._layer.named_parameters())
        return checkpoint(run, params, use_reentrant=False, preserve_rng_state=False)

    def _run(self, params: Params, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self._inside = True
        try:
            return functional_call(self._layer, params, inputs, named)
        finally:
            self._inside = False


def copied_caches(named: dict[str, Any]) -> dict[str, Any]:
    """`named`, where keys and values that are added to a cache do not reach the caches that were given."""
    from transformers import Cache

    return {name: _copied(value) if isinstance(value, Cache) else value for name, value in named.items()}


def _copied(cache: Any) -> Any:
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin
