"""Functions to minimise: they conform, the query is the same function, and starts are drawn."""

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.optimisees import Quadratics, StartedTasks, started
from quickstudy.tasks.sinusoids import Sinusoids


def drawn(source, count=20):
    return [source.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    "source",
    [
        Quadratics(),
        Quadratics(width=3, rows=5),
        StartedTasks(GaussianBlobs(ways=(2, 4), shots=(1, 3), queries=3), (2, 6, 4)),
        StartedTasks(Sinusoids(shots=(3, 6)), (1, 8, 1)),
    ],
)
def test_the_source_conforms(source):
    check_source(source)


def test_the_query_is_the_same_function():
    for episode in drawn(Quadratics(width=4, rows=7)):
        point = torch.randn(4, 1, generator=torch.Generator().manual_seed(1))
        values = [(side.inputs["x"] @ point - side.targets).square().sum() for side in (episode.support, episode.query)]
        torch.testing.assert_close(*values)


def test_entries_of_quadratics_are_standard_normal():
    episodes = drawn(Quadratics(), 400)
    weights = torch.cat([episode.support.inputs["x"].flatten() for episode in episodes])
    targets = torch.cat([episode.support.targets.flatten() for episode in episodes])
    for values in (weights, targets):
        assert abs(float(values.mean())) < 0.1
        assert float(values.std()) == pytest.approx(1, abs=0.05)


def test_a_start_is_the_same_in_each_row_and_another_in_each_task():
    episodes = drawn(StartedTasks(GaussianBlobs(ways=3, shots=2), (2, 50, 3)))
    starts = [episode.support.inputs["start"] for episode in episodes]
    assert all((start == start[0]).all() for start in starts)
    assert starts[0].shape == (6, 2 * 50 + 50 + 50 * 3 + 3)
    assert not torch.equal(starts[0], starts[1])
    first = torch.stack([start[0, :100] for start in starts])
    assert 0.99 / 2**0.5 < float(first.abs().max()) <= 1 / 2**0.5
    assert not starts[0][0, 100:150].any()


def test_the_tasks_are_those_of_the_other_source():
    blobs = GaussianBlobs(ways=3, shots=2)
    one, other = drawn(blobs, 1)[0], drawn(StartedTasks(blobs, (2, 3)), 1)[0]
    assert torch.equal(one.support.inputs, other.support.inputs["x"])
    assert torch.equal(one.query.inputs, other.query.inputs["x"])
    assert torch.equal(one.support.targets, other.support.targets)
    assert one.labels == other.labels


def test_what_has_no_meaning_is_refused():
    with pytest.raises(TaskError, match="width is 0"):
        Quadratics(width=0).sample(torch.Generator())
    with pytest.raises(TaskError, match="rows is 0"):
        Quadratics(rows=0).sample(torch.Generator())
    with pytest.raises(TaskError, match="at least two numbers"):
        StartedTasks(Sinusoids(), (1,)).sample(torch.Generator())
    support = drawn(Quadratics(), 1)[0].support
    with pytest.raises(TaskError, match="the inputs hold x, start"):
        started(support, torch.zeros(10))
