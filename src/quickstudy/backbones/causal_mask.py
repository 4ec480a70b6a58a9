"""Which token may attend to which in a causal language model, whose rows may hold several texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHARED = -1
"""The number of a text that all later texts of the row see."""


def seen(segments: Tensor) -> Tensor:
    """bool [row, token, token]: whether a token (axis 1) sees another (axis 2).

    It sees itself, what comes before it in the same text, and what comes before it in the shared one.

    Args:
        segments: int64 [row, token], the number of the text that a token belongs to, from 1, or `SHARED`; 0 for
            padding.
    """
    tokens = segments.shape[-1]
    before = torch.ones(tokens, tokens, dtype=torch.bool, device=segments.device).tril()
    others = segments[:, None, :]
    return before & ((segments[:, :, None] == others) | (others == SHARED)) & (others != 0)


def places(sees: Tensor) -> Tensor:
    """int64 [row, token]: how many tokens a token sees before it, its place in its text, of what `seen` returned."""
    return (sees.sum(-1) - 1).clamp(min=0)


def masks_for(model: Any, sees: Tensor, asking: Tensor, asked: Tensor) -> Tensor | dict[str, Tensor]:
    """What the model takes as `attention_mask`: 0 where a token is seen, the lowest finite number elsewhere.

    A tensor [row, 1, token, token], or where layers differ in how far they see one for each type of layer.

    Args:
        model: the transformers model.
        sees: bool [row, token, other token].
        asking: int64 [row, token], the places of the tokens.
        asked: int64 [row, other token], those of the others.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    full = _additive(sees, model.dtype)
    if not window or kinds == {"full_attention"}:
        return full
    near = asking[:, :, None] - asked[:, None, :] < window
    narrow = _additive(sees & near, model.dtype)
    return {"full_attention": full, "sliding_attention": narrow} if kinds else narrow


def _additive(sees: Tensor, dtype: torch.dtype) -> Tensor:
    blocked = ~sees[:, None]
    return torch.zeros(blocked.shape, dtype=dtype, device=sees.device).masked_fill(blocked, torch.finfo(dtype).min)
