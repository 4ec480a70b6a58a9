"""The small version: the learned optimiser beats hand-written ones at their best rates, and does not blow up."""

import pytest
import torch
from quick_runs import quick_rows

from quickstudy.core.optimisers import SGD
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.reproduce.learned_optimiser import LEARNED_OPTIMISER, quadratics
from quickstudy.reproduce.walks import HAND_WRITTEN, LARGEST, ByHand, losses


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, LEARNED_OPTIMISER, ("-quadratics",))
    return {row.name.removeprefix("quadratics: "): row for row in found}


def test_it_is_below_every_hand_written_optimiser(rows):
    learned = rows["learned optimiser, 20 steps"]
    for name in HAND_WRITTEN:
        control = rows[f"control: {name} at its own best rate, 20 steps"]
        assert learned.mean < control.mean - 0.1


def test_training_makes_it_so(rows):
    assert rows["learned optimiser, 20 steps"].mean < rows["control: untrained LSTM, 20 steps"].mean - 0.3


def test_it_does_not_blow_up_far_beyond_its_training(rows):
    far = rows["learned optimiser, 200 steps"]
    assert far.mean < rows["learned optimiser, 20 steps"].mean - 1
    assert far.facts["percent_above_the_horizon"] < 5


def test_a_walk_that_runs_away_stays_a_number():
    family = quadratics(quick=True)
    episodes = list(drawn_tasks(family.tasks, 3, 0))
    found = losses(family.network, episodes, ByHand(SGD(1e6)), 40)
    assert torch.isfinite(found).all()
    assert (found[-1] == LARGEST).all()
    assert (found[0] < 1e6).all()
