"""Logits of the tokens that are asked about, and of no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class AskedOnly:
    """Stands before the output layer of a transformers model and keeps the activations that are asked about.

    Args:
        model: the model; from now on its output layer works within `about` only.
    """

    def __init__(self, model: Any) -> None:
        self._index: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._keep)

    @contextmanager
    def about(self, asked: Tensor) -> Iterator[None]:
        """The output layer gives logits [row, asked, vocabulary] for `asked` int64 [row, asked], places counted from 1;
        0 stands for padding, and gets those of some place."""
        self._index = (asked - 1).clamp(min=0)
        try:
            yield
        finally:
            self._index = None

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self._index is not None, "the output layer was called by another than its module"
        index = self._index[:, :, None].expand(-1, -1, inputs[0].shape[-1])
        return (inputs[0].gather(1, index), *inputs[1:])
