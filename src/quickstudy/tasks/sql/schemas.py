"""Random schemas with typed columns, keys and links, and small random contents to run queries on."""

from __future__ import annotations

import datetime
import random
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import torch

from quickstudy.tasks.draws import Size, check_size, largest, smallest
from quickstudy.tasks.sql import words

Value: TypeAlias = str | int | float | bool | datetime.date | None
Contents: TypeAlias = dict[str, list[tuple[Value, ...]]]
"""Name of a table -> its rows, in the order of its columns."""

PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
FIRST_DAY = datetime.date(2018, 1, 1)
DAYS = 2200


class Kind(StrEnum):
    """The type of a column, by its canonical name."""

    INT = "INT"
    DOUBLE = "DOUBLE"
    TEXT = "TEXT"
    DATE = "DATE"
    BOOLEAN = "BOOLEAN"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: as it is; `needs_quotes` says whether SQL must quote it.
        kind: its type.
        nullable: whether its contents may hold NULL.
        words: the values of a text column.
        links: the table whose `id` it holds, or "".
    """

    name: str
    kind: Kind
    nullable: bool = False
    words: tuple[str, ...] = ()
    links: str = ""


@dataclass(frozen=True)
class Table:
    """A table; the first column of one that `draw_schema` makes is its key `id`."""

    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Schema:
    """Tables that link to earlier ones."""

    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        """The table of this name.

        Raises:
            KeyError: there is none.
        """
        return {table.name: table for table in self.tables}[name]

    def text(self) -> str:
        """One line: `customers(id INT, name TEXT), orders(id INT, customer_id INT)`."""
        parts = [f"{t.name}({', '.join(f'{c.name} {c.kind}' for c in t.columns)})" for t in self.tables]
        return ", ".join(parts)


def needs_quotes(name: str) -> bool:
    """Whether canonical SQL quotes the name: it is no plain lower-case word, or a keyword everywhere."""
    return not PLAIN.fullmatch(name) or name in {"order", "group", "table", "select", "user", "end"}


def seeded(generator: torch.Generator) -> random.Random:
    """A fast source of draws whose seed is one draw from `generator`."""
    return random.Random(int(torch.randint(2**62, (), generator=generator)))


def draw_schema(generator: torch.Generator, tables: Size = (2, 3), columns: Size = (4, 6)) -> Schema:
    """Tables with a key and columns of several types; each table after the first links to an earlier one.

    Args:
        generator: of all draws.
        tables: number of tables, up to 40.
        columns: columns of a table, without its key and its link, from 2 up to 12.

    Raises:
        TaskError: a size without meaning.
    """
    check_size("tables", tables)
    check_size("columns", columns, 2)
    rng = seeded(generator)
    named = rng.sample(words.TABLES, rng.randint(smallest(tables), min(largest(tables), len(words.TABLES))))
    made: list[Table] = []
    for place, (name, _) in enumerate(named):
        own = [Column("id", Kind.INT)]
        if place:
            target, one = named[rng.randrange(place)]
            own.append(Column(f"{one}_id", Kind.INT, links=target))
        own += _columns(rng, rng.randint(smallest(columns), min(largest(columns), 12)))
        made.append(Table(name, tuple(own)))
    return Schema(tuple(made))


def draw_contents(schema: Schema, generator: torch.Generator, rows: int = 12) -> Contents:
    """Rows with keys from 1 up, links that lead somewhere, and NULL in every sixth cell where it may be."""
    rng = seeded(generator)
    return {
        table.name: [tuple(_cell(column, key, rows, rng) for column in table.columns) for key in range(1, rows + 1)]
        for table in schema.tables
    }


def draw_value(column: Column, rng: random.Random) -> str | int | float | bool | datetime.date:
    """A value such as the contents of the column have, not NULL. Floats are quarters, which engines hold exactly."""
    match column.kind:
        case Kind.INT:
            return rng.randint(1, 12) if column.links or column.name == "id" else rng.randint(1, 60)
        case Kind.DOUBLE:
            return rng.randint(2, 200) / 4
        case Kind.TEXT:
            return rng.choice(column.words or words.TEXT_COLUMNS["code"])
        case Kind.DATE:
            return FIRST_DAY + datetime.timedelta(days=rng.randrange(DAYS))
        case Kind.BOOLEAN:
            return rng.random() < 0.5


def _columns(rng: random.Random, count: int) -> list[Column]:
    """Different columns; the first is a text and the second a number, so that every query has something to ask."""
    kinds = [Kind.TEXT, rng.choice((Kind.INT, Kind.DOUBLE)), *rng.choices(list(Kind), (3, 3, 3, 3, 2), k=count)]
    made: dict[str, Column] = {}
    for kind in kinds:
        name = _name(kind, rng)
        made.setdefault(name, Column(name, kind, rng.random() < 0.4, words.TEXT_COLUMNS.get(name, ())))
    return list(made.values())[:count]


def _name(kind: Kind, rng: random.Random) -> str:
    pools = {
        Kind.TEXT: tuple(words.TEXT_COLUMNS),
        Kind.INT: words.INT_COLUMNS,
        Kind.DOUBLE: words.DOUBLE_COLUMNS,
        Kind.DATE: words.DATE_COLUMNS,
        Kind.BOOLEAN: words.BOOLEAN_COLUMNS,
    }
    return rng.choice(pools[kind])


def _cell(column: Column, key: int, rows: int, rng: random.Random) -> Value:
    if column.name == "id":
        return key
    if column.links:
        return rng.randint(1, rows)
    if column.nullable and rng.random() < 1 / 6:
        return None
    return draw_value(column, rng)
