"""Texts of different lengths laid one behind another in rows of one length, so that hardly any padding is computed.

A batch of 25 short questions, padded to its longest, is more than half padding. The layers of an encoder know no
positions, so they may run on any arrangement of tokens whose attention stays within each text (Krell et al., 2021,
arXiv 2107.02027).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.attention_mask import blocking
from quickstudy.core.transforms import is_mapped

ROW = 32
"""Fewest tokens of a row: shorter rows make more of them and no less work."""

STEP = 8
"""Rows are longer by multiples of this: each shape of a product costs oneDNN memory that it keeps, about a megabyte."""

WORTH = 0.85
"""Packing pays where it leaves at most this share of the places that there are with padding."""


@dataclass(frozen=True)
class Packing:
    """Which token lies where.

    Attributes:
        sources: int64 [row * place] number of the token in [example * token]; 0 at empty places.
        owners: int64 [row, place] number of the example; -1 at empty places.
        places: int64 [example * token] number of the place in [row * place]; 0 for padding.
    """

    sources: Tensor
    owners: Tensor
    places: Tensor

    def packed(self, hidden: Tensor) -> Tensor:
        """[row, place, width] from [example, token, width]."""
        return hidden.flatten(0, 1).index_select(0, self.sources).view(*self.owners.shape, -1)

    def unpacked(self, hidden: Tensor, examples: int) -> Tensor:
        """[example, token, width] from [row, place, width]; padding holds what lies at the first place."""
        return hidden.flatten(0, 1).index_select(0, self.places).view(examples, -1, hidden.shape[-1])

    def additive_mask(self, dtype: torch.dtype) -> Tensor:
        """[row, 1, place, place]: 0 where both places belong to one example, the lowest finite number elsewhere."""
        return blocking(self.owners[:, None, :, None] != self.owners[:, None, None, :], dtype)


def packing_of(mask: Tensor) -> Packing | None:
    """A packing of the tokens where `mask` [example, token] is not 0, or None where it would not pay.

    It does not pay on a GPU, which would wait for the lengths, and cannot be made under `torch.vmap`, where the lengths
    of one task are not known. A row that is all padding keeps its first token.
    """
    if mask.device.type != "cpu" or is_mapped(mask):
        return None
    real = mask != 0
    real[:, 0] |= ~real.any(1)
    lengths = real.sum(1)
    if int(lengths.sum()) > WORTH * real.numel():
        return None
    size = max(-(-int(lengths.max()) // STEP) * STEP, ROW)
    begins, rows = first_fit(lengths.tolist(), size)
    if rows * size > WORTH * real.numel():
        return None
    places = torch.tensor(begins)[:, None] + real.cumsum(1) - 1
    sources = torch.zeros(rows * size, dtype=torch.long)
    owners = torch.full((rows * size,), -1)
    sources[places[real]] = torch.arange(real.numel()).view_as(real)[real]
    owners[places[real]] = torch.arange(len(real))[:, None].expand_as(real)[real]
    return Packing(sources, owners.view(rows, size), torch.where(real, places, 0).flatten())


def first_fit(lengths: list[int], size: int) -> tuple[list[int], int]:
    """For each text the number of its first place, and how many rows of `size` places there are.

    The longest text goes first, each to the first row that has room for it.
    """
    used: list[int] = []
    begins = [0] * len(lengths)
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, taken in enumerate(used) if taken + lengths[text] <= size), len(used))
        if row == len(used):
            used.append(0)
        begins[text] = row * size + used[row]
        used[row] += lengths[text]
    return begins, len(used)
