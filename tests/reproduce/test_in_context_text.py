"""The small version, on drawn features: training beats class means, shuffled labels are at chance."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.in_context_text import IN_CONTEXT_TEXT, drawn_data

ENDING = "drawn features, 5-way 5-shot"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, IN_CONTEXT_TEXT)
    return {row.name.removesuffix(f", {ENDING}"): row for row in found}


def test_training_beats_means_and_logistic_regression_on_new_classes(rows):
    trained = rows["in-context classifier"]
    for control in ("cosine to class means, which is the untrained classifier", "class means", "logistic regression"):
        assert trained.mean - trained.ci95 > rows[f"control: {control}"].mean
    assert trained.facts["ahead_of_logistic_regression"] > trained.facts["ahead_ci95"]


def test_shuffled_labels_are_at_chance(rows):
    assert rows["control: in-context classifier, shuffled labels"].mean == pytest.approx(20, abs=5)


def test_nothing_is_called_published(rows):
    assert all(row.published is None for row in rows.values())


def test_drawn_classes_are_the_same_each_time_and_no_row_is_in_two_sets():
    one, other = drawn_data(), drawn_data()
    assert (one.train.features == other.train.features).all()
    sets = [one.train, one.validation, *one.tests.values()]
    found = {tuple(row) for each in sets for row in each.features.tolist()}
    assert len(found) == sum(len(each.features) for each in sets)
