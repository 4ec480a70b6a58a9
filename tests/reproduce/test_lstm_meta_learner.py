"""The small version: the LSTM meta-learner beats its own start, fixed rates and shuffled labels."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.lstm_meta_learner import CONTROL, LSTM_META_LEARNER

WAVES, CLOUDS = "sine waves, K=10", "clouds of points, 5-way 2-shot"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, LSTM_META_LEARNER, ("-sine-waves", "-clouds-of-points"))
    return {row.name: row.mean for row in found}


@pytest.mark.parametrize("control", ["control: its start, not adapted", "control: untrained", CONTROL])
def test_it_beats_its_controls(rows, control):
    assert rows[f"{WAVES}: LSTM meta-learner"] < 0.8 * rows[f"{WAVES}: {control}"]
    assert rows[f"{CLOUDS}: LSTM meta-learner"] > 3 + rows[f"{CLOUDS}: {control}"]


def test_shuffled_labels_teach_nothing(rows):
    assert rows[f"{WAVES}: control: shuffled labels"] > 1.3 * rows[f"{WAVES}: LSTM meta-learner"]
    assert abs(rows[f"{CLOUDS}: control: shuffled labels"] - 20) < 4
