"""Prompts and completions as the user gave them, checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from quickstudy.core.errors import InputError
from quickstudy.lifecycle.examples import checked_texts


@dataclass(frozen=True)
class WrittenExamples:
    """Prompts, each with what is to be written after it."""

    prompts: tuple[str, ...]
    completions: tuple[str, ...]

    @classmethod
    def checked(cls, prompts: Any, completions: Any) -> Self:
        """The examples.

        Raises:
            InputError: something that is no text, with its number; another number of completions than of prompts.
        """
        asked = checked_texts(prompts)
        if completions is None:
            raise InputError("requires y to be passed, but the target y is None: give a completion for each prompt")
        written = checked_texts(completions)
        if len(asked) != len(written):
            raise InputError(f"{len(asked)} prompts but {len(written)} completions came; give one for each prompt")
        return cls(asked, written)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of the pairs in their order, which some learners read."""
        rows = list(zip(self.prompts, self.completions, strict=True))
        return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()

    def rows(self, numbers: Sequence[int]) -> WrittenExamples:
        """The examples with these numbers, in this order."""
        return WrittenExamples(
            tuple(self.prompts[number] for number in numbers), tuple(self.completions[number] for number in numbers)
        )


def deal_halves(examples: WrittenExamples, seed: int) -> Iterator[tuple[WrittenExamples, WrittenExamples]]:
    """A random half of the examples with the other half, and the other way round."""
    order = torch.randperm(len(examples.prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    middle = len(order) // 2
    halves = [examples.rows(sorted(order[:middle])), examples.rows(sorted(order[middle:]))]
    yield halves[0], halves[1]
    yield halves[1], halves[0]
