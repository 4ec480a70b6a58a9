"""Tasks of translating canonical SQL into a dialect."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.draws import Size, check_size, largest, smallest
from quickstudy.tasks.sql import words
from quickstudy.tasks.sql.choice import SPLITS, Split
from quickstudy.tasks.sql.dialects import KnownDialect, SQLDialect, known_dialects
from quickstudy.tasks.sql.grammar import Grammar
from quickstudy.tasks.sql.invented import draw_invented
from quickstudy.tasks.sql.schemas import Schema, draw_schema, seeded
from quickstudy.tasks.text_tasks import Pair, TextTaskSource

PIECE = re.compile(r"'(?:[^']|'')*'|\w+|[^\w\s]+")
TRIES = 12


@dataclass(frozen=True)
class SQLTask:
    """A task of writing SQL; no prompt of `query` is one of `support`.

    Attributes:
        name: e.g. "mysql" or "invented-17".
        description: of the task, in English.
        support: the examples.
        query: what is asked for.
        dialect: what the targets are written in.
        schema: the tables that the queries are about; None where they cannot be run.
    """

    name: str
    description: str
    support: tuple[Pair, ...]
    query: tuple[Pair, ...]
    dialect: SQLDialect = field(compare=False)
    schema: Schema | None = None


@dataclass(frozen=True)
class TranslationTasks(TextTaskSource):
    """Canonical SQL -> SQL in a dialect. A task has a dialect of the split and a random schema.

    Attributes:
        split: of the dialects.
        shots: support pairs; a range is drawn anew for each task, here as below.
        queries: query pairs.
        grammar: of the queries.
        invented: the share of tasks whose dialect is an invented one.
        support: "covering" takes those of three times as many queries that show most of what the dialect changes,
            "random" takes any.
        answerable: whether each new word of a query's target is in some target of the support. Where the grammar gives
            no such query in a dozen draws, another one is taken.
    """

    split: Split = "train"
    shots: Size = 10
    queries: Size = 10
    grammar: Grammar = field(default_factory=Grammar)
    invented: float = 0.8
    support: Literal["random", "covering"] = "covering"
    answerable: bool = True

    def draw(self, generator: torch.Generator) -> SQLTask:
        """One task.

        Raises:
            TaskError: a size or a share without meaning, an unknown split, or a grammar with too few queries.
        """
        self._check()
        rng = seeded(generator)
        return self.of(draw_dialect(self.split, self.invented, rng, generator), generator)

    def of(self, dialect: SQLDialect, generator: torch.Generator) -> SQLTask:
        """One task in this dialect; errors as `draw`."""
        self._check()
        rng = seeded(generator)
        schema = draw_schema(generator)
        shots = rng.randint(smallest(self.shots), largest(self.shots))
        queries = rng.randint(smallest(self.queries), largest(self.queries))
        pairs = self._pairs(dialect, schema, rng)
        names = _names(schema)
        if self.support == "covering":
            support = covering([next(pairs) for _ in range(3 * shots)], shots, names)
        else:
            support = [next(pairs) for _ in range(shots)]
        query = self._query(support, pairs, queries, names)
        return SQLTask(dialect.name, dialect.description, tuple(support), tuple(query), dialect, schema)

    def _pairs(self, dialect: SQLDialect, schema: Schema, rng: random.Random) -> Iterator[Pair]:
        """Pairs whose sources differ."""
        seen: set[str] = set()
        misses = 0
        while misses < 1000:
            tree = self.grammar.draw(schema, rng)
            source = tree.sql()
            if source in seen:
                misses += 1
                continue
            misses = 0
            seen.add(source)
            yield Pair(source, dialect.write(tree))
        raise TaskError(f"the grammar {self.grammar} gives {len(seen)} different queries only; give it a larger size")

    def _query(self, support: list[Pair], pairs: Iterator[Pair], count: int, names: frozenset[str]) -> list[Pair]:
        shown = {word for pair in support for word in new_words(pair, names)}
        made: list[Pair] = []
        for _ in range(count):
            pair = next(pairs)
            for _ in range(TRIES if self.answerable else 0):
                if new_words(pair, names) <= shown:
                    break
                pair = next(pairs)
            made.append(pair)
        return made

    def _check(self) -> None:
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        check_choice(self.split, self.invented)


def check_choice(split: str, invented: float) -> None:
    """A split of dialects and the share of invented ones.

    Raises:
        TaskError: the split is unknown, or the share is not from 0 to 1.
    """
    if split not in SPLITS:
        raise TaskError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    if not 0 <= invented <= 1:
        raise TaskError(f"invented is {invented}; expected a share from 0 to 1")


def draw_dialect(split: Split, invented: float, rng: random.Random, generator: torch.Generator) -> SQLDialect:
    """A dialect of the split: with the probability `invented` an invented one, else one that sqlglot writes."""
    if rng.random() < invented:
        return draw_invented(split, generator)
    return KnownDialect(rng.choice(known_dialects(split)))


def covering(pairs: list[Pair], count: int, names: frozenset[str]) -> list[Pair]:
    """As many of the pairs, chosen one after the other: each time the one that adds most of what the dialect changes,
    where a change counts as often as the pairs have it. Changes are signs in a row that only the target has."""
    left = {pair: _changes(pair, names) for pair in pairs}
    frequent = Counter(change for changes in left.values() for change in changes)
    chosen: list[Pair] = []
    covered: set[tuple[str, str]] = set()
    while left and len(chosen) < count:
        best = max(left, key=lambda pair: sum(frequent[change] for change in left[pair] - covered))
        covered |= left.pop(best)
        chosen.append(best)
    return chosen


def new_words(pair: Pair, names: frozenset[str]) -> frozenset[str]:
    """Words and signs of the target that the source has not, without names, texts and numbers."""
    return frozenset(_pieces(pair.completion, names)) - frozenset(_pieces(pair.prompt, names))


def _changes(pair: Pair, names: frozenset[str]) -> set[tuple[str, str]]:
    before, after = _pieces(pair.prompt, names), _pieces(pair.completion, names)
    return set(pairwise(after)) - set(pairwise(before))


def _pieces(text: str, names: frozenset[str]) -> list[str]:
    found = PIECE.findall(text)
    return ["'" if piece[0] == "'" else "0" if piece.isdigit() else "x" if piece in names else piece for piece in found]


def _names(schema: Schema) -> frozenset[str]:
    """All words that are names or values in queries of the grammar."""
    made = {*words.ALIASES, *words.QUERY_NAMES, "none", "high", "yes", "first", "middle", "low", "no", "other"}
    for table in schema.tables:
        made |= {table.name, table.name[0], "a", "b"}
        for column in table.columns:
            made |= {column.name, *column.words}
    return frozenset(part for name in made for part in re.findall(r"\w+", name))
