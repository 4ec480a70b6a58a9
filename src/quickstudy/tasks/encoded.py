"""Texts encoded once, so that drawing an episode only indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Inputs

Encode: TypeAlias = Callable[[Sequence[str]], Inputs]
"""Texts to what a backbone reads, such as the `inputs` of a text encoder; the text on axis 0 of each tensor."""

MASK = "mask"
"""The name of the tensor [text, token] that is 0 where there is padding. Every other tensor with the same first two
axes is taken to have tokens on its second axis too, and is cut where all rows are padding."""

CHUNK = 512


@dataclass(frozen=True)
class EncodedTexts:
    """Texts that are encoded all at once when first asked for, or each time anew.

    Attributes:
        encode: what turns texts into inputs.
        texts: the texts; rows are asked for by their numbers here.
        keep: True to hold the encoding of all texts in memory; False to encode what is asked for, for tables whose
            encodings are too large or whose texts are hardly ever asked for twice.
    """

    encode: Encode
    texts: tuple[str, ...]
    keep: bool = True

    def __call__(self, rows: Tensor) -> Inputs:
        """Inputs of the texts with these numbers [example], tokens padded to the longest of them."""
        if not self.keep:
            return self.encode([self.texts[row] for row in rows.tolist()])
        return self._packed(rows)

    @cached_property
    def _packed(self) -> Packed:
        order = sorted(range(len(self.texts)), key=lambda row: len(self.texts[row]))
        pieces = []
        for begin in range(0, len(order), CHUNK):
            numbers = order[begin : begin + CHUNK]
            inputs = self.encode([self.texts[number] for number in numbers])
            named = inputs if isinstance(inputs, dict) else {"": inputs}
            wrong = [(name, list(leaf.shape)) for name, leaf in named.items() if leaf.shape[:1] != (len(numbers),)]
            if wrong:
                raise TaskError(f"encode was given {len(numbers)} texts and returned {wrong}; expected one row a text")
            pieces.append(named)
        places = torch.empty(len(order), dtype=torch.long)
        places[torch.tensor(order)] = torch.arange(len(order))
        return pack(pieces, places)


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows of different numbers of tokens, one after the other without padding.

    Attributes:
        tokens: name -> [token of any row, ...].
        whole: name -> [row, ...], for tensors without tokens.
        begins: [row] number of the first token of the row.
        lengths: [row] number of tokens.
        places: [text] row of the text.
    """

    tokens: dict[str, Tensor]
    whole: dict[str, Tensor]
    begins: Tensor
    lengths: Tensor
    places: Tensor

    def __call__(self, texts: Tensor) -> Inputs:
        """Inputs of the texts with these numbers [example]; padding is 0."""
        rows = self.places[texts]
        found = {name: leaf[rows.to(leaf.device)] for name, leaf in self.whole.items()}
        if not self.tokens:
            return found.get("", found)
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        real = steps < lengths[:, None]
        where = torch.where(real, self.begins[rows][:, None] + steps, 0)
        for name, leaf in self.tokens.items():
            taken = leaf[where.to(leaf.device)]
            hole = ~real.to(leaf.device).reshape(*real.shape, *[1] * (taken.dim() - 2))
            found[name] = taken.masked_fill_(hole, 0)
        return found


def pack(pieces: Sequence[dict[str, Tensor]], places: Tensor) -> Packed:
    """The rows of `pieces`, one after the other.

    Raises:
        TaskError: tensors without tokens whose shapes differ from piece to piece, so that they cannot be joined.
    """
    tokens: dict[str, list[Tensor]] = {}
    whole: dict[str, list[Tensor]] = {}
    lengths = []
    for piece in pieces:
        mask = piece.get(MASK)
        real = torch.zeros(len(next(iter(piece.values()))), 0, dtype=torch.bool) if mask is None else _up_to_last(mask)
        lengths.append(real.sum(1).cpu())
        for name, leaf in piece.items():
            if mask is not None and leaf.shape[:2] == mask.shape:
                tokens.setdefault(name, []).append(leaf[real])
            else:
                whole.setdefault(name, []).append(leaf)
    for name, leaves in whole.items():
        if len({leaf.shape[1:] for leaf in leaves}) > 1:
            shapes = sorted({tuple(leaf.shape[1:]) for leaf in leaves})
            raise TaskError(
                f"encode returned {name or 'a tensor'} of different shapes {shapes} for different texts; "
                f"expected one shape, or a dictionary with a {MASK!r} [text, token] that says what is padding"
            )
    joined = torch.cat(lengths)
    return Packed(
        {name: torch.cat(leaves) for name, leaves in tokens.items()},
        {name: torch.cat(leaves) for name, leaves in whole.items()},
        joined.cumsum(0) - joined,
        joined,
        places,
    )


def _up_to_last(mask: Tensor) -> Tensor:
    """[row, token], True up to the last token that is not padding; padding before it is kept."""
    return mask.bool().flip(1).cumsum(1).flip(1) > 0
