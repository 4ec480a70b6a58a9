"""The small version: SNAIL names characters it has not seen; untrained or with shuffled labels it is at chance."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.snail_omniglot import SNAIL_OMNIGLOT


@pytest.fixture(scope="module")
def rows(tmp_path_factory, data_folder):
    found = quick_rows(tmp_path_factory, SNAIL_OMNIGLOT)
    return {row.name: row for row in found}


def test_snail_names_new_characters(rows):
    assert rows["SNAIL, 5-way 1-shot"].mean > 65
    assert rows["SNAIL, 5-way 1-shot"].published == 99.07


def test_controls_are_at_chance(rows):
    for control in ("SNAIL untrained", "SNAIL, shuffled support labels"):
        assert rows[f"control: {control}, 5-way 1-shot"].mean == pytest.approx(20, abs=9)
    assert rows["control: class means on the same features, 5-way 1-shot"].mean > 65
