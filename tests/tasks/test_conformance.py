"""The checks see what they are for: each broken source is caught, by its own message."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch

from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.conformance import check_source


@dataclass(frozen=True)
class Broken(TaskSource):
    change: Callable[[Episode], Episode]
    inner: TaskSource = field(default_factory=GaussianBlobs)

    def sample(self, generator):
        return self.change(self.inner.sample(generator))


FIXED = GaussianBlobs().sample(torch.Generator().manual_seed(0))
CALLS = []


def count(episode):
    CALLS.append(1)
    return replace(episode, task=str(len(CALLS)))


def support(**changes):
    return lambda episode: replace(
        episode, support=replace(episode.support, **{name: change(episode.support) for name, change in changes.items()})
    )


def leak(episode):
    inputs = episode.query.inputs.clone()
    inputs[3] = episode.support.inputs[0]
    return replace(episode, query=replace(episode.query, inputs=inputs))


def with_global_noise(episode):
    torch.rand(1)
    return episode


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (count, "same seed gave different"),
        (lambda _: FIXED, "repeat the first"),
        (with_global_noise, "global generator"),
        (leak, r"query rows \[3\]"),
        (support(weights=lambda b: -b.weights), "below 0"),
        (support(weights=lambda b: 0 * b.weights), "all weights are 0"),
        (support(weights=lambda b: b.weights[1:]), "different numbers"),
        (support(targets=lambda b: b.targets[1:]), "different numbers"),
        (support(targets=lambda b: b.targets.float()), "int64"),
        (support(targets=lambda b: b.targets + 1), "below 5"),
        (support(targets=lambda b: b.targets.clamp(max=3)), r"classes \[0, 1, 2, 3\] for 5 labels"),
        (support(inputs=lambda b: b.inputs * torch.inf), "not finite"),
        (lambda e: replace(e, labels=("a",) * 5), "same label"),
        (lambda e: replace(e, labels=e.labels[:4]), "for 4 labels"),
        (support(ways=lambda b: 6), "differ in ways"),
    ],
)
def test_a_broken_source_is_caught(change, words):
    with pytest.raises(AssertionError, match=words):
        check_source(Broken(change))


def test_a_source_that_hands_out_its_own_memory_is_caught():
    kept = {}

    def sharing(episode):
        return kept.setdefault(round(float(episode.support.inputs.sum()), 4), episode)

    with pytest.raises(AssertionError, match="shares memory"):
        check_source(Broken(sharing))


def test_padding_does_not_hide_a_shared_row():
    def padded(rows):
        ids = torch.tensor(rows)
        return Batch({"input_ids": ids, "mask": (ids > 0).long()}, torch.tensor([0, 1]), torch.ones(2), 2)

    from quickstudy.tasks.conformance import check_sides_apart

    check_sides_apart(Episode(padded([[1, 2], [3, 4]]), padded([[1, 2, 3], [3, 0, 0]])))
    with pytest.raises(AssertionError, match=r"rows \[1\]"):
        check_sides_apart(Episode(padded([[1, 2], [3, 4]]), padded([[1, 2, 3], [3, 4, 0]])))
