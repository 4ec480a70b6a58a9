"""Dialects, known and invented: they read what they write, differ, and keep to their split."""

import gc
import re
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import Dialect, exp
from sqlglot.errors import SqlglotError

from quickstudy.core.errors import InputError, TaskError
from quickstudy.tasks.sql import dialect_classes, words
from quickstudy.tasks.sql.choice import SPLITS
from quickstudy.tasks.sql.dialects import FAMILIES, FAMILIES_OF, KnownDialect, canonical, known_dialects, writes_so
from quickstudy.tasks.sql.grammar import Grammar
from quickstudy.tasks.sql.invented import SEEDS, InventedDialect, draw_invented, features
from quickstudy.tasks.sql.schemas import draw_schema, needs_quotes
from quickstudy.tasks.sql.spellings import KEYWORDS

ONE_OF_ALL = """
WITH base AS (SELECT id, name FROM t WHERE NOT name LIKE 'a%' AND NOT id IN (1, 2))
SELECT DISTINCT a.id AS "full text", b.name || '-' || b.name, SUM(a.x) OVER (PARTITION BY a.y ORDER BY a.id DESC),
CASE WHEN a.x > 3 THEN 'it''s' WHEN a.x <> 1 THEN 'b' ELSE 'c' END, COALESCE(a.x, 0), CAST(a.x AS DECIMAL(10, 2)),
CAST(a.x AS TEXT), DATE_ADD(a.d, 7, 'DAY'), DATEDIFF(a.d, a.e, DAY), EXTRACT(YEAR FROM a.d), STR_POSITION(a.y, 'x'),
LENGTH(a.y), UPPER(a.y), LOWER(a.y), SUBSTRING(a.y, 1, 2), TRIM(a.y), REPLACE(a.y, 'a', 'b'), NULLIF(a.x, 1),
ROUND(a.x, 1), ABS(a.x), CEIL(a.x), FLOOR(a.x), a.x % 2, ROW_NUMBER() OVER (ORDER BY a.id), RANK() OVER (ORDER BY a.x),
LAG(a.x) OVER (ORDER BY a.id) FROM t AS a LEFT JOIN base AS b ON a.id = b.id CROSS JOIN u AS c
WHERE a.d < CAST('2020-12-31' AS DATE) AND (a.flag = TRUE OR a.g IS NULL) AND NOT a.h IS NULL AND a.d <= CURRENT_DATE
AND a.x BETWEEN 1 AND 5 AND EXISTS(SELECT 1 FROM v WHERE v.id = a.id) ORDER BY a.id DESC LIMIT 5 OFFSET 10
"""
GROUPED = (
    "SELECT y, COUNT(*), COUNT(DISTINCT x), SUM(x), AVG(x), MIN(x), MAX(x) FROM t GROUP BY y HAVING COUNT(*) > 2 "
    "UNION ALL SELECT y, 1, 1, 1, 1, 1, 1 FROM u LIMIT 3"
)
TREES = [canonical(text) for text in (ONE_OF_ALL, GROUPED, "SELECT a FROM t EXCEPT SELECT b FROM u")]
TREES.append(canonical("SELECT a FROM t INTERSECT SELECT b FROM u"))
seeds = st.sampled_from(SPLITS).flatmap(lambda split: st.integers(SEEDS[split].start, SEEDS[split].stop - 1))


def queries(number, count, size=(1, 6)):
    generator = torch.Generator().manual_seed(number)
    schema = draw_schema(generator)
    return [Grammar(size).sample(schema, generator) for _ in range(count)]


@given(seeds, st.integers(0, 2**60))
@settings(max_examples=40, deadline=None)
def test_an_invented_dialect_reads_what_it_writes(seed, number):
    dialect = InventedDialect(seed)
    for query in queries(number, 4):
        text = dialect.write(query)
        assert dialect.read(text) == query, (text, dialect.description)
        assert writes_so(dialect, text)


def everyone():
    return [choice for choices in features().values() for choice in choices]


@pytest.mark.parametrize("choice", everyone(), ids=lambda choice: f"{choice.feature}: {choice.name}")
def test_each_choice_reads_what_it_writes_and_shows(choice):
    canonical_ones = [choices[0] for choices in features().values()]
    taken = tuple(choice if choice.feature == other.feature else other for other in canonical_ones)
    if choice.name.startswith('"') and choice.feature == "strings":
        quotes = features()["identifier quotes"][1]
        taken = tuple(quotes if other.feature == "identifier quotes" else other for other in taken)
    dialect = dialect_classes.built(taken)
    shown = False
    for tree in TREES:
        written = dialect.generate(tree)
        assert dialect.parse(written) == [tree], written
        shown = shown or written != tree.sql()
    assert shown == bool(choice.tells)


def test_the_same_seed_gives_the_same_dialect_and_others_differ():
    seen = {}
    tree = canonical(ONE_OF_ALL)
    for seed in [*range(12), *range(SEEDS["test"].start, SEEDS["test"].start + 12)]:
        one, again = InventedDialect(seed), InventedDialect(seed)
        assert (one.choices, one.description, one.write(tree)) == (again.choices, again.description, again.write(tree))
        seen[one.write(tree)] = one.description
    assert len(seen) == len(set(seen.values())) == 24


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_choices_keep_to_their_split(seed):
    dialect = InventedDialect(seed)
    own = [choice for choice in dialect.choices if choice.split]
    assert {choice.split for choice in own} <= {dialect.split}
    assert len(own) >= 2 or dialect.split == "train"
    marks = [mark for choice in dialect.choices if choice.tells for mark in choice.marks]
    assert len(marks) == len(set(marks))


def test_seeds_of_the_splits_are_disjoint_and_drawn_from():
    for one, other in combinations(SPLITS, 2):
        assert SEEDS[one].stop <= SEEDS[other].start
    for split in SPLITS:
        assert draw_invented(split, torch.Generator().manual_seed(0)).split == split
    with pytest.raises(TaskError, match="of no split"):
        InventedDialect(-1).choices  # noqa: B018 - this is what is tested


def test_names_are_no_words_of_an_invented_dialect():
    spelled = {word for others in KEYWORDS.values() for other in others for word in other.lower().split()}
    names = {name for table in words.TABLES for name in table} | {*words.ALIASES, *words.QUERY_NAMES}
    names |= {
        *words.TEXT_COLUMNS,
        *words.INT_COLUMNS,
        *words.DOUBLE_COLUMNS,
        *words.DATE_COLUMNS,
        *words.BOOLEAN_COLUMNS,
    }
    assert not {name for name in names if not needs_quotes(name)} & spelled


def test_a_description_names_every_change():
    dialect = InventedDialect(5)
    told = [choice for choice in dialect.choices if choice.tells]
    assert len(told) > 5
    assert all(choice.tells in dialect.description for choice in told)
    assert re.search("[a-z]", dialect.description)


@pytest.mark.parametrize(
    "text", ["", "SELECT", ")))", "SELECT a FROM", "hello world", "SELECT 'x", "SELECT ROUND(", "SELECT 1;2"]
)
def test_what_is_no_sql_is_refused(text):
    for dialect in (InventedDialect(1), InventedDialect(SEEDS["test"].start + 3), KnownDialect("mysql")):
        assert not writes_so(dialect, text)


@pytest.mark.parametrize("text", [")))", "SELECT 'x", "SELECT ROUND("])
def test_what_cannot_be_read_is_an_error_of_sqlglot(text):
    for dialect in (InventedDialect(1), KnownDialect("mysql")):
        with pytest.raises(SqlglotError):
            dialect.read(text)


def test_a_clause_without_what_it_needs_is_an_error_of_sqlglot():
    seeds = range(SEEDS["test"].start, SEEDS["test"].start + 500)
    dialect = next(one for one in map(InventedDialect, seeds) if any(choice.name == "ROWS" for choice in one.choices))
    text = dialect.write(canonical("SELECT a FROM t LIMIT 5"))
    assert dialect.read(text) == canonical("SELECT a FROM t LIMIT 5")
    with pytest.raises(SqlglotError):
        dialect.read(text.replace("5", "b"))


def test_canonical_text_is_not_written_so_in_a_dialect_that_changes_it():
    tree = canonical(ONE_OF_ALL)
    for seed in range(6):
        dialect = InventedDialect(seed)
        assert writes_so(dialect, dialect.write(tree))
        assert not writes_so(dialect, tree.sql())
    assert not writes_so(KnownDialect("tsql"), "SELECT a FROM t LIMIT 5")
    assert writes_so(KnownDialect("tsql"), "SELECT TOP 5 a   from t")


def test_memory_of_dialects_is_bounded():
    before = len(dialect_classes._REGISTRY)
    for seed in range(1000, 1000 + 2 * dialect_classes.KEPT):
        InventedDialect(seed).write(exp.select("a").from_("t"))
    gc.collect()
    ours = [found for found in dialect_classes._DISPATCH if issubclass(found, dialect_classes.InventedGenerator)]
    assert len(ours) <= dialect_classes.KEPT
    assert len(dialect_classes._KEPT) == dialect_classes.KEPT
    assert len(dialect_classes._REGISTRY) == before


def test_every_known_dialect_is_in_one_family_of_one_split():
    families = [family for split in SPLITS for family in FAMILIES_OF[split]]
    assert sorted(families) == sorted(FAMILIES)
    names = [name for split in SPLITS for name in known_dialects(split)]
    assert len(names) == len(set(names))
    assert set(Dialect.classes) - set(names) == {"", "dax", "prql", "solr"}
    assert [KnownDialect(name).split for name in ("postgres", "duckdb", "mysql")] == list(SPLITS)
    with pytest.raises(InputError, match="in no split"):
        KnownDialect("prql").split  # noqa: B018 - this is what is tested


def test_no_known_dialect_writes_as_one_of_another_split():
    drawn = [query for number in range(6) for query in queries(number, 25)]
    texts = {
        name: [KnownDialect(name).write(query) for query in drawn] for split in SPLITS for name in known_dialects(split)
    }
    for one, other in combinations(texts, 2):
        if KnownDialect(one).split != KnownDialect(other).split:
            same = sum(a == b for a, b in zip(texts[one], texts[other], strict=True)) / len(drawn)
            assert same < 0.82, (one, other, same)
