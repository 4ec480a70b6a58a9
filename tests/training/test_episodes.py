import os
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch
from places import Places

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.training.episodes import draw, drawn, generator_for, seed_for


@dataclass(frozen=True)
class Numbers:
    """Draws of several numbers each; knows which threads asked."""

    threads: set = field(default_factory=set)
    fail_at: int = -1
    drawn: list = field(default_factory=list)

    def sample(self, generator):
        self.threads.add(threading.current_thread().name)
        self.drawn.append(1)
        if len(self.drawn) == self.fail_at:
            raise KeyError("no such task")
        values = torch.rand(2, 3, generator=generator)
        batch = Batch(values, values, torch.ones(2))
        return Episode(batch, batch, task=f"{values.sum():.6f}")


def taken(source, indices, workers, seed=0):
    with drawn(source, seed, indices, workers) as episodes:
        return [episode.support.inputs for episode in episodes]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_draws_the_same(workers):
    source = Numbers()
    alone, together = taken(Numbers(), range(40), 0), taken(source, range(40), workers)
    assert torch.equal(torch.stack(alone), torch.stack(together))
    assert all(name.startswith("episodes") for name in source.threads)


def test_processes_draw_the_same_and_are_gone_afterwards():
    with drawn(Places(), 0, range(9), 2, processes=True) as episodes:
        together = list(episodes)
    places = {int(episode.support.targets[0]) for episode in together}
    assert os.getpid() not in places
    alone = [draw(Places(), 0, "episode", index) for index in range(9)]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.support.inputs, other.support.inputs)
    assert not [place for place in places if os.path.exists(f"/proc/{place}")]
    with pytest.raises(TaskError, match="no such task"), drawn(Places(True), 0, range(3), 1, True) as episodes:
        next(episodes)


def test_no_task_is_drawn_twice():
    found = Counter(tuple(values.flatten().tolist()) for values in taken(Numbers(), range(500), 3))
    assert set(found.values()) == {1}


def test_an_episode_does_not_depend_on_those_before():
    assert torch.equal(
        torch.stack(taken(Numbers(), range(17, 20), 2)), torch.stack(taken(Numbers(), range(20), 0)[17:])
    )
    assert torch.equal(draw(Numbers(), 0, "episode", 17).support.inputs, taken(Numbers(), range(18), 0)[17])


def test_seeds_and_streams_have_other_tasks():
    seeds = {seed_for(seed, stream, index) for seed in range(5) for stream in ("a", "b") for index in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not torch.equal(taken(Numbers(), range(3), 0, seed=1)[0], taken(Numbers(), range(3), 0)[0])


def test_a_generator_is_the_same_each_time():
    first, second = (torch.rand(5, generator=generator_for(3, "init")) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_comes_where_its_episode_is_due(workers):
    source = Numbers(fail_at=5)
    with pytest.raises(KeyError, match="no such task"):
        taken(source, range(100), workers)


def test_workers_stay_only_a_little_ahead():
    source = Numbers()
    with drawn(source, 0, range(10_000), 2) as episodes:
        next(episodes)
    assert len(source.drawn) <= 6


def test_no_thread_outlives_the_block():
    before = threading.active_count()
    with drawn(Numbers(), 0, range(100), 3) as episodes:
        next(episodes)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_nothing_to_draw():
    assert taken(Numbers(), range(4, 4), 2) == []
