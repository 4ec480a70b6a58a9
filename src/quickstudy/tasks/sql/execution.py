"""Queries run on small contents, in DuckDB or in SQLite."""

from __future__ import annotations

import datetime
import decimal
import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from sqlglot import ErrorLevel, exp

from quickstudy.core.errors import NotAvailable
from quickstudy.tasks.sql.schemas import Contents, Kind, Schema, Table, Value
from quickstudy.tasks.sql.trees import literal

Engine: TypeAlias = Literal["duckdb", "sqlite"]
Rows: TypeAlias = list[tuple[Any, ...]]

SQLITE_LACKS = (exp.Extract, exp.DateAdd, exp.DateDiff, exp.CurrentDate, exp.Ceil, exp.Floor, exp.Cast)
"""What sqlglot writes for SQLite in a way that SQLite cannot run, or with another result."""


class QueryFailed(Exception):
    """The engine refused a query; the message is the engine's."""


class Database:
    """A schema with contents, opened in one engine in memory.

    Args:
        schema: the tables.
        contents: their rows.
        engine: "duckdb" or "sqlite".

    Raises:
        NotAvailable: duckdb is asked for and not installed.
    """

    def __init__(self, schema: Schema, contents: Contents, engine: Engine = "duckdb") -> None:
        self.engine: Engine = engine
        self._connection = _duckdb() if engine == "duckdb" else sqlite3.connect(":memory:")
        if engine == "sqlite":
            self._connection.execute("PRAGMA case_sensitive_like = ON")
        for table in schema.tables:
            self._connection.execute(_create(table, engine))
            rows = ", ".join(_row(row) for row in contents[table.name])
            self._connection.execute(f"INSERT INTO {_quoted(table.name)} VALUES {rows}")

    def rows(self, query: exp.Expr | str) -> Rows:
        """What the query returns, with values that compare across engines: numbers, texts and None.

        Args:
            query: a canonical tree, or text in the engine's own dialect.

        Raises:
            QueryFailed: the engine refuses it.
        """
        text = query if isinstance(query, str) else query.sql(self.engine, unsupported_level=ErrorLevel.IGNORE)
        try:
            found = self._connection.execute(text).fetchall()
        except Exception as error:
            raise QueryFailed(f"{self.engine} refuses {text!r}: {error}") from error
        return [tuple(_comparable(cell) for cell in row) for row in found]

    def close(self) -> None:
        """Nothing; the database is gone."""
        self._connection.close()


def same_rows(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]], ordered: bool) -> bool:
    """Whether two results are equal, as lists where the order is asked for, otherwise as multisets."""
    if ordered:
        return list(one) == list(other)
    return Counter(one) == Counter(other)


def is_ordered(query: exp.Expr) -> bool:
    """Whether the query says in which order its rows come."""
    return query.args.get("order") is not None


def is_determinate(query: exp.Expr) -> bool:
    """Whether the result follows from query and contents: no date of today, no rows cut off but by a full order.

    A limit counts as full order where the key `id` of the only table is among the keys. Windows over joined rows may
    have ties.
    """
    if query.find(exp.CurrentDate) or (query.find(exp.Window) and query.find(exp.Join)):
        return False
    if not query.find(exp.Limit, exp.Offset):
        return True
    keys = query.args["order"].expressions if is_ordered(query) else []
    return not query.args.get("joins") and any(key.this.name == "id" for key in keys)


def runs_on_sqlite(query: exp.Expr) -> bool:
    """Whether SQLite can run what sqlglot writes for it with the result that DuckDB has."""
    return query.find(*SQLITE_LACKS) is None


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise NotAvailable(
            "running queries needs duckdb; install quickstudy[sql]: pip install 'quickstudy[sql]'"
        ) from error
    return duckdb.connect(":memory:", config={"threads": 1})


def _create(table: Table, engine: Engine) -> str:
    kinds = {Kind.DATE: "TEXT"} if engine == "sqlite" else {}
    columns = ", ".join(f"{_quoted(column.name)} {kinds.get(column.kind, column.kind)}" for column in table.columns)
    return f"CREATE TABLE {_quoted(table.name)} ({columns})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _row(cells: Sequence[Value]) -> str:
    dates_as_text = [cell.isoformat() if isinstance(cell, datetime.date) else cell for cell in cells]
    return f"({', '.join(literal(cell).sql() for cell in dates_as_text)})"


def _comparable(cell: Any) -> Any:
    if isinstance(cell, bool | int | float | decimal.Decimal):
        return round(float(cell), 6)
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, datetime.date) else cell
