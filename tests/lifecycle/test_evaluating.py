"""Figures: on a test split, and over drawn tasks."""

import pytest
import torch

from quickstudy import FewShotClassifier, Table
from quickstudy.core.errors import InputError, TaskError
from quickstudy.evaluation import expected_calibration_error
from quickstudy.lifecycle.evaluating import EpisodePlan, evaluate_episodes, evaluate_splits

SPLIT_KEYS = ["accuracy", "macro_f1", "ece", "adapt_seconds", "n_train", "n_test", "method", "base"]
EPISODE_KEYS = ["accuracy", "ci95", "episodes", "adapt_seconds_median"]


def table(draw, *arguments):
    texts, labels = draw(*arguments)
    return Table(tuple(texts), tuple(labels))


def test_split_figures_are_those_of_the_classifier(base, draw):
    train, test = table(draw, 4), table(draw, 10, 5)
    report = evaluate_splits(train, test, FewShotClassifier("logistic", base, unknown="auto"))
    assert list(report) == SPLIT_KEYS
    classifier = FewShotClassifier("logistic", base).fit(train.texts, train.labels)
    assert report["accuracy"] == pytest.approx(classifier.score(test.texts, test.labels))
    targets = torch.tensor([classifier.classes_.tolist().index(label) for label in test.labels])
    probabilities = torch.from_numpy(classifier.predict_proba(test.texts))
    assert report["ece"] == pytest.approx(expected_calibration_error(probabilities, targets))
    assert (report["n_train"], report["n_test"], report["method"], report["base"]) == (16, 40, "logistic", "tiny")
    assert report["adapt_seconds"] > 0


def test_macro_f1_counts_classes_alike(base, draw):
    train = table(draw, 4)
    test = table(draw, 10, 5).rows([*range(10), 10, 20, 30])
    report = evaluate_splits(train, test, FewShotClassifier("logistic", base))
    found = FewShotClassifier("logistic", base).fit(train.texts, train.labels).predict(test.texts).tolist()
    scores = []
    for name in train.classes:
        hits = sum(one == two == name for one, two in zip(found, test.labels, strict=True))
        scores.append(2 * hits / (found.count(name) + test.labels.count(name)))
    assert report["macro_f1"] == pytest.approx(sum(scores) / 4)


def test_a_test_label_without_examples_is_refused(base, draw):
    with pytest.raises(TaskError, match="'battery'"):
        evaluate_splits(table(draw, 2, 0, ("parcel", "refund")), table(draw, 2), FewShotClassifier("logistic", base))


def test_drawn_tasks_are_the_same_for_the_same_seed(base, draw):
    plan, told = EpisodePlan(ways=3, shots=2, queries=4, episodes=8, seed=1), []
    one = evaluate_episodes(table(draw, 12), FewShotClassifier("logistic", base), plan, told.append)
    two = evaluate_episodes(table(draw, 12), FewShotClassifier("logistic", base), plan)
    assert list(one) == EPISODE_KEYS
    assert told == list(range(1, 9))
    assert (one["accuracy"], one["ci95"], one["episodes"]) == (two["accuracy"], two["ci95"], 8)
    assert 0.8 < one["accuracy"] <= 1
    assert 0 < one["adapt_seconds_median"] < 5


def test_drawn_tasks_of_shuffled_labels_are_at_chance(base, draw):
    texts, labels = draw(24)
    mixed = Table(tuple(texts), tuple(sorted(set(labels))[place % 4] for place in range(96)))
    plan = EpisodePlan(ways=4, shots=3, queries=5, episodes=30)
    report = evaluate_episodes(mixed, FewShotClassifier("protonet", base, class_names=False), plan)
    assert abs(report["accuracy"] - 0.25) < 0.08


def test_plans_that_cannot_be_are_refused(base, draw):
    classifier = FewShotClassifier("protonet", base)
    with pytest.raises(InputError, match="episodes is 0"):
        evaluate_episodes(table(draw, 5), classifier, EpisodePlan(episodes=0))
    with pytest.raises(TaskError, match="classes"):
        evaluate_episodes(table(draw, 5), classifier, EpisodePlan(ways=5, shots=1, queries=1, episodes=1))
    with pytest.raises(TaskError):
        evaluate_episodes(table(draw, 5), classifier, EpisodePlan(ways=2, shots=4, queries=4, episodes=1))


def test_one_task_has_no_interval(base, draw):
    plan = EpisodePlan(ways=2, shots=1, queries=2, episodes=1)
    assert evaluate_episodes(table(draw, 4), FewShotClassifier("protonet", base), plan)["ci95"] is None
