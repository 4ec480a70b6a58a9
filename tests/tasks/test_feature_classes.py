"""Classes of features: they conform, and rows keep their class and group."""

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.feature_classes import FeatureClasses

COUNTS = (6, 7, 6, 9, 6, 8, 7, 6)
ROWS = torch.stack([torch.repeat_interleave(torch.arange(8.0), torch.tensor(COUNTS)), torch.arange(55.0)], 1)


def drawn(source, count=40):
    return [source.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    "source",
    [
        FeatureClasses(ROWS, COUNTS, 3, 2, 4),
        FeatureClasses(ROWS, COUNTS, (2, 5), (1, 3), (1, 3)),
        FeatureClasses(ROWS, COUNTS, 2, 1, 2, groups=(0, 0, 1, 1, 2, 2, 3, 3), within=0.5),
    ],
)
def test_the_source_conforms(source):
    check_source(source)


def test_rows_are_of_the_class_that_the_label_names():
    for episode in drawn(FeatureClasses(ROWS, COUNTS, 4, 2, 3)):
        for batch in (episode.support, episode.query):
            for row, target in zip(batch.inputs, batch.targets, strict=True):
                assert episode.labels[int(target)] == f"class {int(row[0])}"


def test_every_row_is_drawn():
    seen = {
        float(row) for episode in drawn(FeatureClasses(ROWS, COUNTS, 8, 1, 5)) for row in episode.query.inputs[:, 1]
    }
    assert len(seen) == 55


def test_episodes_stay_within_groups_as_often_as_asked():
    groups = (0, 0, 0, 1, 1, 1, 2, 2)
    shares = {}
    for within in (0.0, 0.5, 1.0):
        source = FeatureClasses(ROWS, COUNTS, 3, 1, 1, groups, within)
        kept = [len({groups[int(label.split()[1])] for label in e.labels}) == 1 for e in drawn(source, 300)]
        shares[within] = sum(kept) / 300
    assert shares[0.0] < 0.15
    assert 0.4 < shares[0.5] < 0.65
    assert shares[1.0] == 1


def test_the_same_coordinates_are_dropped_in_all_rows_of_an_episode():
    source = FeatureClasses(
        torch.randn(55, 200, generator=torch.Generator().manual_seed(0)), COUNTS, 3, dropped=0.3, shots=1
    )
    silent = []
    for episode in drawn(source, 10):
        rows = torch.cat([episode.support.inputs, episode.query.inputs])
        zero = (rows == 0).any(0)
        assert not rows[:, zero].any()
        silent.append(zero)
    assert 0.25 < float(torch.stack(silent).float().mean()) < 0.35
    assert not torch.equal(silent[0], silent[1])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (FeatureClasses(ROWS, COUNTS[:-1]), "55 rows, counts that sum to 49"),
        (FeatureClasses(ROWS, COUNTS, groups=(0,)), "1 groups for 8 classes"),
        (FeatureClasses(ROWS, COUNTS, ways=9, shots=1, queries=1), "9 classes of 2"),
        (FeatureClasses(ROWS, COUNTS, shots=5, queries=2), "the smallest of 6 rows"),
        (FeatureClasses(ROWS, COUNTS, ways=1), "ways is 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(source, words):
    with pytest.raises(TaskError, match=words):
        source.sample(torch.Generator())
