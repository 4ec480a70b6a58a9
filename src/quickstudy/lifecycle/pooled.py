"""A text encoder that nothing moves, so each text is its pooled vector and is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.types import Fingerprint, Params


@dataclass(frozen=True)
class PooledTexts(Backbone):
    """Features of `encoder` as inputs: the network on top of them is the identity.

    Attributes:
        encoder: what computes them.
    """

    encoder: TextEncoder

    @property
    def width(self) -> int:
        """Number of features."""
        return self.encoder.width

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the encoder."""
        return self.encoder.fingerprint

    def module(self) -> nn.Module:
        """The identity."""
        return nn.Identity()

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - nothing is drawn: nothing moves
        """Nothing."""
        return {}

    def inputs(self, texts: Sequence[str]) -> Tensor:
        """Features float32 [text, width].

        Raises:
            InputError: there are no texts, or one is not a string.
        """
        return self.encoder.embed(texts)
