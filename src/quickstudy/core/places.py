"""Places in the module of a language model where a delta puts what is trained in front of each text.

A backbone has one of each kind in its module. A delta puts a module of its own in the stead of a place, as it does with
linear layers, and the backbone calls it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor, nn

KeysAndValues: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Of each layer, both [row, head, token, width]; the first axis is absent where there are no rows."""


class PromptPlace(nn.Module):
    """Where embeddings may come in front of each text. Here there are none.

    Attributes:
        embedding: dotted name, in the whole module, of the layer that makes embeddings of tokens.
        tokens: how many there are.
    """

    def __init__(self, embedding: str, tokens: int = 0) -> None:
        super().__init__()
        self.embedding = embedding
        self.tokens = tokens

    def forward(self, rows: int) -> Tensor:
        """[row, token, width]: the embeddings in front of each of so many rows."""
        raise AssertionError(f"there is no prompt to put in front of {rows} rows")


class PrefixPlace(nn.Module):
    """Where keys and values may come in front of each text. Here there are none.

    Attributes:
        read: keys and values, without rows, that the base computes for a text int64 [token].
        vocabulary: how many tokens there are to read.
        tokens: of how many tokens keys and values come in front.
    """

    def __init__(self, read: Callable[[Tensor], KeysAndValues], vocabulary: int, tokens: int = 0) -> None:
        super().__init__()
        self.read = read
        self.vocabulary = vocabulary
        self.tokens = tokens

    def forward(self, rows: int) -> KeysAndValues:
        """The keys and values in front of each of so many rows."""
        raise AssertionError(f"there is no prefix to put in front of {rows} rows")


def for_rows(tensor: Tensor, axes: int, rows: int) -> Tensor:
    """[row, ...]: `tensor` for each row where it has `axes` axes; itself where it has one more, the row.

    Raises:
        ValueError: it has another number of rows.
    """
    if tensor.dim() == axes:
        return tensor.expand(rows, *tensor.shape)
    if len(tensor) != rows:
        raise ValueError(f"adapters for {len(tensor)} rows were given, but the batch has {rows}")
    return tensor
