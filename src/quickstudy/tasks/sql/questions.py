"""Tasks of English questions over a database: a question and its tables -> SQL in a dialect.

The text2sql sets: Finegan-Dollak et al., ACL 2018, P18-1033; and the papers of each set, which the data folder names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import sqlglot
import torch
from sqlglot import exp

from quickstudy.core.errors import InputError, TaskError
from quickstudy.tasks.data_folder import data_file
from quickstudy.tasks.draws import Size, check_size, draw_rows, draw_size
from quickstudy.tasks.sql.choice import SPLITS, Split
from quickstudy.tasks.sql.dialects import SQLDialect
from quickstudy.tasks.sql.schemas import needs_quotes, seeded
from quickstudy.tasks.sql.tasks import SQLTask, check_choice, draw_dialect
from quickstudy.tasks.table import text_key
from quickstudy.tasks.text_tasks import Pair, TextTaskSource

QUESTION_SETS = ("geography", "advising", "atis", "academic", "restaurants", "scholar")

FOLDS: dict[str, Split] = {
    "train": "train",
    "dev": "validation",
    "test": "test",
    **{str(fold): "train" for fold in range(8)},
    "8": "validation",
    "9": "test",
}
"""The sets' own splits by query, and the folds of those that have ten."""


@dataclass(frozen=True)
class Question:
    """A question with its canonical SQL.

    Attributes:
        text: in English.
        sql: canonical, names in small letters.
        tables: those that the SQL names.
        split: by query, no SQL is in two.
    """

    text: str
    sql: str
    tables: frozenset[str]
    split: Split


@dataclass(frozen=True)
class QuestionSet:
    """The questions over one database, and its tables: name -> columns."""

    questions: tuple[Question, ...]
    tables: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class QuestionTasks(TextTaskSource):
    """An English question and tables -> SQL in a dialect. A task has one set and one dialect of the split.

    The support is of the set's train queries, as an operator has some answered questions; the query is of the split's
    own queries. No SQL of the query is in the support.

    Attributes:
        split: of dialects and of queries.
        shots: support pairs; a range is drawn anew for each task, here as below.
        queries: query pairs.
        sets: names of `QUESTION_SETS`, one of which is drawn for each task.
        invented: the share of tasks whose dialect is an invented one.
        distractors: tables in a source that its SQL does not name.
        longest: questions with longer canonical SQL, in characters, are left out.
        folder: of the data; None for the one that QUICKSTUDY_DATA names.
    """

    split: Split = "train"
    shots: Size = 10
    queries: Size = 10
    sets: tuple[str, ...] = ("geography", "scholar", "academic")
    invented: float = 0.5
    distractors: Size = (0, 2)
    longest: int = 400
    folder: Path | str | None = None

    def draw(self, generator: torch.Generator) -> SQLTask:
        """One task.

        Raises:
            InputError: an unknown set.
            TaskError: a size without meaning, or a set with too few questions.
            NotAvailable: the data is not here.
        """
        for name, least in (("shots", 1), ("queries", 1), ("distractors", 0)):
            check_size(name, getattr(self, name), least)
        check_choice(self.split, self.invented)
        rng = seeded(generator)
        name = rng.choice(self.sets)
        found = read_questions(name, self.folder)
        dialect = draw_dialect(self.split, self.invented, rng, generator)
        short = [question for question in found.questions if len(question.sql) <= self.longest]
        support = self._drawn([q for q in short if q.split == "train"], self.shots, name, generator)
        taken = {question.sql for question in support}
        rest = [q for q in short if q.split == self.split and q.sql not in taken]
        query = self._drawn(rest, self.queries, name, generator)
        pairs = [self._pair(question, found, dialect, generator) for question in (*support, *query)]
        described = f"{dialect.description}; questions about {name}"
        cut = len(support)
        return SQLTask(f"{name} in {dialect.name}", described, tuple(pairs[:cut]), tuple(pairs[cut:]), dialect)

    def _drawn(self, questions: list[Question], size: Size, name: str, generator: torch.Generator) -> list[Question]:
        """Questions of which no two have the same SQL while there are enough."""
        count = draw_size(size, generator)
        if len(questions) < count:
            raise TaskError(
                f"{name} has {len(questions)} questions left of at most {self.longest} characters of SQL, {count} are "
                "asked for; ask for fewer, or raise `longest`"
            )
        order = [questions[row] for row in draw_rows(torch.arange(len(questions)), len(questions), generator).tolist()]
        first = {question.sql: question for question in reversed(order)}
        repeated = [question for question in order if first[question.sql] is not question]
        return [*(question for question in order if first[question.sql] is question), *repeated][:count]

    def _pair(self, asked: Question, found: QuestionSet, dialect: SQLDialect, generator: torch.Generator) -> Pair:
        others = [table for table in found.tables if table not in asked.tables]
        order = draw_rows(torch.arange(len(others)), draw_size(self.distractors, generator), generator).tolist()
        shown = sorted({*asked.tables, *(others[row] for row in order)} & set(found.tables))
        tables = "; ".join(f"{table}({', '.join(found.tables[table])})" for table in shown)
        return Pair(f"{asked.text} | {tables}", dialect.write(sqlglot.parse_one(asked.sql)))


def read_questions(name: str, folder: Path | str | None = None) -> QuestionSet:
    """One of the sets; questions whose text or SQL is in an earlier split are left out.

    Args:
        name: one of `QUESTION_SETS`.
        folder: where the data is; None for the folder that QUICKSTUDY_DATA names.

    Raises:
        InputError: an unknown set.
        NotAvailable: the data is not here.
    """
    if name not in QUESTION_SETS:
        raise InputError(f"there is no question set {name!r}; there are {', '.join(QUESTION_SETS)}")
    return _read(data_file(f"sql/text2sql_{name}.parquet", folder), data_file("sql/schemas.parquet", folder), name)


@lru_cache(maxsize=len(QUESTION_SETS))
def _read(questions: Path, schemas: Path, name: str) -> QuestionSet:
    rows = pd.read_parquet(questions)
    columns = pd.read_parquet(schemas)
    columns = columns[columns["dataset"] == name]
    tables = {
        str(table).lower(): tuple(str(column).lower() for column in part["column"])
        for table, part in columns.groupby("table", sort=True)
    }
    trees: dict[str, exp.Expr] = {}
    made = []
    for text, sql, fold in zip(rows["question"], rows["sql"], rows["query_split"], strict=True):
        if sql not in trees:
            trees[sql] = canonical_query(sql)
        named = frozenset(table.name for table in trees[sql].find_all(exp.Table))
        made.append(Question(text, trees[sql].sql(), named, FOLDS[fold]))
    return QuestionSet(_without_shared(made), tables)


def canonical_query(sql: str) -> exp.Expr:
    """The canonical tree of a query of the sets: names in small letters, aliases without `alias`.

    A comma between tables becomes CROSS JOIN, INNER JOIN becomes JOIN, and YEAR becomes EXTRACT.
    """
    tree = sqlglot.parse_one(sql.rstrip("; "), read="mysql")
    for node in list(tree.walk()):
        if isinstance(node, exp.Identifier):
            name = re.sub(r"alias(\d+)$", r"\1", node.name).lower()
            node.set("this", name)
            node.set("quoted", needs_quotes(name))
        elif isinstance(node, exp.Join):
            related = node.args.get("on") or node.args.get("using")
            node.set("kind", None if related else "CROSS")
        elif isinstance(node, exp.Year | exp.Month | exp.Day):
            of = node.this.this if isinstance(node.this, exp.TsOrDsToDate) else node.this
            node.replace(exp.Extract(this=exp.Var(this=node.key.upper()), expression=of))
    return sqlglot.parse_one(tree.sql())


def _without_shared(questions: list[Question]) -> tuple[Question, ...]:
    first: dict[str, int] = {}
    for question in questions:
        for key in (text_key(question.text), question.sql):
            first[key] = min(first.get(key, len(SPLITS)), SPLITS.index(question.split))
    return tuple(
        question
        for question in questions
        if SPLITS.index(question.split) == first[text_key(question.text)] == first[question.sql]
    )
