"""Models whose linear layers are kept in 8 or 4 bits.

8 bits: of each row w of a matrix, the whole numbers round(127 w / max|w|) (the weights' part of LLM.int8: Dettmers et
al., 2022, arXiv 2208.07339). 4 bits: NormalFloat in blocks of 64 (QLoRA: Dettmers et al., 2023, arXiv 2305.14314), by
bitsandbytes. Matrices are made of them in the type of the inputs, one layer at a time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from quickstudy.core.errors import NotAvailable
from quickstudy.core.frozen_linear import FrozenLinear

Bits: TypeAlias = Literal["", "8bit", "4bit"]
"""In how many bits the linear layers are kept; "" for as they are."""

QUANTISED: tuple[Bits, ...] = ("", "8bit", "4bit")
_BLOCK = 64


def quantise(model: Any, bits: Bits, device: str = "cpu") -> Any:
    """`model`, changed in place, with its linear layers but the output layer in 8 or 4 bits on `device`.

    All else stays as it is, where it is.

    Raises:
        NotAvailable: bitsandbytes, which 4 bits need, is not installed, or the model has no linear layers of its own.
    """
    from transformers.pytorch_utils import Conv1D

    if getattr(model, "is_quantized", False):
        raise NotAvailable("the files hold a quantised model already; name the one that it was made from")
    make = {"8bit": EightBits, "4bit": FourBits}[bits]
    last = model.get_output_embeddings()
    for name, part in list(model.named_modules()):
        if part is last or not isinstance(part, nn.Linear | Conv1D):
            continue
        weight = part.weight.detach().T.contiguous() if isinstance(part, Conv1D) else part.weight.detach()
        parent, _, end = name.rpartition(".")
        bias = None if part.bias is None else part.bias.to(device)
        setattr(model.get_submodule(parent), end, make(weight.to(device), bias))
    return model


class EightBits(FrozenLinear):
    """A linear layer of whole numbers from -127 to 127 and a scale for each output."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias)
        self.scale: Tensor
        self.packed: Tensor
        largest = weight.float().abs().amax(1, keepdim=True)
        self.register_buffer("scale", torch.where(largest > 0, largest, 1.0) / 127)
        self.register_buffer("packed", (weight.float() / self.scale).round().to(torch.int8))

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """[output, input], of this type."""
        return self.packed.to(dtype) * self.scale.to(dtype)


class FourBits(FrozenLinear):
    """A linear layer of NormalFloat numbers, two in a byte, and a scale for each 64 of them.

    Raises:
        NotAvailable: bitsandbytes is not installed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias)
        self.scale: Tensor
        self.packed: Tensor
        packed, state = _bitsandbytes().quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
        self.register_buffer("packed", packed)
        self.register_buffer("scale", state.absmax)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """[output, input], of this type."""
        functional, shape = _bitsandbytes(), torch.Size((self.out_features, self.in_features))
        state = functional.QuantState(self.scale, shape, blocksize=_BLOCK, quant_type="nf4", dtype=dtype)
        found: Tensor = functional.dequantize_4bit(self.packed, state)
        return found


def _bitsandbytes() -> Any:
    try:
        return import_module("bitsandbytes.functional")
    except ImportError as error:
        raise NotAvailable(
            '4 bits need the package bitsandbytes: run `pip install quickstudy[quantised]`, or take quantised="8bit"'
        ) from error
