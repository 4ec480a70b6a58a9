"""The small version: reading five examples of a new dialect beats reading none, and figures are what they say."""

import pytest

from quickstudy.reproduce.base import Work

pytest.importorskip("sqlglot")

from quickstudy.reproduce.sql_dialects import METRIC, SQL_DIALECTS


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    work = Work(folder / "runs", folder / "picture", quick=True, progress=False, tell=lambda line: None)
    found = SQL_DIALECTS.run(work)
    assert (folder / "picture.png").stat().st_size > 0
    return {row.name: row for row in found}


def test_the_base_reads_examples(rows):
    context = rows["the examples before each query"]
    assert context.facts["parses_percent"] > rows["control: the base as it is"].facts["parses_percent"]
    assert context.mean >= rows["control: copy the input"].mean


def test_every_arm_has_a_row_and_its_controls(rows):
    trained = [name for name in rows if "training_tasks" in rows[name].facts and not name.startswith("control")]
    assert len(trained) == 3
    for name in trained:
        assert f"control: {name}, completions dealt out anew" in rows
    assert all(row.metric == METRIC and row.tasks == 2 and 0 <= row.mean <= 100 for row in rows.values())
    for row in rows.values():
        assert row.facts["exact_percent"] <= row.mean + 1e-6
