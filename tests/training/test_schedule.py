import math
from dataclasses import replace
from itertools import pairwise

import pytest

from quickstudy.training.options import FitOptions
from quickstudy.training.schedule import learning_rate

OPTIONS = FitOptions(steps=100, lr=0.5, warmup=10)


def rates(schedule):
    return [learning_rate(replace(OPTIONS, schedule=schedule), step) for step in range(100)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_warmup_rises_by_a_line_to_the_full_rate(schedule):
    assert rates(schedule)[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates(schedule)[10] == pytest.approx(0.5)
    assert learning_rate(replace(OPTIONS, schedule=schedule, warmup=0), 0) == pytest.approx(0.5)


def test_constant_stays():
    assert set(rates("constant")[10:]) == {0.5}


def test_linear_falls_by_the_same_at_each_step():
    falls = [a - b for a, b in pairwise(rates("linear")[10:])]
    assert falls == pytest.approx([0.5 / 90] * len(falls))


def test_cosine_is_half_way_in_the_middle_and_never_rises():
    found = rates("cosine")[10:]
    assert found[45] == pytest.approx(0.25)
    assert found[30] == pytest.approx(0.25 * (1 + math.cos(math.pi / 3)))
    assert all(a >= b for a, b in pairwise(found))


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_last_step_still_moves(schedule):
    assert 0 < rates(schedule)[-1] < 0.02


def test_warmup_over_all_steps():
    options = replace(OPTIONS, warmup=100, schedule="linear")
    assert learning_rate(options, 99) == pytest.approx(0.5)
