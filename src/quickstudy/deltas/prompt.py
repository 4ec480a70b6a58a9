"""Prompt tuning (Lester, Al-Rfou and Constant, 2021, arXiv:2104.08691): trained embeddings in front of each text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quickstudy.core.places import PromptPlace, for_rows
from quickstudy.core.types import Params
from quickstudy.deltas.base import Delta

COMMON = 5000
"""A start from the vocabulary takes tokens with numbers below this: the common ones (section 3.2 of the paper)."""

Start: TypeAlias = Literal["random", "vocabulary"] | tuple[int, ...]
"""What a prompt or prefix begins as: numbers drawn from a normal distribution, tokens drawn from the vocabulary, or the
tokens given here, repeated as often as need be."""


@dataclass(frozen=True)
class Prompt(Delta):
    """Embeddings in front of each text, in an encoder-decoder of what the encoder reads.

    Several texts in a row see the same.

    Attributes:
        tokens: how many.
        start: what they begin as: the embeddings of tokens, or `"random"`, of the vocabulary's standard deviation.
    """

    keeps_outputs: ClassVar[bool] = False

    tokens: int = 20
    start: Start = "vocabulary"

    def attach(self, module: nn.Module) -> nn.Module:
        """`module` with the embeddings, all zero, in their place.

        Raises:
            ValueError: `tokens` is below 1, or the module has no place for a prompt.
        """
        check_start(self.tokens, self.start)
        for name, part in list(module.named_modules()):
            if isinstance(part, PromptPlace) and not part.tokens:
                width = _vocabulary(module, part).shape[1]
                parent, _, last = name.rpartition(".")
                setattr(module.get_submodule(parent), last, PromptTokens(part.embedding, self.tokens, width))
                return module
        raise ValueError("the module has no free place for a prompt; give a language model with no prompt yet")

    def init(self, module: nn.Module, start: Params, generator: torch.Generator) -> Params:
        """`<place>.embeddings` [token, width].

        Raises:
            ValueError: `start` lacks the embeddings of the vocabulary, or a token is not in it.
        """
        name, place = next((name, part) for name, part in module.named_modules() if isinstance(part, PromptTokens))
        weight = f"{place.embedding}.weight"
        if weight not in start:
            raise ValueError(f"the backbone gave no starting value for {weight!r}")
        vocabulary = start[weight].detach()
        shape = self.tokens, vocabulary.shape[1]
        if self.start == "random":
            embeddings = torch.randn(shape, generator=generator) * float(vocabulary.float().std())
        else:
            ids = first_tokens(self.start, self.tokens, len(vocabulary), generator).to(vocabulary.device)
            with torch.no_grad():
                embed = module.get_submodule(place.embedding)
                embeddings = functional_call(embed, {"weight": vocabulary}, (ids,)).float().clone()
        return {f"{name}.embeddings": embeddings}


class PromptTokens(PromptPlace):
    """Trained embeddings, of one prompt or, with one more axis in front, of one for each row."""

    def __init__(self, embedding: str, tokens: int, width: int) -> None:
        super().__init__(embedding, tokens)
        self.embeddings = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, rows: int) -> Tensor:
        """[row, token, width].

        Raises:
            ValueError: there are prompts for another number of rows.
        """
        return for_rows(self.embeddings, 2, rows)


def check_start(tokens: int, start: Start) -> None:
    """Refuses what `Start` does not allow.

    Raises:
        ValueError: `tokens` is below 1, or `start` is another word or no tokens.
    """
    if tokens < 1:
        raise ValueError(f"tokens is {tokens}; expected 1 or more")
    if not start or (isinstance(start, str) and start not in ("random", "vocabulary")):
        raise ValueError(f'start is {start!r}; expected "random", "vocabulary" or token numbers')


def first_tokens(start: Start, tokens: int, size: int, generator: torch.Generator) -> Tensor:
    """int64 [token]: those of `start`, or drawn from a vocabulary of `size`.

    Raises:
        ValueError: a token is not in the vocabulary.
    """
    if isinstance(start, str):
        return torch.randint(min(size, COMMON), (tokens,), generator=generator)
    if not all(0 <= number < size for number in start):
        raise ValueError(f"start holds tokens {start}; the vocabulary has the numbers from 0 to {size - 1}")
    return torch.tensor((start * tokens)[:tokens])


def _vocabulary(module: nn.Module, place: PromptPlace) -> Tensor:
    return module.get_parameter(f"{place.embedding}.weight")
