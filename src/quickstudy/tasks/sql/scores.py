"""How good a written text is beside the target, and what it is to write without learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql.choice import Split
from quickstudy.tasks.sql.dialects import KnownDialect, SQLDialect, canonical, known_dialects, writes_so
from quickstudy.tasks.sql.execution import Database, Engine, QueryFailed, is_ordered, same_rows
from quickstudy.tasks.sql.schemas import draw_contents
from quickstudy.tasks.sql.tasks import SQLTask
from quickstudy.tasks.text_tasks import Pair

CONTENTS_SEED = 7
BARE = (exp.Paren, exp.Column, exp.Literal, exp.Func)


@dataclass(frozen=True)
class Score:
    """What holds for one written text.

    Attributes:
        exact: it is the target, but for white space at the ends.
        parses: it can be read in the dialect and is written as the dialect writes.
        equal_tree: it parses, and its tree is the target's after normalisation.
        executes: it parses, and returns the rows of the target on random contents; None where the task has no schema or
            the target cannot be run.
    """

    exact: bool
    parses: bool
    equal_tree: bool
    executes: bool | None


def score_task(task: SQLTask, texts: Sequence[str], run: bool = True) -> list[Score]:
    """One score for each query of the task.

    Args:
        task: what was asked.
        texts: what was written, in the order of the task's queries.
        run: whether queries are executed, which needs duckdb.

    Raises:
        TaskError: another number of texts than of queries.
        NotAvailable: queries are to be run, and duckdb is not installed.
    """
    if len(texts) != len(task.query):
        raise TaskError(f"{len(texts)} texts for {len(task.query)} queries; give one for each")
    if not run or task.schema is None:
        return [score(text, pair, task.dialect) for text, pair in zip(texts, task.query, strict=True)]
    contents = draw_contents(task.schema, torch.Generator().manual_seed(CONTENTS_SEED))
    engine: Engine = "sqlite" if task.dialect.name == "sqlite" else "duckdb"
    database = Database(task.schema, contents, engine)
    try:
        return [score(text, pair, task.dialect, database) for text, pair in zip(texts, task.query, strict=True)]
    finally:
        database.close()


def score(text: str, pair: Pair, dialect: SQLDialect, database: Database | None = None) -> Score:
    """The score of one text.

    Args:
        text: what was written.
        pair: canonical SQL and the target.
        dialect: what the target is written in.
        database: to run queries in; None for not to.
    """
    exact = text.strip() == pair.completion.strip()
    parses = exact or writes_so(dialect, text)
    equal = exact or (parses and same_tree(dialect, text, pair.completion))
    executes = None if database is None else _executes(text if parses else None, equal, pair, dialect, database)
    return Score(exact, parses, equal, executes)


def same_tree(dialect: SQLDialect, one: str, other: str) -> bool:
    """Whether two texts have the same tree in the dialect after normalisation."""
    try:
        return normalised(dialect.read(one)) == normalised(dialect.read(other))
    except SqlglotError:
        return False


def normalised(tree: exp.Expr) -> exp.Expr:
    """A copy without comments, with all names unquoted and in small letters, and without brackets around a bracket, a
    column, a literal or a function."""
    made = tree.copy()
    for node in list(made.walk()):
        node.pop_comments()
        if isinstance(node, exp.Identifier):
            node.set("quoted", False)
            node.set("this", node.name.lower())
        elif isinstance(node, exp.Paren) and isinstance(node.this, BARE) and not isinstance(node.this, exp.Connector):
            node.replace(node.this)
    return made


def copy_input(task: SQLTask) -> tuple[str, ...]:
    """The control that writes each source as it is."""
    return tuple(pair.prompt for pair in task.query)


def nearest_known(task: SQLTask, split: Split = "train") -> tuple[str, ...]:
    """The control that writes in the known dialect of the split whose outputs match the support best: most of them
    exactly, then by shared words.

    Raises:
        TaskError: the sources are no canonical SQL.
    """
    try:
        support = [(canonical(pair.prompt), pair.completion) for pair in task.support]
        query = [canonical(pair.prompt) for pair in task.query]
    except SqlglotError as error:
        raise TaskError("the sources are no SQL; nearest_known is for tasks of translation") from error

    def match(name: str) -> tuple[int, float]:
        written = [KnownDialect(name).write(tree) for tree, _ in support]
        exact = sum(text == target for text, (_, target) in zip(written, support, strict=True))
        return exact, sum(_overlap(text, target) for text, (_, target) in zip(written, support, strict=True))

    best = KnownDialect(max(known_dialects(split), key=match))
    return tuple(best.write(tree) for tree in query)


def _executes(text: str | None, equal: bool, pair: Pair, dialect: SQLDialect, database: Database) -> bool | None:
    own = dialect.name == database.engine
    try:
        tree = canonical(pair.prompt)
        wanted = database.rows(pair.completion if own else tree)
    except (QueryFailed, SqlglotError):
        return None
    if text is None or equal:
        return equal
    try:
        found = database.rows(text if own else dialect.read(text))
    except (QueryFailed, SqlglotError):
        return False
    return same_rows(found, wanted, is_ordered(tree))


def _overlap(one: str, other: str) -> float:
    """Shared words, counted, over all words."""
    first, second = Counter(one.split()), Counter(other.split())
    return (first & second).total() / max(1, (first | second).total())
