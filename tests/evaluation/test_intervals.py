"""Intervals hold what they promise."""

import math

import pytest
import torch

from quickstudy.evaluation.intervals import interval, paired_difference, seed_table


def test_four_known_values():
    found = interval(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert found.mean == pytest.approx(0.75)
    assert found.ci95 == pytest.approx(1.96 * 0.5 / 2)
    assert found.tasks == 4
    assert str(found) == "0.7500 ± 0.4900 over 4 tasks"


def test_one_task_says_nothing_about_others():
    assert interval(torch.tensor([0.4])).ci95 == math.inf


def test_the_interval_covers_the_truth_in_about_95_of_100():
    draw = torch.Generator().manual_seed(0)
    found = [interval(torch.rand(50, generator=draw)) for _ in range(1000)]
    covered = sum(abs(each.mean - 0.5) <= each.ci95 for each in found)
    assert 920 < covered < 970


def test_differences_of_the_same_tasks_are_sharper():
    draw = torch.Generator().manual_seed(0)
    hardness = torch.rand(200, generator=draw)
    found = paired_difference(hardness + 0.01 + 0.001 * torch.randn(200, generator=draw), hardness)
    assert found.mean - found.ci95 > 0
    assert found.mean == pytest.approx(0.01, abs=1e-3)
    assert found.ci95 < interval(hardness).ci95 / 10


def test_seeds_are_reported_apart():
    table = seed_table({3: torch.tensor([0.2, 0.4]), 5: torch.tensor([0.7, 0.9])})
    assert table.rows[3].mean == pytest.approx(0.3)
    assert table.mean == pytest.approx(0.55)
    assert table.spread == pytest.approx(0.25 * math.sqrt(2))
    assert seed_table({1: torch.tensor([0.2, 0.4])}).spread == 0


def test_nothing_to_average_is_refused():
    for values in (torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="at least one task"):
            interval(values)
    with pytest.raises(ValueError, match="same tasks"):
        paired_difference(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="no seeds"):
        seed_table({})
