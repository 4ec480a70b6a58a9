"""The small run: classes that are told one drawing late are named at their second drawing; an LSTM guesses."""

import os
from itertools import pairwise

import pytest
import torch

from quickstudy.core.types import Batch
from quickstudy.reproduce.base import Work
from quickstudy.reproduce.mann_omniglot import PUBLISHED, instances, plan, run

NEEDS_DATA = pytest.mark.skipif(
    "QUICKSTUDY_DATA" not in os.environ,
    reason="QUICKSTUDY_DATA is not set, and the drawings are no part of the package",
)


@NEEDS_DATA
def test_the_memory_names_a_class_that_it_saw_once(tmp_path):
    work = Work(tmp_path / "runs", tmp_path / "mann_omniglot", quick=True, progress=False, tell=lambda _: None)
    rows = {row.name: row for row in run(work)}
    chance = 100 / plan(quick=True).ways
    assert rows["MANN, instance 2"].mean > 58
    assert rows["MANN, instance 4"].mean > rows["MANN, instance 2"].mean
    assert rows["control: LSTM, instance 4"].mean < rows["MANN, instance 4"].mean - 15
    shuffled = rows["control: MANN, instance 4, shuffled labels"]
    assert abs(shuffled.mean - chance) < 12
    assert all(row.published is None for row in rows.values())
    assert (tmp_path / "mann_omniglot-instances.png").exists()


def test_instances_are_counted_by_class():
    batch = Batch(torch.zeros(6, 1), torch.tensor([2, 0, 2, 1, 2, 0]), torch.ones(6), 3)
    assert instances(batch).tolist() == [1, 1, 2, 1, 3, 2]


def test_the_full_run_is_the_one_of_the_paper():
    wanted = plan(quick=False)
    assert (wanted.ways, wanted.shots) == (5, 10)
    assert wanted.tasks(test=True).split == "test"
    assert wanted.tasks(test=False).split == "train+validation"
    assert wanted.episodes >= 600
    assert all(later > before for before, later in pairwise(PUBLISHED["MANN"].values()))
