"""Random canonical queries over a schema, as sqlglot trees that are equal to what is read from their own text.

A query has a few parts, as many as its size says, of `PARTS`; each part that the schema allows is in it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from sqlglot import exp

from quickstudy.tasks.draws import Size, check_size, largest, smallest
from quickstudy.tasks.sql import words
from quickstudy.tasks.sql.schemas import Column, Kind, Schema, Table, seeded
from quickstudy.tasks.sql.trees import TOPICS, Source, computed, condition, literal, name, negated

T = TypeVar("T")

PARTS: dict[str, float] = {
    "filter": 5,
    "second filter": 2,
    "join": 3,
    "group": 2.5,
    "having": 1,
    "order": 3,
    "limit": 3,
    "offset": 1,
    "distinct": 1,
    "text": 2,
    "concatenation": 1.5,
    "number": 2,
    "date": 2,
    "cast": 2,
    "null": 1.5,
    "case": 1.2,
    "window": 1.2,
    "set operation": 1,
    "common table": 0.8,
    "derived table": 0.5,
    "in query": 0.7,
    "exists": 0.4,
    "scalar query": 0.5,
    "alias": 1,
}
"""A part of a query -> how often it is drawn, in proportion."""

AGGREGATES: tuple[type[exp.AggFunc], ...] = (exp.Sum, exp.Avg, exp.Min, exp.Max)
SET_OPERATIONS = ((exp.Union, True), (exp.Union, False), (exp.Except, True), (exp.Intersect, True))
NUMBERS = (Kind.INT, Kind.DOUBLE)


@dataclass(frozen=True)
class Grammar:
    """A distribution over queries.

    Attributes:
        size: how many parts a query is drawn with; a range is drawn anew for each query. With 1 a query is a line.
        parts: which parts there may be; empty for all of `PARTS`.
    """

    size: Size = (1, 5)
    parts: tuple[str, ...] = ()

    def sample(self, schema: Schema, generator: torch.Generator) -> exp.Query:
        """One query.

        Raises:
            TaskError: a size below 1.
            ValueError: a part that is none of `PARTS`.
        """
        return self.draw(schema, seeded(generator))

    def draw(self, schema: Schema, rng: random.Random) -> exp.Query:
        """One query, as `sample`, from a source of draws that goes on."""
        check_size("size", self.size)
        known = self.parts or tuple(PARTS)
        if not set(known) <= set(PARTS):
            raise ValueError(f"parts are {known}; expected some of {', '.join(PARTS)}")
        count = rng.randint(smallest(self.size), largest(self.size))
        drawn = {rng.choices(known, [PARTS[part] for part in known])[0] for _ in range(count)}
        return _Draw(schema, drawn, rng).query()


class _Draw:
    """The making of one query."""

    def __init__(self, schema: Schema, parts: set[str], rng: random.Random) -> None:
        self.schema, self.parts, self.rng = schema, parts, rng
        self.free = rng.sample(words.ALIASES, len(words.ALIASES))

    def query(self) -> exp.Query:
        table = self.rng.choice(self.schema.tables)
        if "set operation" in self.parts:
            return self._set_operation(table)
        if "common table" in self.parts:
            inner, source = self._inner(table)
            common = exp.CTE(this=inner, alias=exp.TableAlias(this=name(source.name)))
            outer = self._select([source], source.tree())
            outer.set("with_", exp.With(expressions=[common]))
            return outer
        if "derived table" in self.parts:
            inner, source = self._inner(table)
            derived = exp.Subquery(this=inner, alias=exp.TableAlias(this=name(source.name)))
            return self._select([source], derived)
        return self._over_tables(table)

    def _over_tables(self, table: Table) -> exp.Select:
        link = self._link(table) if "join" in self.parts else None
        if link is None:
            alias = table.name[0] if "alias" in self.parts else ""
            source = Source(table.name, table.columns, alias, bool(alias) or "exists" in self.parts)
            return self._select([source], source.tree())
        other, own, theirs = link
        short = self.rng.random() < 0.7
        aliases = _initials(table.name, other.name) if short else ("", "")
        first = Source(table.name, table.columns, aliases[0], True)
        second = Source(other.name, other.columns, aliases[1], True)
        side = "LEFT" if self.rng.random() < 0.35 else None
        on = exp.EQ(this=first.column(own), expression=second.column(theirs))
        kind = "CROSS" if self.rng.random() < 0.07 else None
        join = exp.Join(this=second.tree(), kind=kind) if kind else exp.Join(this=second.tree(), side=side, on=on)
        return self._select([first, second], first.tree(), [join])

    def _link(self, table: Table) -> tuple[Table, Column, Column] | None:
        """Another table, and the columns of this and of the other by which they belong together."""
        found = []
        for other in self.schema.tables:
            found += [(other, c, other.columns[0]) for c in table.columns if c.links == other.name]
            found += [(other, table.columns[0], c) for c in other.columns if c.links == table.name]
        return self.rng.choice(found) if found else None

    def _inner(self, table: Table) -> tuple[exp.Select, Source]:
        """A query for some columns of a table, and it as a source."""
        kept = self._some(table.columns, 3, 4)
        inside = Source(table.name, table.columns)
        made = exp.Select(
            expressions=[inside.column(column) for column in kept],
            from_=exp.From(this=inside.tree()),
            where=exp.Where(this=condition(inside, self.rng.choice(table.columns), self.rng)),
        )
        return made, Source(self.rng.choice(words.QUERY_NAMES), kept)

    def _set_operation(self, table: Table) -> exp.Query:
        kind = self.rng.choice([column.kind for column in table.columns])
        operation, distinct = self.rng.choice(SET_OPERATIONS)
        sides = []
        for side in (table, self.rng.choice(self.schema.tables)):
            fitting = [column for column in side.columns if column.kind is kind]
            use, columns = (side, fitting) if fitting else (table, [c for c in table.columns if c.kind is kind])
            source = Source(use.name, use.columns)
            select = exp.Select(
                expressions=[source.column(self.rng.choice(columns))], from_=exp.From(this=source.tree())
            )
            if self.rng.random() < 0.5:
                select.set("where", exp.Where(this=condition(source, self.rng.choice(use.columns), self.rng)))
            sides.append(select)
        made: exp.Query = operation(this=sides[0], expression=sides[1], distinct=distinct, by_name=False)
        return made

    def _select(self, sources: list[Source], tree: exp.Expr, joins: list[exp.Join] | None = None) -> exp.Select:
        grouped = bool({"group", "having"} & self.parts)
        shown = self._grouped(sources) if grouped else self._plain(sources)
        select = exp.Select(expressions=shown, from_=exp.From(this=tree), joins=joins or None)
        where = self._where(sources)
        if where is not None:
            select.set("where", exp.Where(this=where))
        if grouped:
            plain = [item.copy() for item in shown if isinstance(item, exp.Column)]
            if plain:
                select.set("group", exp.Group(expressions=plain))
            if "having" in self.parts and plain:
                count = exp.Count(this=exp.Star(), big_int=True)
                select.set("having", exp.Having(this=exp.GT(this=count, expression=literal(self.rng.randint(1, 3)))))
        elif "distinct" in self.parts:
            select.set("distinct", exp.Distinct())
        self._finish(select, shown)
        return select

    def _finish(self, select: exp.Select, shown: list[exp.Expr]) -> None:
        limited = bool({"limit", "offset"} & self.parts)
        starred = isinstance(shown[0], exp.Star)
        ordered = {"order", "offset"} & self.parts or (limited and self.rng.random() < 0.5)
        if ordered and not starred:
            select.set("order", exp.Order(expressions=self._order(shown)))
        if limited:
            select.set("limit", exp.Limit(expression=literal(self.rng.choice((1, 2, 3, 5, 10, 20)))))
        if "offset" in self.parts:
            select.set("offset", exp.Offset(expression=literal(self.rng.choice((1, 2, 5, 10)))))

    def _order(self, shown: list[exp.Expr]) -> list[exp.Ordered]:
        keys = self._some([_reference(item) for item in shown], 1, 2)
        made = []
        for key in keys:
            descending = self.rng.random() < 0.5
            last = self.rng.random() < 0.15
            first = not descending if not last else descending
            made.append(exp.Ordered(this=key, desc=True if descending else None, nulls_first=first))
        return made

    def _plain(self, sources: list[Source]) -> list[exp.Expr]:
        drawn = [(source, column) for source in sources for column in self._some(source.columns, 1, 2)]
        shown: list[exp.Expr] = []
        for source, column in drawn:
            shown.append(source.column(column))
            if "alias" in self.parts and len(shown) == 1:
                shown[0] = self._named(shown[0])
        for topic in TOPICS:
            made = computed(self.rng.choice(sources), topic, self.rng) if topic in self.parts else None
            if made is not None:
                shown.append(self._named(made) if self.rng.random() < 0.75 else made)
        if "window" in self.parts:
            shown.append(self._named(self._window(sources[0])))
        if self.parts <= {"filter", "limit"} and self.rng.random() < 0.2:
            return [exp.Star()]
        return shown if len(shown) < 4 else self._few(shown, len(drawn))

    def _few(self, shown: list[exp.Expr], plain: int) -> list[exp.Expr]:
        return [shown[0], *shown[plain:]] if len(shown) - plain >= 2 else shown

    def _grouped(self, sources: list[Source]) -> list[exp.Expr]:
        source = self.rng.choice(sources)
        keys = [c for c in source.columns if c.kind in (Kind.TEXT, Kind.BOOLEAN) or c.links] or list(source.columns)
        shown: list[exp.Expr] = [
            source.column(column) for column in self._some(keys, 1, 2 if len(self.parts) > 3 else 1)
        ]
        if self.rng.random() < 0.15 and "having" not in self.parts:
            shown = []
        shown.append(self._named(self._aggregate(sources)))
        if self.rng.random() < 0.25:
            shown.append(self._aggregate(sources))
        return shown

    def _aggregate(self, sources: list[Source]) -> exp.Expr:
        source = self.rng.choice(sources)
        numbers = [column for column in source.columns if column.kind in NUMBERS]
        drawn = self.rng.random()
        if drawn < 0.3 or not numbers:
            return exp.Count(this=exp.Star(), big_int=True)
        if drawn < 0.4:
            one = source.column(self.rng.choice(source.columns))
            return exp.Count(this=exp.Distinct(expressions=[one]), big_int=True)
        return self.rng.choice(AGGREGATES)(this=source.column(self.rng.choice(numbers)))

    def _window(self, source: Source) -> exp.Window:
        numbers = [column for column in source.columns if column.kind in NUMBERS]
        what: exp.Expr = self.rng.choice((exp.RowNumber(), exp.Rank()))
        if numbers and self.rng.random() < 0.5:
            what = self.rng.choice((exp.Sum, exp.Lag))(this=source.column(self.rng.choice(numbers)))
        by = source.column(self.rng.choice(source.columns))
        key = source.column(source.columns[0])
        descending = self.rng.random() < 0.4
        order = exp.Order(
            expressions=[exp.Ordered(this=key, desc=True if descending else None, nulls_first=not descending)]
        )
        return exp.Window(this=what, partition_by=[by] if self.rng.random() < 0.6 else None, order=order, over="OVER")

    def _where(self, sources: list[Source]) -> exp.Expr | None:
        conditions = []
        for part in ("filter", "second filter"):
            if part in self.parts:
                source = self.rng.choice(sources)
                conditions.append(condition(source, self.rng.choice(source.columns), self.rng))
        for part in ("in query", "exists", "scalar query"):
            nested = self._nested(part, sources[0]) if part in self.parts else None
            if nested is not None:
                conditions.append(nested)
        if not conditions:
            return None
        made = conditions[0]
        for other in conditions[1:]:
            made = (exp.Or if self.rng.random() < 0.35 else exp.And)(this=_operand(made), expression=_operand(other))
        return made

    def _nested(self, part: str, source: Source) -> exp.Expr | None:
        """A condition with a query in it, or None where the schema has no link for it."""
        if part == "scalar query":
            numbers = [column for column in source.columns if column.kind in NUMBERS]
            number = self.rng.choice(numbers) if numbers else None
            if number is None:
                return None
            bare = Source(source.name, source.columns)
            inner = exp.Select(
                expressions=[exp.Avg(this=bare.column(number))], from_=exp.From(this=exp.Table(this=name(source.name)))
            )
            return exp.GT(this=source.column(number), expression=exp.Subquery(this=inner))
        tables = {table.name: table for table in self.schema.tables}
        link = self._link(tables[source.name]) if source.name in tables else None
        if link is None or link[1] not in source.columns:
            return None
        other, own, theirs = link
        if part == "exists":
            far = Source(other.name, other.columns, qualified=True)
            near = Source(source.name, source.columns, source.alias, True)
            on = exp.EQ(this=far.column(theirs), expression=near.column(own))
            inner = exp.Select(expressions=[literal(1)], from_=exp.From(this=far.tree()), where=exp.Where(this=on))
            found: exp.Expr = exp.Exists(this=inner)
            return negated(found) if self.rng.random() < 0.3 else found
        far = Source(other.name, other.columns)
        inner = exp.Select(
            expressions=[far.column(theirs)],
            from_=exp.From(this=far.tree()),
            where=exp.Where(this=condition(far, self.rng.choice(other.columns), self.rng)),
        )
        return exp.In(this=source.column(own), query=exp.Subquery(this=inner))

    def _named(self, item: exp.Expr) -> exp.Alias:
        return exp.Alias(this=item, alias=name(self.free.pop()))

    def _some(self, items: Sequence[T], low: int, high: int) -> tuple[T, ...]:
        return tuple(self.rng.sample(list(items), min(self.rng.randint(low, high), len(items))))


def _reference(item: exp.Expr) -> exp.Expr:
    """What ORDER BY calls a projection."""
    return exp.Column(this=item.args["alias"].copy()) if isinstance(item, exp.Alias) else item.copy()


def _operand(made: exp.Expr) -> exp.Expr:
    return exp.Paren(this=made) if isinstance(made, exp.Or) else made


def _initials(first: str, second: str) -> tuple[str, str]:
    """Two short names that differ."""
    return (first[0], second[0]) if first[0] != second[0] else ("a", "b")
