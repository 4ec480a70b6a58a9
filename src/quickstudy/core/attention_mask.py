"""Attention masks that also work under `torch.vmap`."""

from __future__ import annotations

import torch
from torch import Tensor


def additive_mask(mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """[example, 1, 1, token]: 0 where `mask` [example, token] is not 0, the lowest finite number elsewhere.

    Models build this from a 2-D mask by looking at its values, which `torch.vmap` forbids; handed a 4-D mask they add
    it to the attention scores as it is. A row that is all padding attends to all tokens alike, so nothing is NaN.

    Raises:
        ValueError: `mask` does not have two axes.
    """
    if mask.dim() != 2:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}; expected [example, token]")
    return blocking(mask[:, None, None, :] == 0, dtype)


def blocking(blocked: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0, and the lowest finite number where `blocked` is True; of the same shape."""
    return torch.zeros(blocked.shape, dtype=dtype, device=blocked.device).masked_fill(blocked, torch.finfo(dtype).min)
