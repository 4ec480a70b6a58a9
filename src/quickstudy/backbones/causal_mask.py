"""Which token may attend to which in a causal language model, whose rows may hold several texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quickstudy.core.attention_mask import blocking

SHARED = -1
"""The number of a text that all later texts of the row see."""


def seen(segments: Tensor, new: int) -> Tensor:
    """bool [row, new, token]: whether each of the last `new` tokens (axis 1) sees another (axis 2).

    It sees itself, what comes before it in the same text, and what comes before it in the shared one.

    Args:
        segments: int64 [row, token], the number of the text that a token belongs to, from 1, or `SHARED`; 0 for
            padding.
        new: how many.
    """
    earlier = segments.shape[-1] - new
    before = torch.ones(new, segments.shape[-1], dtype=torch.bool, device=segments.device).tril(earlier)
    others = segments[:, None, :]
    return before & ((segments[:, earlier:, None] == others) | (others == SHARED)) & (others != 0)


def attention_of(model: Any, segments: Tensor, new: int) -> tuple[Tensor | dict[str, Tensor], Tensor]:
    """What the model takes as `attention_mask` and as `position_ids` for the last `new` tokens of each row.

    The mask is 0 where a token is seen, the lowest finite number elsewhere: a tensor [row, 1, new, token], or where
    layers differ in how far they see one for each type of layer. Positions int64 [row, new] are places in a text.

    Args:
        model: the transformers model.
        segments: as in `seen`.
        new: how many tokens are computed; the others are in the cache.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = None if kinds == {"full_attention"} else getattr(config, "sliding_window", None) or None
    # How near an earlier token is takes the places of all.
    sees = seen(segments, new if window is None else segments.shape[-1])
    # How many tokens a token sees before it is its place.
    places = (sees.sum(-1) - 1).clamp(min=0)
    sees, asking = sees[:, -new:], places[:, -new:]
    full = blocking(~sees[:, None], model.dtype)
    if window is None:
        return full, asking
    near = asking[:, :, None] - places[:, None, :] < window
    narrow = blocking(~(sees & near)[:, None], model.dtype)
    return {"full_attention": full, "sliding_attention": narrow} if kinds else narrow, asking
