"""Prompts and completions as rows of tokens, one example a row or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from quickstudy.core.types import Batch


@dataclass(frozen=True)
class Example:
    """One example as tokens.

    Attributes:
        prompt: at least one token.
        completion: its end included.
    """

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def packed(examples: Sequence[Example], room: int) -> list[list[Example]]:
    """Rows of examples that have at most `room` tokens together; the longest first, each into the first row it fits."""
    rows: list[list[Example]] = []
    left: list[int] = []
    for example in sorted(examples, key=len, reverse=True):
        row = next((number for number, space in enumerate(left) if space >= len(example)), None)
        if row is None:
            rows.append([])
            left.append(room)
            row = len(rows) - 1
        rows[row].append(example)
        left[row] -= len(example)
    return rows


def padded(rows: Sequence[Sequence[Example]], device: str = "cpu") -> Batch:
    """`rows` as a Batch of equal lengths; see `CausalModule.forward`. The last token of a row is asked about nothing,
    and where an example follows another, neither is the last of the one before."""
    names = ("input_ids", "segments", "asked", "targets")
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    for row in rows:
        tokens: list[int] = []
        marks: list[int] = []
        places: list[int] = []
        wanted: list[int] = []
        for number, example in enumerate(row, 1):
            first = len(tokens) + len(example.prompt)
            tokens += [*example.prompt, *example.completion]
            marks += [number] * len(example)
            places += range(first, first + len(example.completion))
            wanted += example.completion
        for name, values in zip(names, (tokens, marks, places, wanted), strict=True):
            columns[name].append(torch.tensor(values, dtype=torch.int64))
    found = {name: pad_sequence(column, batch_first=True).to(device) for name, column in columns.items()}
    targets = found.pop("targets")
    return Batch(found, targets, torch.ones(len(rows), device=device))
