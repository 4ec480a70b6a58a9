"""Choices of how dates are written: literals, parts, differences, sums and today."""

from __future__ import annotations

import re
from typing import Any

from sqlglot import exp
from sqlglot.generator import Generator

from quickstudy.tasks.sql.choice import Choice, Reader, Writer, call

ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


def is_date_literal(node: exp.Cast) -> bool:
    """Whether a cast is of a text like 2020-12-31 to DATE."""
    this = node.this
    return (
        node.to.is_type("DATE") and isinstance(this, exp.Literal) and this.is_string and bool(ISO.fullmatch(this.name))
    )


def date_literal(text: str) -> exp.Cast:
    """The canonical node of an ISO date."""
    return exp.cast(exp.Literal.string(text), exp.DataType.build("DATE"), copy=False)


def literal_choices() -> tuple[Choice, ...]:
    """The choices of how a date literal is written; the generator looks them up by `DATE_LITERAL`."""

    def choice(name: str, example: str, write: Writer, functions: dict[str, Reader], split: Any = "") -> Choice:
        tells = f"a date is written {example}"
        settings = {"DATE_LITERAL": staticmethod(write)}
        return Choice("date literal", name, tells, split, frozenset(functions), functions=functions, generator=settings)

    def function(name: str, split: Any = "") -> Choice:
        return choice(
            name,
            f"{name}('2020-12-31')",
            lambda g, node: f"{g.normalize_func(name)}({g.sql(node, 'this')})",
            {name: lambda args: exp.cast(args[0], exp.DataType.build("DATE"), copy=False)},
            split,
        )

    def parts(name: str, split: Any = "") -> Choice:
        return choice(
            name,
            f"{name}(2020, 12, 31)",
            lambda g, node: f"{g.normalize_func(name)}({', '.join(str(int(part)) for part in _parts(node))})",
            {name: lambda args: date_literal("{:0>4}-{:0>2}-{:0>2}".format(*(arg.name for arg in args)))},
            split,
        )

    return (
        Choice("date literal", "cast"),
        choice("prefix", "DATE '2020-12-31'", lambda g, node: f"DATE {g.sql(node, 'this')}", {}),
        function("TO_DATE"),
        function("DATE"),
        parts("DATEFROMPARTS"),
        parts("MAKE_DATE"),
        function("AS_DATE", "validation"),
        function("PARSE_DAY", "validation"),
        choice(
            "day first",
            "DAY_OF('31.12.2020')",
            lambda g, node: f"{g.normalize_func('DAY_OF')}({g.sql(exp.Literal.string('.'.join(_parts(node)[::-1])))})",
            {"DAY_OF": lambda args: date_literal("-".join(args[0].name.split(".")[::-1]))},
            "test",
        ),
        parts("CALENDAR", "test"),
    )


def today_choices() -> tuple[Choice, ...]:
    """The choices of how the date of today is written."""
    names = ("CURDATE", "TODAY", "GETDATE", "DATE_NOW", "THIS_DAY")
    splits = ("", "", "", "validation", "test")
    made = [Choice("today", "CURRENT_DATE")]
    for name, split in zip(names, splits, strict=True):
        writers = {exp.CurrentDate: call(name)}
        functions: dict[str, Reader] = {name: lambda _: exp.CurrentDate()}
        tells, marks = f"today is {name}()", frozenset({name})
        made.append(Choice("today", name, tells, split, marks, writers=writers, functions=functions))  # type: ignore[arg-type]
    return tuple(made)


def extract_choices() -> tuple[Choice, ...]:
    """The choices of how a part of a date is taken."""
    units = ("YEAR", "MONTH", "DAY")

    def of_unit(prefix: str, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.Extract) -> str:
            return g.func(f"{prefix}{node.name.upper()}", node.expression)

        def reader(unit: str) -> Reader:
            return lambda args: _extract(unit, args[0])

        readers = {f"{prefix}{unit}": reader(unit) for unit in units}
        tells = f"a part of a date is taken by {prefix}YEAR(d), {prefix}MONTH(d) or {prefix}DAY(d)"
        marks = frozenset(readers)
        return Choice(
            "date part", f"{prefix}YEAR", tells, split, marks, writers={exp.Extract: write}, functions=readers
        )

    def named(name: str, text: bool, first: bool, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.Extract) -> str:
            unit = exp.Literal.string(node.name.lower()) if text else exp.Var(this=node.name.upper())
            return g.func(name, *((unit, node.expression) if first else (node.expression, unit)))

        def read(args: list[Any]) -> exp.Expr:
            unit, this = args if first else args[::-1]
            return _extract(unit.name, this)

        part = "'year'" if text else "YEAR"
        tells = f"a part of a date is taken by {name}({f'{part}, d' if first else f'd, {part}'})"
        marks = frozenset({name})
        return Choice("date part", name, tells, split, marks, writers={exp.Extract: write}, functions={name: read})

    return (
        Choice("date part", "EXTRACT"),
        of_unit(""),
        named("DATE_PART", True, True),
        named("DATEPART", False, True),
        named("FIELD_OF", False, False, "validation"),
        of_unit("GET_", "validation"),
        named("PIECE", True, False, "test"),
        of_unit("THE_", "test"),
    )


def difference_choices() -> tuple[Choice, ...]:
    """The choices of how the days between two dates are written."""
    orders = {"unit last": "abu", "unit first": "uba", "no unit": "ab", "reversed": "bau", "days between": "ba"}

    def choice(name: str, order: str, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.DateDiff) -> str:
            parts = {"a": node.this, "b": node.expression, "u": node.args["unit"]}
            return g.func(name, *(parts[part] for part in order))

        def read(args: list[Any]) -> exp.Expr:
            parts = dict(zip(order, args, strict=True))
            unit = exp.Var(this=parts["u"].name.upper()) if "u" in parts else exp.Var(this="DAY")
            return exp.DateDiff(this=parts["a"], expression=parts["b"], unit=unit)

        words = {"a": "later", "b": "earlier", "u": "DAY"}
        tells = f"days between dates are {name}({', '.join(words[part] for part in order)})"
        marks = frozenset({name})
        return Choice(
            "date difference", name, tells, split, marks, writers={exp.DateDiff: write}, functions={name: read}
        )

    return (
        Choice("date difference", "DATEDIFF"),
        choice("DATE_DIFF", orders["unit first"]),
        choice("TIMESTAMPDIFF", orders["unit first"]),
        choice("DAYS_BETWEEN", orders["days between"]),
        choice("DATE_DELTA", orders["unit last"]),
        choice("DAYS_APART", orders["no unit"], "validation"),
        choice("DAY_GAP", orders["reversed"], "test"),
    )


def sum_choices() -> tuple[Choice, ...]:
    """The choices of how days, months or years are added to a date."""

    def choice(name: str, order: str, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.DateAdd) -> str:
            parts = {"d": node.this, "n": node.expression, "u": node.args["unit"]}
            return g.func(name, *(parts[part] for part in order))

        def read(args: list[Any]) -> exp.Expr:
            parts = dict(zip(order, args, strict=True))
            return _add(parts["d"], parts["n"], parts["u"].name)

        words = {"d": "d", "n": "7", "u": "DAY"}
        tells = f"7 days are added by {name}({', '.join(words[part] for part in order)})"
        marks = frozenset({name})
        return Choice("date sum", name, tells, split, marks, writers={exp.DateAdd: write}, functions={name: read})

    def of_unit(prefix: str, split: Any = "") -> Choice:
        def write(g: Generator, node: exp.DateAdd) -> str:
            return g.func(f"{prefix}_{node.args['unit'].name}S", node.this, node.expression)

        def reader(unit: str) -> Reader:
            return lambda args: _add(args[0], args[1], unit)

        readers = {f"{prefix}_{unit}S": reader(unit) for unit in ("DAY", "MONTH", "YEAR")}
        tells = f"7 days are added by {prefix}_DAYS(d, 7)"
        marks = frozenset(readers)
        return Choice("date sum", prefix, tells, split, marks, writers={exp.DateAdd: write}, functions=readers)

    def interval(g: Generator, node: exp.DateAdd) -> str:
        number = exp.Literal.string(node.expression.name)
        return f"{g.sql(node, 'this')} + INTERVAL {g.sql(number)} {node.args['unit'].name}"

    plus = Choice(
        "date sum",
        "interval",
        "7 days are added by d + INTERVAL '7' DAY",
        writers={exp.DateAdd: interval},
        restore=_from_interval,
    )
    return (
        Choice("date sum", "DATE_ADD"),
        plus,
        choice("DATEADD", "und"),
        of_unit("ADD"),
        choice("TIMESTAMPADD", "und"),
        choice("SHIFT_DATE", "dnu", "validation"),
        of_unit("PLUS", "test"),
        choice("LATER", "nud", "test"),
    )


def _parts(node: exp.Cast) -> list[str]:
    """Year, month and day of a date literal."""
    return str(node.this.name).split("-")


def _extract(unit: str, this: exp.Expr) -> exp.Extract:
    return exp.Extract(this=exp.Var(this=unit.upper()), expression=this)


def _add(this: exp.Expr, number: exp.Expr, unit: str) -> exp.DateAdd:
    return exp.DateAdd(this=this, expression=number, unit=exp.Var(this=unit.upper()))


def _from_interval(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Add) and isinstance(node.expression, exp.Interval):
        interval = node.expression
        return _add(node.this, exp.Literal.number(interval.this.name), interval.args["unit"].name)
    return node
