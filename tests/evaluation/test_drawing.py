"""Test tasks are the first that a generator of the seed draws; run in parts they give what each gives alone."""

import pytest
import torch

from quickstudy.evaluation.drawing import drawn_tasks, in_parts
from quickstudy.tasks.sinusoids import Sinusoids


def test_more_tasks_begin_with_the_same_and_another_seed_has_others():
    few, many, other = (list(drawn_tasks(Sinusoids(), count, seed)) for count, seed in ((2, 5), (4, 5), (2, 6)))
    assert len(many) == 4
    assert all(torch.equal(a.query.targets, b.query.targets) for a, b in zip(few, many, strict=False))
    assert not torch.equal(few[0].query.targets, other[0].query.targets)
    first = Sinusoids().sample(torch.Generator().manual_seed(5))
    assert torch.equal(first.query.targets, few[0].query.targets)


def test_no_tasks_are_refused_at_once():
    with pytest.raises(ValueError, match="episodes is 0"):
        drawn_tasks(Sinusoids(), 0, 0)


def test_parts_hold_what_each_task_gives_in_order_and_no_graph():
    def scaled(params, episode):
        return {"sum": params["w"] * episode.query.targets.sum()}

    params = {"w": torch.tensor(3.0, requires_grad=True)}
    parts = in_parts(scaled, params, drawn_tasks(Sinusoids(), 7, 5), at_once=3)
    assert [len(part["sum"]) for part in parts] == [3, 3, 1]
    found = torch.cat([part["sum"] for part in parts])
    assert not found.requires_grad
    expected = [3 * float(episode.query.targets.sum()) for episode in drawn_tasks(Sinusoids(), 7, 5)]
    assert found.tolist() == pytest.approx(expected)
