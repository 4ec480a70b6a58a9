"""The recipe of binary tasks: its rows stand on the same tasks, and its controls stay at chance."""

from __future__ import annotations

import torch

from quickstudy.learners.conformance import ShuffledLabels
from quickstudy.tasks import BinaryTasks
from recipes.binary import compare


def test_a_short_run_beats_its_controls() -> None:
    rows = {row["what"].partition(",")[0] + str(place): row for place, row in enumerate(compare(10, [0], 150, 100))}
    learned, random, raw, still, false = rows.values()
    assert learned["mean"] > 70
    assert learned["mean"] > random["mean"]
    assert all(40 < row["mean"] < 60 for row in (raw, still, false))
    assert {row["tasks"] for row in rows.values()} == {100}


def test_only_the_labels_of_the_support_are_shuffled() -> None:
    tasks = BinaryTasks(support=10, query=20)
    plain = tasks.sample(torch.Generator().manual_seed(3))
    mixed = ShuffledLabels(tasks).sample(torch.Generator().manual_seed(3))
    assert torch.equal(plain.support.inputs, mixed.support.inputs)
    assert torch.equal(plain.query.targets, mixed.query.targets)
    assert not torch.equal(plain.support.targets, mixed.support.targets)
    assert torch.equal(plain.support.targets.sort()[0], mixed.support.targets.sort()[0])
