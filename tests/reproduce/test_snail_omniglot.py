"""The small version: SNAIL names characters it has not seen; untrained or with shuffled labels it is at chance."""

import pytest

from quickstudy.reproduce.base import Work
from quickstudy.reproduce.snail_omniglot import SNAIL_OMNIGLOT


@pytest.fixture(scope="module")
def rows(tmp_path_factory, data_folder):
    folder = tmp_path_factory.mktemp("snail")
    work = Work(folder / "runs", folder / "picture", quick=True, progress=False, tell=lambda line: None)
    found = SNAIL_OMNIGLOT.run(work)
    assert (folder / "picture.png").stat().st_size > 0
    return {row.name: row for row in found}


def test_snail_names_new_characters(rows):
    assert rows["SNAIL, 5-way 1-shot"].mean > 65
    assert rows["SNAIL, 5-way 1-shot"].published == 99.07


def test_controls_are_at_chance(rows):
    for control in ("SNAIL untrained", "SNAIL, shuffled support labels"):
        assert rows[f"control: {control}, 5-way 1-shot"].mean == pytest.approx(20, abs=9)
    assert rows["control: class means on the same features, 5-way 1-shot"].mean > 65
