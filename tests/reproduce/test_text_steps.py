"""The small version: both starts tell intents that they have not seen, and the figures are of the steps they name."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.text_steps import META, RANDOM, TEXT_STEPS


@pytest.fixture(scope="module")
def rows(tmp_path_factory, data_folder):
    found = quick_rows(tmp_path_factory, TEXT_STEPS)
    return {row.name: row for row in found}


def test_both_starts_are_far_above_chance_with_and_without_steps(rows):
    for name in (META, RANDOM):
        for steps in (0, 2):
            row = rows[f"BANKING77 20-way 5-shot, {name}, {steps} steps"]
            assert row.mean > 60  # chance is 5
            assert (row.tasks, row.facts["steps"]) == (2, steps)


def test_steps_needed_are_those_of_a_row_that_is_as_good(rows):
    best = max(row.mean for name, row in rows.items() if f"{RANDOM}, " in name and row.metric != "steps")
    for name in (META, RANDOM):
        needed = rows.get(f"BANKING77 20-way 5-shot, {name}, steps to the random start's best accuracy")
        if needed is not None:
            assert rows[f"BANKING77 20-way 5-shot, {name}, {needed.mean:.0f} steps"].mean >= best
