"""The forward pass of a text encoder, safe under `torch.vmap`, with or without its frozen lower part."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.backbones.packing import packing_of
from quickstudy.core.attention_mask import additive_mask
from quickstudy.core.errors import NotAvailable
from quickstudy.core.transforms import transformed

LAYERS = {
    "bert": "encoder.layer",
    "roberta": "encoder.layer",
    "xlm-roberta": "encoder.layer",
    "camembert": "encoder.layer",
    "distilbert": "transformer.layer",
}
"""Where the layers lie in the model types that can be split; each layer is called as `layer(hidden, mask)`."""

FOUR_AXES = ("mpnet",)
"""Further model types that take a ready additive mask [example, 1, 1, token]; all others get the mask [example, token]
and do not run under `torch.vmap`."""

POOLINGS = ("mean", "cls")
ATTENTIONS = ("auto", "eager", "sdpa")


class EncoderModule(nn.Module):
    """Token activations, pooled to one vector per example.

    Attributes:
        model: the transformers model. Parameter names therefore begin with `model.`, as PEFT's do after `base_model.`.
    """

    def __init__(self, model: Any, prefix: int, pooling: str, normalise: bool, attention: str) -> None:
        super().__init__()
        self.model = model
        self.prefix = prefix
        self.pooling = pooling
        self.normalise = normalise
        self.attention = attention

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """[example, width] from `mask` [example, token] and `input_ids` [example, token], or with a prefix `hidden`
        [example, token, width].

        On a CPU, padding is left out of the computation where there is much of it."""
        choose_attention(self.model, self.attention)
        mask = inputs["mask"]
        if self.prefix:
            hidden = run_packed(self.model, inputs["hidden"], mask, self.prefix)
        elif self.model.config.model_type in LAYERS:
            hidden = run_packed(self.model, self.model.embeddings(input_ids=inputs["input_ids"]), mask, 0)
        else:
            hidden = run_all(self.model, inputs["input_ids"], mask)
        return pool(hidden, mask, self.pooling, self.normalise)


def skeleton(model: Any, prefix: int) -> Any:
    """A copy of `model` whose parameters and buffers share their memory with it, without the lowest `prefix` layers.

    Layers keep their numbers, so parameter names stay those of the whole model.
    """
    shared = {id(tensor): nn.Parameter(tensor.detach(), requires_grad=False) for tensor in model.parameters()}
    buffers = {id(tensor): tensor.detach() for tensor in model.buffers()}
    twin = copy.deepcopy(model, {**shared, **buffers})
    if prefix:
        twin.embeddings = nn.Identity()
        layers = layers_of(twin)
        for index in range(prefix):
            layers[index] = nn.Identity()
    return twin


def layers_of(model: Any) -> nn.ModuleList:
    """The layers from the lowest up.

    Raises:
        NotAvailable: it is not known where this type of model keeps them.
    """
    kind = model.config.model_type
    if kind not in LAYERS:
        raise NotAvailable(
            f"a {kind!r} encoder cannot be split into a frozen prefix and a suffix: use prefix=0, "
            f"or an encoder of type {', '.join(LAYERS)}"
        )
    layers: nn.ModuleList = model.get_submodule(LAYERS[kind])
    return layers


def run_all(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Activations [example, token, width] of the last layer."""
    kind = model.config.model_type
    if kind in LAYERS:
        return run_layers(model, model.embeddings(input_ids=input_ids), mask, 0, None)
    if kind in FOUR_AXES:
        mask = additive_mask(mask, model.dtype)
    hidden: Tensor = model(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return hidden


def run_layers(model: Any, hidden: Tensor, mask: Tensor, first: int, stop: int | None) -> Tensor:
    """Activations [example, token, width] after the layers from `first` up to, not including, `stop`."""
    return _through(layers_of(model)[first:stop], hidden, additive_mask(mask, hidden.dtype))


def run_packed(model: Any, hidden: Tensor, mask: Tensor, first: int) -> Tensor:
    """As `run_layers` up to the last layer, without the padding where that pays; what it returns there is undefined."""
    packing = packing_of(mask)
    if packing is None:
        return run_layers(model, hidden, mask, first, None)
    rows = _through(layers_of(model)[first:], packing.packed(hidden), packing.additive_mask(hidden.dtype))
    return packing.unpacked(rows, len(mask))


def _through(layers: nn.ModuleList, hidden: Tensor, ready: Tensor) -> Tensor:
    for layer in layers:
        output = layer(hidden, ready)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def pool(hidden: Tensor, mask: Tensor, pooling: str, normalise: bool) -> Tensor:
    """[example, width]; a row that is all padding gives zeros under mean pooling."""
    if pooling == "cls":
        pooled = hidden[:, 0]
    else:
        weights = mask.to(hidden.dtype)[:, :, None]
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
    if not normalise:
        return pooled
    return pooled * torch.rsqrt(pooled.square().sum(-1, keepdim=True) + 1e-12)


def choose_attention(model: Any, attention: str) -> None:
    """Sets the attention of this one model object.

    `auto` is the fused kernel for plain inference, and eager attention wherever the result may be differentiated or
    mapped: the fused kernel has no second derivative and no rule for `torch.vmap`. On a CPU both take the same time up
    to 64 tokens; at 256 tokens the fused one takes two thirds of the time in training.
    """
    if not model._supports_sdpa:
        return
    if attention == "auto":
        attention = "eager" if torch.is_grad_enabled() or transformed() else "sdpa"
    if model.config._attn_implementation != attention:
        model.config._attn_implementation = attention
