"""Tasks of writing SQL: drawn alike from the same seed, without overlap, and scored as they should be."""

import os
from dataclasses import replace

import pandas as pd
import pytest
import torch

from quickstudy.core.errors import InputError, NotAvailable, TaskError
from quickstudy.tasks.sql.choice import SPLITS
from quickstudy.tasks.sql.dialects import KnownDialect, canonical, known_dialects
from quickstudy.tasks.sql.grammar import Grammar
from quickstudy.tasks.sql.invented import InventedDialect
from quickstudy.tasks.sql.questions import QUESTION_SETS, QuestionTasks, canonical_query, read_questions
from quickstudy.tasks.sql.scores import Score, copy_input, nearest_known, score_task
from quickstudy.tasks.sql.tasks import SQLTask, TranslationTasks, covering, new_words
from quickstudy.tasks.text_tasks import Pair

real_data = pytest.mark.skipif(not os.environ.get("QUICKSTUDY_DATA"), reason="QUICKSTUDY_DATA names no data folder")


class Same(Grammar):
    """A grammar of one query."""

    def draw(self, schema, rng):
        return canonical("SELECT 1")


def seed(number):
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("support", ["random", "covering"])
def test_no_source_is_in_support_and_query_and_targets_are_of_the_dialect(split, support):
    tasks = TranslationTasks(split, shots=(2, 6), queries=4, invented=0.5, support=support)
    generator = seed(1)
    for _ in range(4):
        task = tasks.draw(generator)
        sources = [pair.prompt for pair in (*task.support, *task.query)]
        assert len(sources) == len(set(sources))
        assert 2 <= len(task.support) <= 6
        assert len(task.query) == 4
        assert task.dialect.split == split
        for pair in (*task.support, *task.query):
            assert task.dialect.write(canonical(pair.prompt)) == pair.completion


def test_sources_differ_where_the_grammar_gives_few():
    tasks = TranslationTasks(shots=40, queries=40, grammar=Grammar(1, ("limit",)), answerable=False, support="random")
    task = tasks.draw(seed(0))
    assert len({pair.prompt for pair in (*task.support, *task.query)}) == 80


def test_the_same_seed_gives_the_same_tasks():
    one, again, other = seed(3), seed(3), seed(4)
    tasks = TranslationTasks(shots=4, queries=3)
    first = [tasks.draw(one) for _ in range(3)]
    assert first == [tasks.draw(again) for _ in range(3)]
    assert first != [tasks.draw(other) for _ in range(3)]
    assert len({task.query for task in first}) == 3


def test_the_share_of_invented_dialects():
    generator = seed(0)
    known = [TranslationTasks(shots=1, queries=1, invented=0, support="random").draw(generator) for _ in range(8)]
    assert {task.name for task in known} <= set(known_dialects("train"))
    made = [TranslationTasks(shots=1, queries=1, invented=1, support="random").draw(generator) for _ in range(8)]
    assert all(task.name.startswith("invented-") for task in made)


def test_answerable_queries_have_words_that_the_support_shows():
    def unknown(answerable):
        tasks = TranslationTasks("test", shots=8, queries=8, invented=1, answerable=answerable)
        generator = seed(2)
        count = 0
        for _ in range(5):
            task = tasks.draw(generator)
            names = frozenset()
            shown = {word for pair in task.support for word in pair.completion.split()}
            count += sum(bool(set(pair.completion.split()) - shown - set(pair.prompt.split())) for pair in task.query)
            assert all(new_words(pair, names) is not None for pair in task.query)
        return count

    assert unknown(True) < unknown(False)


def test_covering_takes_what_shows_most():
    plain, upper, both = Pair("a", "a"), Pair("f(a)", "g(a)"), Pair("f(a) <> b", "g(a) != b")
    assert covering([plain, upper, both], 1, frozenset("ab")) == [both]
    assert covering([plain, both, upper], 3, frozenset("ab"))[0] == both
    tasks = TranslationTasks("test", shots=6, queries=1, invented=1, answerable=False)

    def shown(support):
        task = replace(tasks, support=support).of(InventedDialect(2**41 + 5), seed(0))
        return len({word for pair in task.support for word in new_words(pair, frozenset())})

    assert shown("covering") > shown("random")


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (TranslationTasks(shots=0), "shots is 0"),
        (TranslationTasks(queries=(3, 1)), "queries is"),
        (TranslationTasks("all"), "split is 'all'"),
        (TranslationTasks(invented=2), "invented is 2"),
        (TranslationTasks(grammar=Same()), "gives 1 different queries only"),
    ],
)
def test_settings_without_meaning_are_refused(tasks, words):
    with pytest.raises(TaskError, match=words):
        tasks.draw(seed(0))


@pytest.fixture(scope="module")
def tsql():
    return TranslationTasks("test", shots=6, queries=12).of(KnownDialect("tsql"), seed(0))


@pytest.fixture(scope="module")
def made_up():
    return TranslationTasks("test", shots=6, queries=12).of(InventedDialect(2**41 + 1), seed(0))


def share(scores, name):
    return sum(getattr(score, name) for score in scores) / len(scores)


@pytest.mark.parametrize("name", ["tsql", "made_up"])
def test_targets_score_full_and_controls_less(name, request):
    task = request.getfixturevalue(name)
    assert set(score_task(task, [pair.completion for pair in task.query])) == {Score(True, True, True, True)}
    for texts in (copy_input(task), nearest_known(task)):
        scores = score_task(task, texts)
        assert share(scores, "equal_tree") < 0.9
        assert all(score.parses >= score.equal_tree >= score.exact for score in scores)
        assert all(score.executes >= score.equal_tree for score in scores)
    shuffled = [pair.completion for pair in task.query[1:] + task.query[:1]]
    assert share(score_task(task, shuffled), "equal_tree") == 0
    assert share(score_task(task, shuffled), "executes") < 0.3
    assert set(score_task(task, ["no sql at all ("] * 12)) == {Score(False, False, False, False)}


def test_the_nearest_known_dialect_is_the_dialect_itself_where_it_is_known():
    task = TranslationTasks("train", shots=10, queries=6).of(KnownDialect("bigquery"), seed(1))
    assert list(nearest_known(task)) == [pair.completion for pair in task.query]
    assert list(copy_input(task)) == [pair.prompt for pair in task.query]


def test_equal_trees_and_equal_rows_are_less_than_equal_texts(tsql):
    one = Pair("SELECT id FROM t WHERE x = 1 LIMIT 5", "SELECT TOP 5 id FROM t WHERE x = 1")
    task = replace(tsql, query=(one,) * 4, schema=None)
    texts = [
        "SELECT TOP 5 ID from [t] WHERE (x) = 1",
        one.prompt,
        "SELECT TOP 6 id FROM t WHERE x = 1",
        one.completion + " ",
    ]
    found = [(score.exact, score.parses, score.equal_tree, score.executes) for score in score_task(task, texts)]
    assert found[1:] == [(False, False, False, None), (False, True, False, None), (True, True, True, None)]
    assert found[0] == (False, True, True, None)


def test_another_way_to_the_same_rows_executes(made_up):
    table = made_up.schema.tables[0].name
    dialect = made_up.dialect
    target, other, wrong = (
        dialect.write(canonical(f"SELECT id FROM {table} WHERE id {condition}"))
        for condition in ("> 3", ">= 4", ">= 5")
    )
    task = replace(made_up, query=(Pair(f"SELECT id FROM {table} WHERE id > 3", target),) * 2)
    scores = score_task(task, [other, wrong])
    assert [(score.equal_tree, score.executes) for score in scores] == [(False, True), (False, False)]


def test_another_number_of_texts_is_refused(tsql):
    with pytest.raises(TaskError, match="1 texts for 12 queries"):
        score_task(tsql, ["SELECT 1"])


@pytest.fixture
def folder(tmp_path):
    """The shape of the release, with made-up questions: the SQL of ten templates in three splits."""
    rows = []
    start = "SELECT CITYalias0.NAME FROM CITY AS CITYalias0 , STATE AS STATEalias0"
    for split, numbers in (("train", range(30)), ("dev", range(30, 40)), ("test", range(40, 50))):
        for number in numbers:
            sql = f'{start} WHERE CITYalias0.ID = {number} AND STATEalias0.NAME = "x" ;'
            rows.append((f"which is city {number}", sql, split))
    rows.append(("which is city 0", "SELECT 1 FROM CITY", "test"))
    (tmp_path / "sql").mkdir()
    pd.DataFrame(rows, columns=["question", "sql", "query_split"]).to_parquet(
        tmp_path / "sql" / "text2sql_geography.parquet"
    )
    tables = [("CITY", "NAME"), ("CITY", "ID"), ("STATE", "NAME"), ("LAKE", "AREA")]
    schema = pd.DataFrame([("geography", *row) for row in tables], columns=["dataset", "table", "column"])
    schema.to_parquet(tmp_path / "sql" / "schemas.parquet")
    return tmp_path


def test_questions_of_a_split_keep_to_it(folder):
    found = read_questions("geography", folder)
    assert len(found.questions) == 50
    splits = {split: {question.sql for question in found.questions if question.split == split} for split in SPLITS}
    assert [len(splits[split]) for split in SPLITS] == [30, 10, 10]
    for split in SPLITS:
        tasks = QuestionTasks(split, shots=5, queries=5, sets=("geography",), folder=folder)
        task, again = tasks.draw(seed(0)), tasks.draw(seed(0))
        assert task == again
        assert {question_number(pair) < 30 for pair in task.support} == {True}
        wanted = {"train": range(30), "validation": range(30, 40), "test": range(40, 50)}[split]
        assert all(question_number(pair) in wanted for pair in task.query)
        assert not {pair.completion for pair in task.support} & {pair.completion for pair in task.query}
        assert task.dialect.split == split
        assert "city(name, id)" in task.query[0].prompt
        assert score_task(task, [pair.completion for pair in task.query])[0] == Score(True, True, True, None)
        with pytest.raises(TaskError, match="nearest_known is for tasks of translation"):
            nearest_known(task)


def question_number(pair):
    return int(pair.prompt.split(" | ")[0].split()[-1])


def test_a_query_of_the_sets_becomes_canonical():
    sql = 'SELECT YEAR(Aalias0.D) FROM A AS Aalias0 , B INNER JOIN C ON B.X = C.X WHERE Aalias0.N = "it" ;'
    wanted = "SELECT EXTRACT(YEAR FROM a0.d) FROM a AS a0 CROSS JOIN b JOIN c ON b.x = c.x WHERE a0.n = 'it'"
    assert canonical_query(sql).sql() == wanted


def test_without_data_or_questions_it_says_what_to_do(folder, monkeypatch):
    with pytest.raises(InputError, match="there are geography"):
        read_questions("nothing", folder)
    with pytest.raises(TaskError, match="of at most 20 characters of SQL, 40 are asked for"):
        QuestionTasks("test", shots=40, queries=10, sets=("geography",), folder=folder, longest=20).draw(seed(0))
    with pytest.raises(NotAvailable, match="no such file"):
        read_questions("scholar", folder)
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    with pytest.raises(NotAvailable, match="QUICKSTUDY_DATA"):
        QuestionTasks().draw(seed(0))


@real_data
@pytest.mark.parametrize("name", ["geography", "restaurants"])
def test_real_questions_round_trip_in_invented_dialects(name):
    assert name in QUESTION_SETS
    found = read_questions(name)
    assert all(question.tables <= set(found.tables) for question in found.questions)
    for number, question in enumerate(found.questions[::15]):
        dialect, tree = InventedDialect(number), canonical(question.sql)
        assert dialect.read(dialect.write(tree)) == tree


@real_data
def test_real_tasks_are_drawn():
    task = QuestionTasks("test", sets=("geography",)).draw(seed(0))
    assert isinstance(task, SQLTask)
    assert (len(task.support), len(task.query)) == (10, 10)
