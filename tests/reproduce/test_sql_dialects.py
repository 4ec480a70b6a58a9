"""The small version: reading five examples of a new dialect beats reading none, and figures are what they say."""

import pytest
from quick_runs import quick_rows

pytest.importorskip("sqlglot")

from quickstudy.reproduce.sql_arms import METRIC, QUICK
from quickstudy.reproduce.sql_dialects import SQL_DIALECTS


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, SQL_DIALECTS, ("", "-steps"))
    return {row.name: row for row in found}


def test_the_base_reads_examples(rows):
    context = rows["the examples before each query"]
    assert context.facts["parses_percent"] > rows["control: the base as it is"].facts["parses_percent"]
    assert context.mean >= rows["control: copy the input"].mean


def test_every_arm_has_a_row_and_its_controls(rows):
    trained = [name for name in rows if "training_tasks" in rows[name].facts and not name.startswith("control")]
    assert len(trained) == 4
    for name in trained:
        assert f"control: {name}, completions dealt out anew" in rows
    judged = [row for row in rows.values() if row.metric == METRIC]
    for row in judged:
        assert row.tasks == 2
        assert 0 <= row.facts["exact_percent"] <= row.mean + 1e-6 <= 100 + 1e-6


def test_curves_of_both_starts_begin_with_the_examples_in_context_alone(rows):
    untuned = rows["the examples before each query"].mean
    assert rows["steps in context, random start: 0 steps"].mean == untuned
    for name in ("steps in context, meta-learned", "steps in context, random start"):
        assert rows[f"{name}: 2 steps"].facts["steps"] == 2
    needed = [row for name, row in rows.items() if "best accuracy" in name]
    assert all(row.mean in QUICK.curve for row in needed)
