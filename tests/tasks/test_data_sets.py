"""The intents and reviews sets. Counts are those of the releases."""

import os
from collections import Counter

import pandas as pd
import pytest
import torch

from quickstudy.core.errors import InputError, NotAvailable, TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.episodes import TableTasks
from quickstudy.tasks.intents import INTENTS, read_intents, without_shared
from quickstudy.tasks.reviews import LABELS, ReviewTasks
from quickstudy.tasks.splits import check_disjoint
from quickstudy.tasks.table import Table

real_data = pytest.mark.skipif(not os.environ.get("QUICKSTUDY_DATA"), reason="QUICKSTUDY_DATA names no data folder")


def encode(texts):
    width = max(map(len, texts))
    ids = torch.tensor([[ord(c) for c in text] + [0] * (width - len(text)) for text in texts])
    return {"input_ids": ids, "mask": (ids > 0).long()}


def rows(batch):
    texts = ["".join(chr(c) for c in row if c) for row in batch.inputs["input_ids"].tolist()]
    kept = zip(texts, batch.targets.tolist(), batch.weights.tolist(), strict=True)
    return [(text, target) for text, target, weight in kept if weight]


def test_without_a_data_folder_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    with pytest.raises(NotAvailable, match="QUICKSTUDY_DATA"):
        read_intents("banking77")
    with pytest.raises(NotAvailable, match="QUICKSTUDY_DATA"):
        ReviewTasks(encode).sample(torch.Generator())
    with pytest.raises(NotAvailable, match="no such file"):
        read_intents("banking77", tmp_path)
    with pytest.raises(InputError, match="did you mean 'banking77'"):
        read_intents("banking")


def test_shared_and_ambiguous_texts_are_dropped_from_later_splits():
    table = Table(
        ("yes", "Yes ", "a", "A", "b", "c", "c", "d"),
        ("p", "q", "x", "x", "x", "y", "y", "y"),
        splits=("train", "test", "train", "test", "test", "test", "dev", "dev"),
    )
    kept = without_shared(table)
    assert list(zip(kept.texts, kept.splits, strict=True)) == [
        ("a", "train"),
        ("b", "test"),
        ("c", "dev"),
        ("d", "dev"),
    ]
    assert kept.notes[0].startswith("2 rows whose text has several labels and 2 rows")


@real_data
@pytest.mark.parametrize(
    ("name", "split", "size", "classes"),
    [
        ("banking77", "train_5", 385, 77),
        ("CLINC150", "train_10", 1500, 150),
        ("snips", "valid", 700, 7),
        ("atis", "train", 4478, 21),
    ],
)
def test_the_intent_sets_have_their_published_sizes(name, split, size, classes):
    table = read_intents(name)
    part = table.where(split=split)
    assert (len(part), len(part.classes)) == (size, classes)
    assert len(table.domains) == len(table)
    if name == "CLINC150":
        assert len(set(part.domains)) == 10


@real_data
def test_multidogo_splits_share_no_text():
    table = read_intents("multidogo")
    splits = {split: table.where(split=split) for split in ("train", "dev", "test")}
    check_disjoint(splits)
    assert len(set(table.domains)) == 6
    assert all(len(part) > 1000 for part in splits.values())
    source = TableTasks(splits["train"], encode, ways=(3, 5), shots=2, queries=3, within="domain", skip_small=True)
    check_source(source, episodes=3)


@real_data
def test_hundreds_of_episodes_of_an_intent_set_differ_and_conform():
    source = TableTasks(read_intents("clinc150").where(split="train"), encode, ways=20, shots=1, queries=2)
    generator = torch.Generator().manual_seed(0)
    assert len({source.sample(generator).labels for _ in range(200)}) == 200
    assert set(INTENTS) == {"banking77", "clinc150", "snips", "atis", "multidogo"}


@pytest.fixture
def reviews(tmp_path):
    """The shape of the release, with made-up reviews."""
    found = []
    for role, domains, splits in (
        ("train_task", ("toys", "food"), {"train": 12, "dev": 6, "test": 6}),
        ("train_task", ("music",), {"dev": 6, "test": 6}),
        ("test_task", ("books", "dvd"), {"train": 5, "dev": 8, "test": 9}),
    ):
        for domain in domains:
            for threshold in LABELS:
                for split, each in splits.items():
                    found += [
                        (
                            f"{domain} {threshold} {split} {label} {n}",
                            label,
                            f"{domain}.{threshold}",
                            threshold,
                            split,
                            role,
                        )
                        for label in (0, 1)
                        for n in range(each + 4 * label * (split != "train"))
                    ]
    for label in (0, 1):
        found.append((f"Books t2 train {label} 0", label, "books.t2", "t2", "test", "test_task"))
    (tmp_path / "reviews").mkdir()
    columns = ["text", "label", "task", "threshold", "split", "role"]
    pd.DataFrame(found, columns=columns).to_parquet(tmp_path / "reviews" / "arsc.parquet")
    return tmp_path


def check_rows(episode, side, split, names=()):
    for text, target in rows(side):
        if text in names:
            assert text == episode.labels[target]
            continue
        domain, threshold, found, label, _ = text.split()
        assert (f"{domain}.{threshold}", found) == (episode.task, split)
        assert episode.labels[target] == LABELS[threshold][int(label)]


def test_review_train_tasks_draw_both_sides_from_their_own_task(reviews):
    for options in ({}, {"query_split": "dev"}, {"thresholds": ("t4",)}, {"class_names": True}):
        source = ReviewTasks(encode, folder=reviews, **options)
        check_source(source)
        assert len(source.names) == (2 if "thresholds" in options else 6)
        for seed in range(10):
            episode = source.sample(torch.Generator().manual_seed(seed))
            check_rows(episode, episode.support, "train", [name for pair in LABELS.values() for name in pair])
            check_rows(episode, episode.query, options.get("query_split", "train"))
            assert Counter(target for _, target in rows(episode.query)) == {0: 5, 1: 5}


def test_review_test_tasks_always_have_their_fixed_support(reviews):
    source = ReviewTasks(encode, role="test", folder=reviews)
    check_source(source)
    supports = {}
    for seed in range(40):
        episode = source.sample(torch.Generator().manual_seed(seed))
        check_rows(episode, episode.query, "test")
        supports.setdefault(episode.task, set()).add(frozenset(text for text, _ in rows(episode.support)))
    assert len(supports) == 6
    assert all(len(found) == 1 and len(next(iter(found))) == 10 for found in supports.values())
    whole = source.whole()
    assert [len(episode.query.weights) for episode in whole] == [22] * 6
    assert all(episode.labels == LABELS[episode.task[-2:]] for episode in whole)
    with pytest.raises(TaskError, match="role='test'"):
        ReviewTasks(encode, folder=reviews).whole()


def test_class_one_can_be_held_in_place(reviews):
    def orders(fixed):
        source = ReviewTasks(encode, fixed_order=fixed, folder=reviews)
        drawn = [source.sample(torch.Generator().manual_seed(seed)) for seed in range(30)]
        return {episode.labels.index(LABELS[episode.task[-2:]][1]) for episode in drawn}

    assert orders(True) == {1}
    assert orders(False) == {0, 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"role": "valid"}, "role is 'valid'"),
        ({"role": "test", "shots": 3}, "5 fixed support"),
        ({"role": "test", "query_split": "train"}, "query_split is 'train'"),
        ({"thresholds": ("t3",)}, "thresholds are 't3'"),
        ({"shots": 10}, "12 reviews for 10 shots"),
    ],
)
def test_review_options_without_meaning_are_refused(reviews, options, words):
    with pytest.raises(TaskError, match=words):
        ReviewTasks(encode, folder=reviews, **options).sample(torch.Generator())


@real_data
def test_the_reviews_have_their_published_tasks():
    test = ReviewTasks(encode, role="test")
    assert len(test.names) == 12
    assert {name.partition(".")[0] for name in test.names} == {"books", "dvd", "electronics", "kitchen_housewares"}
    check_source(test, episodes=2)
    train = ReviewTasks(encode)
    assert len(train.names) == 51
    check_source(train, episodes=2)
