"""The small version: both black-box learners beat their controls, and fall to chance on shuffled targets."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.blackbox import BLACKBOX


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, BLACKBOX)
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", ["hypernetwork, sine waves K=10", "LSTM, sine waves K=10"])
def test_waves_are_learned(rows, name):
    assert rows[name].mean < 1.5
    assert rows[f"control: untrained {name}"].mean > 3
    assert rows[f"control: {name}, shuffled targets"].mean > 2


@pytest.mark.parametrize("name", ["hypernetwork, 2-way 3-shot blobs", "LSTM, 2-way 3-shot blobs"])
def test_classes_are_learned(rows, name):
    assert rows[name].mean > 70
    for control in (f"control: untrained {name}", f"control: {name}, shuffled targets"):
        assert rows[control].mean == pytest.approx(50, abs=10)
    assert rows[name].mean < rows["control: class means, blobs"].mean + 3


def test_nothing_is_called_published(rows):
    assert all(row.published is None for row in rows.values())
