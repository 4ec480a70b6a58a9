"""Schemas and canonical queries: they read back as they were drawn, run, and mean the same in two engines."""

import pytest
import sqlglot
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from quickstudy.core.errors import TaskError
from quickstudy.tasks.sql.execution import (
    Database,
    QueryFailed,
    is_determinate,
    is_ordered,
    runs_on_sqlite,
    same_rows,
)
from quickstudy.tasks.sql.grammar import PARTS, Grammar
from quickstudy.tasks.sql.schemas import Kind, draw_contents, draw_schema, needs_quotes

seeds = st.integers(0, 2**60)


def seed(number):
    return torch.Generator().manual_seed(number)


def drawn(number, count=1, grammar=None):
    grammar = grammar or Grammar((1, 6))
    generator = seed(number)
    schema = draw_schema(generator)
    return schema, [grammar.sample(schema, generator) for _ in range(count)]


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_a_query_is_what_is_read_from_its_text(number):
    for query in drawn(number, 10)[1]:
        assert sqlglot.parse_one(query.sql()) == query


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_links_lead_to_keys_and_contents_have_the_types_of_their_columns(number):
    schema = draw_schema(seed(number), tables=(2, 4))
    contents = draw_contents(schema, seed(number), rows=9)
    types = {Kind.INT: "int", Kind.DOUBLE: "float", Kind.TEXT: "str", Kind.DATE: "date", Kind.BOOLEAN: "bool"}
    for table in schema.tables:
        assert len({column.name for column in table.columns}) == len(table.columns)
        assert [row[0] for row in contents[table.name]] == list(range(1, 10))
        for place, column in enumerate(table.columns):
            cells = [row[place] for row in contents[table.name]]
            assert {type(cell).__name__ for cell in cells if cell is not None} <= {types[column.kind]}
            assert column.nullable or None not in cells
            if column.links:
                keys = {row[0] for row in contents[schema.table(column.links).name]}
                assert set(cells) <= keys


@pytest.fixture(scope="module")
def runs():
    """Queries over ten schemas with their rows in DuckDB, and in SQLite or None where it cannot run them."""
    found = []
    for number in range(10):
        schema, queries = drawn(number, 30)
        contents = draw_contents(schema, seed(number))
        duck, lite = Database(schema, contents), Database(schema, contents, "sqlite")
        found += [(query, duck.rows(query), lite.rows(query) if runs_on_sqlite(query) else None) for query in queries]
        duck.close()
        lite.close()
    return found


def test_queries_run_and_most_find_rows(runs):
    assert sum(bool(rows) for _, rows, _ in runs) > 0.7 * len(runs)


def test_two_engines_agree(runs):
    both = [(query, duck, lite) for query, duck, lite in runs if lite is not None and is_determinate(query)]
    assert len(both) > 120
    for query, duck, lite in both:
        assert same_rows(duck, lite, False), query.sql()


def test_what_runs_is_of_many_kinds(runs):
    nodes = (exp.Join, exp.Group, exp.Having, exp.Window, exp.CTE, exp.Case, exp.Cast, exp.DPipe, exp.Coalesce)
    nodes += (exp.Order, exp.Limit, exp.Offset, exp.SetOperation, exp.Subquery, exp.DateAdd, exp.Extract, exp.Exists)
    missing = [node.__name__ for node in nodes if not any(query.find(node) for query, _, _ in runs)]
    assert not missing


def test_a_larger_size_makes_longer_queries():
    def words(size):
        return sum(len(sqlglot.tokenize(query.sql())) for query in drawn(3, 60, Grammar(size))[1]) / 60

    assert words(1) < 14
    assert words(1) + 8 < words(4)
    assert 15 < words((1, 5)) < 40


def test_the_default_size_is_short_to_medium():
    lengths = sorted(len(sqlglot.tokenize(query.sql())) for query in drawn(5, 200, Grammar())[1])
    assert lengths[10] >= 6
    assert lengths[-20] <= 55


def test_parts_can_be_chosen():
    queries = drawn(0, 40, Grammar((1, 3), ("limit",)))[1]
    assert all(query.find(exp.Limit) and not query.find(exp.Where, exp.Group) for query in queries)
    with pytest.raises(ValueError, match="expected some of filter"):
        drawn(0, 1, Grammar(1, ("nothing",)))
    with pytest.raises(TaskError, match="size is 0"):
        drawn(0, 1, Grammar(0))
    assert sum(PARTS.values()) > 0


def test_only_awkward_names_are_quoted():
    assert [needs_quotes(name) for name in ("price", "unit price", "order", "Name", "a1")] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_refused_query_says_what_the_engine_said():
    schema, _ = drawn(0)
    database = Database(schema, draw_contents(schema, seed(0)))
    with pytest.raises(QueryFailed, match="nowhere"):
        database.rows("SELECT 1 FROM nowhere")
    database.close()


def test_rows_compare_in_order_only_where_the_query_says_so():
    ordered, free = sqlglot.parse_one("SELECT a FROM t ORDER BY a"), sqlglot.parse_one("SELECT a FROM t")
    assert is_ordered(ordered)
    assert not is_ordered(free)
    assert same_rows([(1,), (2,)], [(2,), (1,)], is_ordered(free))
    assert not same_rows([(1,), (2,)], [(2,), (1,)], is_ordered(ordered))
    assert not same_rows([(1,), (1,)], [(1,)], False)


@pytest.mark.parametrize(
    ("text", "determinate"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t LIMIT 3", False),
        ("SELECT a FROM t ORDER BY a LIMIT 3", False),
        ("SELECT id FROM t ORDER BY id LIMIT 3", True),
        ("SELECT t.id FROM t JOIN u ON t.id = u.t_id ORDER BY t.id LIMIT 3", False),
        ("SELECT a FROM t WHERE d < CURRENT_DATE", False),
    ],
)
def test_what_follows_from_the_contents(text, determinate):
    assert is_determinate(sqlglot.parse_one(text)) == determinate
