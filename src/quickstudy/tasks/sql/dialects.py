"""The dialects that sqlglot writes, in families that never straddle the splits.

Families join the twins by descent and all dialects that write more than 80 % of 500 queries of the grammar alike
(sqlglot 30.30: snowflake and redshift 92 %, mysql and starrocks 95 %, duckdb and dremio 93 %, druid and sqlite 81 %;
bigquery and spark, 81 %, are both in train). Left out: dax and prql, which sqlglot does not read back, and solr, which
writes as they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import sqlglot
from sqlglot import ErrorLevel, Token, TokenType, exp
from sqlglot.errors import ParseError, SqlglotError

from quickstudy.core.errors import InputError
from quickstudy.tasks.sql.choice import SPLITS, Split, readable

FAMILIES: dict[str, tuple[str, ...]] = {
    "postgres": ("postgres", "redshift", "materialize", "risingwave", "snowflake"),
    "presto": ("presto", "trino", "athena", "dune"),
    "spark": ("spark", "spark2", "hive", "databricks"),
    "sqlite": ("sqlite", "druid"),
    "bigquery": ("bigquery",),
    "teradata": ("teradata",),
    "duckdb": ("duckdb", "dremio", "exasol"),
    "drill": ("drill",),
    "mysql": ("mysql", "doris", "starrocks", "singlestore"),
    "tsql": ("tsql", "fabric"),
    "oracle": ("oracle",),
    "clickhouse": ("clickhouse",),
    "tableau": ("tableau",),
}
"""Name of a family -> its dialects."""

FAMILIES_OF: dict[Split, tuple[str, ...]] = {
    "train": ("postgres", "presto", "spark", "sqlite", "bigquery", "teradata"),
    "validation": ("duckdb", "drill"),
    "test": ("mysql", "tsql", "oracle", "clickhouse", "tableau"),
}


class SQLDialect(Protocol):
    """What writes canonical trees as text and reads them back; `InventedDialect` is one too."""

    @property
    def name(self) -> str:
        """A short name."""

    @property
    def description(self) -> str:
        """In English, what it is or what differs from canonical SQL."""

    def write(self, tree: exp.Expr) -> str:
        """The text of a canonical tree."""

    def read(self, text: str) -> exp.Expr:
        """The tree of a text; raises SqlglotError where it cannot be read."""

    def tokens(self, text: str) -> list[Token]:
        """The text, cut into words and signs."""


@dataclass(frozen=True)
class KnownDialect:
    """A dialect of sqlglot.

    Attributes:
        name: as sqlglot calls it.
    """

    name: str

    @property
    def description(self) -> str:
        """The name, in a sentence."""
        return f"the SQL dialect of {self.name}"

    @property
    def split(self) -> Split:
        """The split that its family belongs to.

        Raises:
            InputError: it is in no family.
        """
        for split in SPLITS:
            if self.name in known_dialects(split):
                return split
        raise InputError(
            f"the dialect {self.name!r} is in no split; give one of {', '.join(sum(FAMILIES.values(), ()))}"
        )

    def write(self, tree: exp.Expr) -> str:
        """The text of a canonical tree."""
        return tree.sql(self.name, unsupported_level=ErrorLevel.IGNORE)

    def read(self, text: str) -> exp.Expr:
        """The tree of a text; not always canonical.

        Raises:
            SqlglotError: it cannot be read.
        """
        return readable(lambda found: sqlglot.parse_one(found, read=self.name), text)

    def tokens(self, text: str) -> list[Token]:
        """The text, cut into words and signs."""
        return sqlglot.tokenize(text, read=self.name)


def known_dialects(split: Split) -> tuple[str, ...]:
    """The names of the split's dialects."""
    return tuple(name for family in FAMILIES_OF[split] for name in FAMILIES[family])


def writes_so(dialect: SQLDialect, text: str) -> bool:
    """Whether the text can be read in the dialect and is what the dialect itself writes for what was read.

    White space and the letters of words do not count. sqlglot reads more than a dialect allows, so that a text can be
    read says little.
    """
    try:
        tree = dialect.read(text)
        if not is_whole(tree):
            return False
        again = readable(lambda _: dialect.write(tree), text)
        return _signs(dialect, again) == _signs(dialect, text)
    except SqlglotError:
        return False


def is_whole(tree: exp.Expr) -> bool:
    """Whether it is a query that lacks no part; sqlglot reads `SELECT` and `SELECT a FROM` too."""
    nodes = list(tree.walk())
    empty = any(isinstance(node, exp.Select) and not node.expressions for node in nodes)
    return isinstance(tree, exp.Query) and not empty and not any(node.error_messages() for node in nodes)


def canonical(text: str) -> exp.Expr:
    """The tree of canonical text.

    Raises:
        SqlglotError: it cannot be read.
    """
    tree = sqlglot.parse_one(text)
    if tree is None:
        raise ParseError(f"expected a statement, got {text!r}")
    return tree


def _signs(dialect: SQLDialect, text: str) -> list[str]:
    kept = (TokenType.STRING, TokenType.IDENTIFIER)
    return [token.text if token.token_type in kept else token.text.upper() for token in dialect.tokens(text)]
