"""The small version: MAML, ANIL and MAML++ learn characters, and fall to chance on shuffled labels."""

import os

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.omniglot_gradient import OMNIGLOT_GRADIENT, cases

WAYS = "5-way 1-shot"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    if "QUICKSTUDY_DATA" not in os.environ:
        pytest.skip("QUICKSTUDY_DATA names no folder with images/omniglot.npz")
    found = quick_rows(tmp_path_factory, OMNIGLOT_GRADIENT)
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", ["MAML", "ANIL", "MAML++"])
def test_characters_are_learned(rows, name):
    assert rows[f"{name}, {WAYS}"].mean > rows[f"control: random start at its own best rate, {WAYS}"].mean + 5
    assert rows[f"{name}, {WAYS}"].facts["transductive"]


@pytest.mark.parametrize("name", ["MAML without adapting", "MAML, shuffled labels"])
def test_without_the_labels_there_is_chance(rows, name):
    assert rows[f"control: {name}, {WAYS}"].mean == pytest.approx(20, abs=9)


def test_what_nobody_has_seen_in_its_source_is_called_unverified():
    sources = {case.label: case.source for case in cases(quick=False)}
    assert sources.pop("anil-20").endswith("unverified")
    assert not any(source.endswith("unverified") for source in sources.values())
