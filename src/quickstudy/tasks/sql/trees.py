"""The nodes that canonical queries are made of, as sqlglot reads them from canonical text."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from quickstudy.tasks.sql.schemas import Column, Kind, Value, draw_value, needs_quotes

COMPARISONS: tuple[type[exp.Binary], ...] = (exp.EQ, exp.NEQ, exp.LT, exp.GT, exp.LTE, exp.GTE)


@dataclass(frozen=True)
class Source:
    """What a query takes rows from.

    Attributes:
        name: of the table, or of the subquery.
        columns: what it has.
        alias: "" for none.
        qualified: whether its columns are written with the name or alias before them.
    """

    name: str
    columns: tuple[Column, ...]
    alias: str = ""
    qualified: bool = False

    def column(self, column: Column) -> exp.Column:
        """The column, as an expression."""
        return exp.Column(this=name(column.name), table=name(self.alias or self.name) if self.qualified else None)

    def tree(self) -> exp.Table:
        """The table, with its alias."""
        alias = exp.TableAlias(this=name(self.alias)) if self.alias else None
        return exp.Table(this=name(self.name), alias=alias)


def name(text: str) -> exp.Identifier:
    """An identifier, quoted if it has to be."""
    return exp.Identifier(this=text, quoted=needs_quotes(text))


def literal(value: Value) -> exp.Expr:
    """The value as canonical SQL writes it; a date is a cast from text."""
    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, datetime.date):
        return cast(exp.Literal.string(value.isoformat()), "DATE")
    return exp.Literal.number(value)


def cast(this: exp.Expr, kind: str) -> exp.Cast:
    """CAST(this AS kind)."""
    return exp.cast(this, exp.DataType.build(kind), copy=False)


def day() -> exp.Var:
    """The unit DAY."""
    return exp.Var(this="DAY")


def negated(condition: exp.Expr) -> exp.Not:
    """NOT condition."""
    return exp.Not(this=condition)


def condition(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    """A comparison that the column's type allows, with a value such as its contents have."""
    this = source.column(column)
    if column.nullable and rng.random() < 0.35:
        missing = exp.Is(this=this, expression=exp.Null())
        return negated(missing) if rng.random() < 0.5 else missing
    return _CONDITIONS[column.kind](this, column, rng)


def _truth_condition(this: exp.Column, column: Column, rng: random.Random) -> exp.Expr:
    return exp.EQ(this=this, expression=literal(draw_value(column, rng)))


def _number_condition(this: exp.Column, column: Column, rng: random.Random) -> exp.Expr:
    drawn = rng.random()
    if drawn < 0.15:
        low, high = sorted(float(str(draw_value(column, rng))) for _ in range(2))
        written = [literal(int(part) if column.kind is Kind.INT else part) for part in (low, high)]
        return exp.Between(this=this, low=written[0], high=written[1])
    if column.kind is Kind.INT and drawn < 0.3:
        return _membership(this, column, rng)
    if column.kind is Kind.INT and drawn < 0.38:
        remainder = exp.Mod(this=this, expression=literal(2))
        return exp.EQ(this=remainder, expression=literal(rng.randrange(2)))
    return rng.choice(COMPARISONS)(this=this, expression=literal(draw_value(column, rng)))


def _text_condition(this: exp.Column, column: Column, rng: random.Random) -> exp.Expr:
    value = literal(draw_value(column, rng))
    drawn = rng.random()
    if drawn < 0.25:
        start = str(draw_value(column, rng))
        pattern = rng.choice((f"{start[:1]}%", f"%{start[-2:]}", f"%{start[1:3]}%"))
        like = exp.Like(this=this, expression=exp.Literal.string(pattern))
        return negated(like) if rng.random() < 0.2 else like
    if drawn < 0.45:
        return _membership(this, column, rng)
    if drawn < 0.55:
        return exp.GT(this=exp.Length(this=this), expression=literal(rng.randint(3, 8)))
    if drawn < 0.65:
        lower = exp.Lower(this=this)
        return exp.EQ(this=lower, expression=exp.Literal.string(value.name.lower()))
    return (exp.NEQ if rng.random() < 0.4 else exp.EQ)(this=this, expression=value)


def _date_condition(this: exp.Column, column: Column, rng: random.Random) -> exp.Expr:
    drawn = rng.random()
    if drawn < 0.2:
        year = exp.Extract(this=exp.Var(this=rng.choice(("YEAR", "YEAR", "MONTH"))), expression=this)
        number = rng.randint(2018, 2023) if year.name == "YEAR" else rng.randint(1, 12)
        return exp.EQ(this=year, expression=literal(number))
    if drawn < 0.35:
        low, high = sorted(str(draw_value(column, rng)) for _ in range(2))
        bounds = [cast(exp.Literal.string(part), "DATE") for part in (low, high)]
        return exp.Between(this=this, low=bounds[0], high=bounds[1])
    if drawn < 0.45:
        return exp.LT(this=this, expression=exp.CurrentDate())
    comparison = rng.choice((exp.LT, exp.GT, exp.LTE, exp.GTE))
    return comparison(this=this, expression=literal(draw_value(column, rng)))


def _membership(this: exp.Column, column: Column, rng: random.Random) -> exp.Expr:
    values = {draw_value(column, rng) for _ in range(rng.randint(2, 3))}
    found = exp.In(this=this, expressions=[literal(value) for value in sorted(values, key=str)])
    return negated(found) if rng.random() < 0.3 else found


def computed(source: Source, topic: str, rng: random.Random) -> exp.Expr | None:
    """An expression about one topic of `TOPICS` over a column of the source, or None where no column suits."""
    kinds, make = TOPICS[topic]
    fitting = [column for column in source.columns if column.kind in kinds]
    return make(source, rng.choice(fitting), rng) if fitting else None


def _concatenation(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    between = exp.Literal.string(rng.choice((" ", "-", ": ", "!")))
    joint = exp.DPipe(this=source.column(column), expression=between, safe=True)
    texts = [c for c in source.columns if c.kind is Kind.TEXT]
    other = rng.choice([c for c in texts if c is not column] or texts)
    return exp.DPipe(this=joint, expression=source.column(other), safe=True)


def _cast(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    kinds = {Kind.INT: ("TEXT", "DOUBLE", "BIGINT"), Kind.DOUBLE: ("DECIMAL(10, 2)",), Kind.DATE: ("TEXT",)}
    return cast(source.column(column), rng.choice(kinds[column.kind]))


def _filled(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    this = source.column(column)
    if column.kind is not Kind.TEXT and rng.random() < 0.3:
        return exp.Nullif(this=this, expression=literal(draw_value(column, rng)))
    return exp.Coalesce(this=this, expressions=[literal("none") if column.kind is Kind.TEXT else literal(0)])


def _of_text(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    this = source.column(column)
    drawn = rng.randrange(7)
    if drawn == 0:
        return exp.Substring(this=this, start=literal(rng.randint(1, 2)), length=literal(rng.randint(1, 4)))
    if drawn == 1:
        return exp.Replace(this=this, expression=literal(rng.choice("aeo")), replacement=literal(rng.choice("_*x")))
    if drawn == 2:
        return exp.StrPosition(this=this, substr=literal(rng.choice("aeo")))
    single = (exp.Upper, exp.Lower, exp.Length, exp.Trim)[drawn - 3]
    return single(this=this)


def _of_number(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    this = source.column(column)
    if column.kind is Kind.INT:
        number = literal(rng.randint(2, 9))
        made = rng.choice((exp.Mod, exp.Add, exp.Mul, exp.Sub))(this=this, expression=number)
        return exp.Abs(this=made) if isinstance(made, exp.Sub) else made
    drawn = rng.randrange(5)
    if drawn < 3:
        return (exp.Round(this=this, decimals=literal(1)), exp.Ceil(this=this), exp.Floor(this=this))[drawn]
    if drawn == 3:
        return exp.Div(this=this, expression=literal(rng.choice((2, 4))), typed=False, safe=False)
    return exp.Mul(this=this, expression=literal(rng.choice((0.5, 1.25, 2))))


def _of_date(source: Source, column: Column, rng: random.Random) -> exp.Expr:
    this = source.column(column)
    drawn = rng.randrange(4)
    if drawn == 0:
        return exp.Extract(this=exp.Var(this=rng.choice(("YEAR", "MONTH", "DAY"))), expression=this)
    if drawn == 1:
        other = [column for column in source.columns if column.kind is Kind.DATE and column.name != this.name]
        first = source.column(rng.choice(other)) if other else literal(draw_value(Column("", Kind.DATE), rng))
        return exp.DateDiff(this=first, expression=this, unit=day())
    unit = exp.Var(this=rng.choice(("DAY", "DAY", "MONTH", "YEAR")))
    return exp.DateAdd(this=this, expression=literal(rng.choice((1, 2, 7, 10, 30))), unit=unit)


def _case(source: Source, column: Column, rng: random.Random) -> exp.Case:
    branches = [(condition(source, column, rng), rng.choice(("high", "yes", "first")))]
    if rng.random() < 0.3:
        branches.append((condition(source, column, rng), "middle"))
    ifs = [exp.If(this=test, true=literal(value)) for test, value in branches]
    return exp.Case(ifs=ifs, default=literal(rng.choice(("low", "no", "other"))))


_CONDITIONS: dict[Kind, Callable[[exp.Column, Column, random.Random], exp.Expr]] = {
    Kind.INT: _number_condition,
    Kind.DOUBLE: _number_condition,
    Kind.TEXT: _text_condition,
    Kind.DATE: _date_condition,
    Kind.BOOLEAN: _truth_condition,
}

TOPICS: dict[str, tuple[frozenset[Kind], Callable[[Source, Column, random.Random], exp.Expr]]] = {
    "text": (frozenset({Kind.TEXT}), _of_text),
    "concatenation": (frozenset({Kind.TEXT}), _concatenation),
    "number": (frozenset({Kind.INT, Kind.DOUBLE}), _of_number),
    "date": (frozenset({Kind.DATE}), _of_date),
    "cast": (frozenset({Kind.INT, Kind.DOUBLE, Kind.DATE}), _cast),
    "null": (frozenset({Kind.INT, Kind.DOUBLE, Kind.TEXT}), _filled),
    "case": (frozenset(Kind), _case),
}
"""What an expression may be about -> the types that it can be made from, and how."""
