"""Drawn toy tasks: they conform, and the points obey the stated rules."""

import math

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.stacking import stack_episodes
from quickstudy.tasks.binary import RULES, BinaryTasks
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.sinusoids import Sinusoids


def drawn(source, count=50):
    return [source.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    "source",
    [
        Sinusoids(),
        Sinusoids(shots=(3, 10), noise=0.1),
        GaussianBlobs(),
        GaussianBlobs(ways=(2, 6), shots=(1, 3), queries=(2, 5), width=3),
        BinaryTasks(),
        BinaryTasks(support=5, families=("xor",)),
        BinaryTasks(shift=(-1.0, 1.0), noise=(0.2, 0.3)),
    ],
)
def test_the_source_conforms(source):
    check_source(source)
    assert stack_episodes(drawn(source, 4)).support.weights.shape[0] == 4


def test_sinusoids_are_sines_in_their_ranges():
    for episode in drawn(Sinusoids(queries=200)):
        x, y = episode.query.inputs.double(), episode.query.targets.double()
        # a sin(x) + b cos(x) is every sine of period 2 pi
        basis = torch.cat([x.sin(), x.cos()], 1)
        solution = torch.linalg.lstsq(basis, y).solution
        assert torch.allclose(basis @ solution, y, atol=1e-4)
        amplitude = float(solution.norm())
        phase = math.atan2(-float(solution[1]), float(solution[0]))
        assert 0.1 - 1e-3 <= amplitude <= 5 + 1e-3
        assert -1e-3 <= phase <= math.pi + 1e-3
        assert float(x.abs().max()) <= 5
        support = torch.cat([episode.support.inputs.sin(), episode.support.inputs.cos()], 1)
        assert torch.allclose(support.double() @ solution, episode.support.targets.double(), atol=1e-4)
    amplitudes = torch.stack([episode.query.targets.abs().max() for episode in drawn(Sinusoids(queries=200), 200)])
    assert 2.3 < float(amplitudes.mean()) < 2.8


def test_ranged_shots_of_a_wave_are_padded_with_weight_0():
    sizes = {(len(e.support.weights), int(e.support.weights.sum())) for e in drawn(Sinusoids(shots=(3, 5)))}
    assert sizes == {(5, 3), (5, 4), (5, 5)}


def test_blobs_lie_around_their_centres():
    for episode in drawn(GaussianBlobs(ways=4, shots=200, queries=200, noise=0.5), 10):
        for way in range(4):
            near = episode.support.inputs[episode.support.targets == way]
            far = episode.query.inputs[episode.query.targets == way]
            assert torch.allclose(near.mean(0), far.mean(0), atol=0.25)
            assert torch.allclose(near.std(0), torch.tensor(0.5), atol=0.12)


def rebuilt(episode, angle, scale):
    """The points before they were turned and stretched."""
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return episode.query.inputs @ turn / scale


@pytest.mark.parametrize("family", RULES)
def test_query_labels_follow_the_rule_of_the_turned_and_stretched_points(family):
    source = BinaryTasks(
        query=200, families=(family,), angle=(0.7, 0.7), scale=(1.5, 1.5), position=(0.4, 0.4), noise=(0.4, 0.4)
    )
    orders = set()
    for episode in drawn(source, 10):
        inside = RULES[family](rebuilt(episode, 0.7, 1.5), 0.4)
        assert torch.equal(inside.long(), (episode.query.targets == episode.labels.index("inside")).long())
        assert int(inside.sum()) == 100
        orders.add(episode.labels)
    assert len(orders) == 2


def test_the_part_of_flipped_support_labels_is_the_noise():
    flat = {"families": ("half_plane",), "angle": (0.0, 0.0), "scale": (1.0, 1.0), "position": (0.5, 0.5)}
    for noise in (0.0, 0.3):
        wrong = []
        for episode in drawn(BinaryTasks(support=400, noise=(noise, noise), **flat), 10):
            inside = episode.support.inputs[:, 0] > 0
            wrong.append(inside != (episode.support.targets == episode.labels.index("inside")))
        assert float(torch.cat(wrong).float().mean()) == pytest.approx(noise, abs=0.03)


def test_without_noise_both_labels_are_there_in_equal_parts():
    counts = {int(e.support.targets.sum()) for e in drawn(BinaryTasks(support=5, noise=(0, 0)), 60)}
    assert counts == {2, 3}


def test_held_out_ranges_share_no_task():
    near, far = BinaryTasks(scale=(0.5, 1.0)), BinaryTasks(scale=(3.0, 4.0))
    spread = [float(torch.cat([e.query.inputs for e in drawn(source)]).std()) for source in (near, far)]
    assert spread[0] < 1.1
    assert spread[1] > 2.9


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (BinaryTasks(families=("spiral",)), "spiral"),
        (BinaryTasks(families=()), "half_plane, ring, xor"),
        (BinaryTasks(support=1), "support is 1"),
        (BinaryTasks(noise=(0.5, 0.1)), "noise is"),
        (BinaryTasks(scale=(0.0, 1.0)), "scale is"),
        (BinaryTasks(position=(0.0, 2.0)), "position is"),
        (GaussianBlobs(ways=1), "ways is 1"),
        (Sinusoids(shots=0), "shots is 0"),
    ],
)
def test_sizes_and_ranges_without_meaning_are_refused(source, words):
    with pytest.raises(TaskError, match=words):
        source.sample(torch.Generator())
