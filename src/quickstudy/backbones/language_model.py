"""The contract of a backbone that writes: prompts and completions in, logits of tokens out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.backbones.base import Backbone
from quickstudy.backbones.language_tokens import end_token, text_of
from quickstudy.backbones.pretrained import Base
from quickstudy.core.frozen_linear import FrozenLinear
from quickstudy.core.types import Batch, Fingerprint, Params


class LanguageModel(Backbone):
    """A pretrained model whose features are logits of tokens, [row, token asked about, vocabulary].

    Its module is called as `module(inputs, cache)`; without a cache each row is computed whole.
    """

    @property
    @abstractmethod
    def _base(self) -> Base:
        """The transformers model and its tokeniser."""

    @property
    def width(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self._base.model.get_output_embeddings().out_features)

    @property
    def fingerprint(self) -> Fingerprint:
        """Name, revision and digest of the weights as they are stored, in whatever type they are computed."""
        return self._base.fingerprint

    @property
    def end(self) -> int:
        """The token that ends a completion.

        Raises:
            InputError: the tokeniser has none.
        """
        return end_token(self._base)

    @property
    def linears(self) -> tuple[str, ...]:
        """The last parts of the names of its linear layers, sorted, but not of the one that computes the logits."""
        return linear_names(self.module())

    def start(self, generator: torch.Generator) -> Params:  # noqa: ARG002 - nothing is drawn: the weights are given
        """The pretrained weights, not copied: `model.<name in the transformers model>` -> tensor."""
        return {name: tensor.detach() for name, tensor in self.module().named_parameters()}

    def text(self, tokens: Sequence[int]) -> str:
        """What `tokens` say, without special ones."""
        return text_of(self._base, tokens)

    @abstractmethod
    def batch(
        self, prompts: Sequence[str], completions: Sequence[str], pack: bool = False, notes: Sequence[str] = ()
    ) -> Batch:
        """Prompts with their completions as a learner reads them: targets int64 [row, asked] are tokens."""

    @abstractmethod
    def begin(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Inputs that ask for the first token of the completion of each prompt."""

    @abstractmethod
    def after(self, inputs: dict[str, Tensor], tokens: Tensor) -> dict[str, Tensor]:
        """Inputs that ask for the token after `tokens` int64 [row, 1], where the cache holds what `inputs` had."""

    @abstractmethod
    def room(self, inputs: dict[str, Tensor]) -> int:
        """How many tokens can be written after each row of `inputs`."""

    @abstractmethod
    def new_cache(self) -> Any:
        """An empty cache for the module."""


def linear_names(module: nn.Module) -> tuple[str, ...]:
    """The last parts of the names of the linear layers of a language model's `module`, sorted, but not of the one that
    computes the logits."""
    last: Any = module.model.get_output_embeddings()  # type: ignore[union-attr, operator] # a transformers model
    found = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | FrozenLinear)}
    return tuple(sorted({name.rpartition(".")[2] for name, part in found.items() if part is not last}))
