"""Copying and recall: the query asks for what was written, as the task says."""

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.stacking import stack_episodes
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.copying import Copying, RepeatCopying, standardised
from quickstudy.tasks.recall import AssociativeRecall, GraphRecall, codes


def drawn(source, count=30):
    return [source.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]


def real(batch):
    kept = batch.weights > 0
    return batch.inputs[kept], batch.targets[kept]


@pytest.mark.parametrize(
    "source",
    [
        Copying(),
        Copying(5, 3),
        RepeatCopying(),
        RepeatCopying(2, 3, 4),
        AssociativeRecall(),
        AssociativeRecall(7, 3),
        GraphRecall(),
        GraphRecall(nodes=5, relations=1, replaced=0, walks=1, hops=1),
        GraphRecall(nodes=3, relations=2, replaced=6, walks=2, hops=4),
        GraphRecall(nodes=(2, 4), replaced=(0, 3), hops=(1, 3)),
    ],
)
def test_the_source_conforms(source):
    check_source(source)
    assert stack_episodes(drawn(source, 4)).support.weights.shape[0] == 4


def test_a_copy_asks_for_the_rows_in_their_order():
    lengths = set()
    for episode in drawn(Copying((2, 5), 6), 40):
        (marks, written), (asks, wanted) = real(episode.support), real(episode.query)
        assert torch.equal(written, wanted)
        assert not marks.any()
        assert (asks == 1).all()
        lengths.add(len(written))
    assert lengths == {2, 3, 4, 5}
    bits = torch.cat([episode.query.targets for episode in drawn(Copying(20))])
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert abs(float(bits.mean()) - 0.5) < 0.03


def test_repeated_copies_end_with_a_mark():
    sizes = set()
    for episode in drawn(RepeatCopying((1, 3), (1, 4), 5), 60):
        (_, written), (asks, wanted) = real(episode.support), real(episode.query)
        times = (len(wanted) - 1) // len(written)
        assert torch.equal(wanted[:-1], written.repeat(times, 1))
        assert wanted[-1].tolist() == [0, 0, 0, 0, 0, 1]
        assert float(asks[0, 1]) == pytest.approx(standardised(times))
        assert not asks[1:, 1].any()
        sizes.add((len(written), times))
    assert len(sizes) == 12


def test_numbers_of_times_are_standardised_over_1_to_10():
    numbers = torch.tensor([standardised(times) for times in range(1, 11)], dtype=torch.float64)
    assert float(numbers.mean()) == pytest.approx(0, abs=1e-9)
    assert float(numbers.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_each_key_is_asked_for_once_and_has_its_value():
    moved = 0
    for episode in drawn(AssociativeRecall((3, 6), 5)):
        (keys, values), (asked, wanted) = real(episode.support), real(episode.query)
        table = {tuple(key[:-1].tolist()): value for key, value in zip(keys, values, strict=True)}
        assert len(table) == len(keys) == len(asked)
        assert all(
            torch.equal(table.pop(tuple(key[:-1].tolist())), value) for key, value in zip(asked, wanted, strict=True)
        )
        moved += not torch.equal(values, wanted)
    assert moved > 15


@pytest.mark.parametrize("replaced", [0, 2, 6])
def test_walks_follow_the_latest_edges(replaced):
    tasks = GraphRecall(nodes=3, relations=2, replaced=replaced, walks=4, hops=3, bits=5)
    for episode in drawn(tasks):
        table, changed = {}, 0
        for row, target in zip(*real(episode.support), strict=True):
            edge = tuple(row[:-1].tolist())
            changed += edge in table and not torch.equal(table[edge], target)
            table[edge] = target
        assert (len(table), changed) == (6, replaced)
        node = None
        for number, (row, target) in enumerate(zip(episode.query.inputs, episode.query.targets, strict=True)):
            assert bool(row[:5].any()) == (number % 3 == 0)
            node = row[:5] if number % 3 == 0 else node
            node = table[(*node.tolist(), *row[5:7].tolist())]
            assert torch.equal(node, target)


def test_codes_differ_and_none_is_all_zeros():
    found = codes(7, 3, torch.Generator().manual_seed(0))
    assert len({tuple(code.tolist()) for code in found}) == 7
    assert found.any(1).all()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Copying(0), "length is 0"),
        (Copying(bits=0), "bits is 0"),
        (RepeatCopying(repeats=(0, 2)), "repeats is"),
        (AssociativeRecall(pairs=0), "pairs is 0"),
        (AssociativeRecall(pairs=8, bits=3), "8 codes are asked for and 3 bits make 7"),
        (GraphRecall(nodes=1), "nodes is 1"),
        (GraphRecall(replaced=-1), "replaced is -1"),
        (GraphRecall(replaced=9), "replaced is 9 of 8 edges"),
        (GraphRecall(hops=0), "hops is 0"),
        (GraphRecall(nodes=9, bits=3), "give more bits"),
    ],
)
def test_sizes_without_meaning_are_refused(source, words):
    with pytest.raises(TaskError, match=words):
        source.sample(torch.Generator())
