"""The labelled texts that both sides are given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quickstudy.backbones.pretrained import PACKAGED, source_of
from quickstudy.tasks.intents import read_intents


@dataclass(frozen=True)
class Rows:
    """Texts and their labels, in order."""

    texts: list[str]
    labels: list[str]

    def head(self, count: int) -> Rows:
        """The first `count` of them."""
        return Rows(self.texts[:count], self.labels[:count])

    def numbers(self) -> list[int]:
        """The place of each label among all labels, sorted."""
        order = {label: number for number, label in enumerate(sorted(set(self.labels)))}
        return [order[label] for label in self.labels]


@dataclass(frozen=True)
class Task:
    """A few classes: examples to learn from, and others to be judged on."""

    support: Rows
    query: Rows


def minilm_folder() -> str:
    """Where the weights lie that both sides use."""
    return source_of(PACKAGED)


def rows_of(name: str, split: str, classes: int | None = None) -> Rows:
    """The rows of a split; with `classes`, those of the first so many labels only."""
    table = read_intents(name)
    found = [(t, label) for t, label, s in zip(table.texts, table.labels, table.splits, strict=True) if s == split]
    kept = set(sorted({label for _, label in found})[:classes])
    return Rows([text for text, label in found if label in kept], [label for _, label in found if label in kept])


def disjoint_tasks(rows: Rows, count: int, queries: int, seed: int = 0) -> list[Task]:
    """5-way 5-shot tasks, no two of which share a class, so that each text and each class name is new.

    Raises:
        ValueError: there are not enough classes.
    """
    generator = torch.Generator().manual_seed(seed)
    of_class: dict[str, list[str]] = {}
    for text, label in zip(rows.texts, rows.labels, strict=True):
        of_class.setdefault(label, []).append(text)
    names = sorted(of_class)
    if 5 * count > len(names):
        raise ValueError(f"{count} tasks of 5 classes need {5 * count} classes; there are {len(names)}")
    order = [names[place] for place in torch.randperm(len(names), generator=generator).tolist()]
    return [_drawn(of_class, order[5 * k : 5 * k + 5], queries, generator) for k in range(count)]


def tasks(rows: Rows, count: int, queries: int, seed: int = 0) -> list[Task]:
    """5-way 5-shot tasks; two of them may share classes."""
    return [disjoint_tasks(rows, 1, queries, seed * 10_000 + number)[0] for number in range(count)]


def _drawn(of_class: dict[str, list[str]], names: list[str], queries: int, generator: torch.Generator) -> Task:
    support: list[tuple[str, str]] = []
    query: list[tuple[str, str]] = []
    for name in names:
        places = torch.randperm(len(of_class[name]), generator=generator)[: 5 + queries].tolist()
        drawn = [(of_class[name][place], name) for place in places]
        support += drawn[:5]
        query += drawn[5:]
    return Task(*(Rows([text for text, _ in side], [label for _, label in side]) for side in (support, query)))
