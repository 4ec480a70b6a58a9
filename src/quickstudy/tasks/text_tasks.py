"""Tasks of texts to be written: prompts, each with the completion that is wanted after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource


class Encode(Protocol):
    """Prompts, completions and notes to what a learner reads, such as the `batch` of a language model."""

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], *, notes: Sequence[str] = ()) -> Batch:
        """One batch."""
        ...


@dataclass(frozen=True)
class Pair:
    """One example: what is given, and what is to be written after it."""

    prompt: str
    completion: str


class WritingTask(Protocol):
    """One task, drawn."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def description(self) -> str:
        """What is to be done, in words; empty where nobody says."""
        ...

    @property
    def support(self) -> tuple[Pair, ...]:
        """The examples to learn from."""
        ...

    @property
    def query(self) -> tuple[Pair, ...]:
        """The examples to be judged on; no prompt of them is in `support`."""
        ...


@dataclass(frozen=True)
class TextTask:
    """A `WritingTask` and nothing more."""

    name: str
    description: str
    support: tuple[Pair, ...]
    query: tuple[Pair, ...]


class TextTaskSource(ABC):
    """A distribution over such tasks: a frozen dataclass."""

    @abstractmethod
    def draw(self, generator: torch.Generator) -> WritingTask:
        """One task; the same seed gives the same."""


@dataclass(frozen=True)
class EncodedTextTasks(TaskSource):
    """Text tasks as episodes of tokens.

    Attributes:
        source: of the tasks.
        encode: what turns a task's pairs into a batch.
        describe: whether the task's description, where it has one, is a note of the support.
    """

    source: TextTaskSource
    encode: Encode
    describe: bool = False

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode: targets are tokens, `ways` 0."""
        return self.episode(self.source.draw(generator))

    def episode(self, task: WritingTask) -> Episode:
        """`task` as an episode."""
        notes = [task.description] if self.describe and task.description else []
        return Episode(self._encoded(task.support, notes), self._encoded(task.query), task.name)

    def _encoded(self, pairs: Sequence[Pair], notes: Sequence[str] = ()) -> Batch:
        return self.encode([pair.prompt for pair in pairs], [pair.completion for pair in pairs], notes=notes)
