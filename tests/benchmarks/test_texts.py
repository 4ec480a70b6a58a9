"""Tasks share what they may share and nothing else."""

import importlib

import pytest


def pool(texts):
    rows = [(f"{label} {number}", label) for label in "abcdefghijkl" for number in range(8)]
    return texts.Rows([text for text, _ in rows], [label for _, label in rows])


def test_disjoint_tasks_share_no_class_and_no_text():
    texts = importlib.import_module("texts")
    found = texts.disjoint_tasks(pool(texts), 2, queries=3)
    classes = [set(task.support.labels) for task in found]
    assert not classes[0] & classes[1]
    for task in found:
        assert len(task.support.texts) == 25
        assert len(task.query.texts) == 15
        assert set(task.support.labels) == set(task.query.labels)
        assert not set(task.support.texts) & set(task.query.texts)
        assert all(text.split()[0] == label for text, label in zip(task.query.texts, task.query.labels, strict=True))
    with pytest.raises(ValueError, match="3 tasks of 5 classes need 15"):
        texts.disjoint_tasks(pool(texts), 3, queries=3)


def test_the_same_seed_draws_the_same_tasks():
    texts = importlib.import_module("texts")
    assert texts.tasks(pool(texts), 3, 2, seed=1) == texts.tasks(pool(texts), 3, 2, seed=1)
    assert texts.tasks(pool(texts), 3, 2, seed=1) != texts.tasks(pool(texts), 3, 2, seed=2)
