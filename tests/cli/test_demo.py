"""The demonstration of SQL: nothing asked was shown, and what it counts is so."""

import json

import pytest

from recipes.sql_base import Size, tokeniser, write_blank

pytest.importorskip("sqlglot")

from quickstudy.tasks.sql.tasks import TranslationTasks


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    size = Size(vocabulary=400, width=16, layers=1, heads=2, positions=2048)
    folder = tmp_path_factory.mktemp("base")
    write_blank(folder, tokeniser(TranslationTasks("train", shots=2, queries=1), size, 10), size)
    return folder


def test_sql(run, base):
    words = ("demo", "sql", "--base", base, "--method", "in_context", "--examples", 4, "--queries", 2)
    found = run(*words, "--json").json
    assert not {pair["prompt"] for pair in found["examples"]} & {query["prompt"] for query in found["queries"]}
    assert (len(found["examples"]), len(found["queries"])) == (4, 2)
    for when in ("before", "after"):
        right = [query[when] == query["completion"] for query in found["queries"]]
        assert found[f"right_{when}"] >= sum(right) / 2
        assert found[f"right_{when}"] == sum(query[f"right_{when}"] for query in found["queries"]) / 2
    again = run(*words, "--json").json
    assert json.dumps(again["queries"]) == json.dumps(found["queries"])
    other = run(*words, "--json", "--seed", 1).json
    assert other["dialect"] != found["dialect"]
    printed = run(*words, "--shown", 1).out
    assert found["dialect"] in printed
    assert printed.count("asked    ") == 1


def test_refuses_what_it_does_not_know(run):
    done = run("demo", "poems")
    assert done.code == 2
    assert "give sql" in done.err
