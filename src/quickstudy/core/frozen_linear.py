"""Linear layers whose weights are no parameters: they are kept in another form, such as few bits, and never move."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenLinear(nn.Module, ABC):
    """y = x W^T + b, with W made anew whenever it is needed and kept for no backward.

    Works under `torch.func`, `torch.vmap` over its inputs, and for derivatives of any order by them.

    Attributes:
        weight: None; there is no such parameter, but transformers models look for its type.
        in_features: size of an input.
        out_features: size of an output.
        bias: a buffer [output], or None.
    """

    weight: None = None

    def __init__(self, in_features: int, out_features: int, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.bias: Tensor | None
        self.register_buffer("bias", None if bias is None else bias.detach())

    @abstractmethod
    def matrix(self, dtype: torch.dtype) -> Tensor:
        """W [output, input], of this type; no gradient leads to it."""

    def forward(self, x: Tensor) -> Tensor:
        """[example, ..., output] from `x` [example, ..., input]."""
        found: Tensor = _Product.apply(x, self, False)  # type: ignore[no-untyped-call]
        return found if self.bias is None else found + self.bias.to(found.dtype)


class _Product(torch.autograd.Function):
    """x W^T, or g W. Each is the derivative of the other by its input, so nothing need be saved."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, layer: FrozenLinear, back: bool) -> Tensor:
        matrix = layer.matrix(x.dtype)
        return x @ matrix if back else F.linear(x, matrix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        _, ctx.layer, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(grad, ctx.layer, not ctx.back), None, None  # type: ignore[no-untyped-call]
