"""The hypernetwork writes weights from a set: it writes what it is told to, and answers with what it wrote."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear

from quickstudy.backbones import MLP
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners import Network
from quickstudy.learners.blackbox.hypernetwork import Hypernetwork
from quickstudy.learners.conformance import CHECKS, check_learns
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
WAVES = Sinusoids(shots=(4, 8), queries=6)
REGRESSING = Hypernetwork(Network(MLP((1, 8, 8)), Full(), 1), width=16)
CLASSES = Hypernetwork(Network(MLP((4, 8, 8)), Full()), width=16)
CASES = {
    "waves": (REGRESSING, WAVES),
    "waves, attention": (replace(REGRESSING, pool="attention"), WAVES),
    "waves, head only": (replace(REGRESSING, writes=("head.*",)), WAVES),
    "blobs": (CLASSES, BLOBS),
    "blobs, attention": (replace(CLASSES, pool="attention"), BLOBS),
    "blobs, head only": (replace(CLASSES, writes=()), BLOBS),
    "blobs, lora": (replace(CLASSES, network=Network(MLP((4, 8, 8)), LoRA(rank=2, targets=("layers.1",)))), BLOBS),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES)
def test_conforms(check, case):
    check(*CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_named_is_written(case):
    learner, tasks = CASES[case]
    params = learner.init(torch.Generator().manual_seed(0))
    written = set(learner.adapt(params, tasks.sample(torch.Generator()).support).tensors) - {"head", "counts"}
    own = {name for name in params if not name.startswith("hyper.")}
    expected = (
        own if learner.writes == ("*",) else {name for name in own if name.startswith("head.") and learner.writes}
    )
    assert written == expected


def test_answers_are_those_of_the_written_network():
    learner = replace(CLASSES, network=Network(MLP((4, 8)), Full()))
    params = learner.init(torch.Generator().manual_seed(0))
    episode = BLOBS.sample(torch.Generator().manual_seed(1))
    adapter = learner.adapt(params, episode.support)
    tensors = adapter.tensors
    hidden = torch.relu(linear(episode.query.inputs, tensors["body.layers.0.weight"], tensors["body.layers.0.bias"]))
    expected = torch.cat([hidden, torch.ones(len(hidden), 1)], 1) @ tensors["head"].T
    torch.testing.assert_close(learner.predict(params, adapter, episode.query.inputs).mean, expected)
    assert not torch.allclose(tensors["body.layers.0.weight"], params["body.layers.0.weight"])


def test_other_supports_write_other_weights_and_other_classes_other_rows():
    params = CLASSES.init(torch.Generator().manual_seed(0))
    one, other = (CLASSES.adapt(params, BLOBS.sample(torch.Generator().manual_seed(seed)).support) for seed in (1, 2))
    for name in one.tensors.keys() - {"counts"}:
        assert not torch.allclose(one.tensors[name], other.tensors[name]), name
    head = one.tensors["head"]
    assert not torch.allclose(head[0], head[1])


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_learns_blobs_and_falls_to_chance(pool):
    learner = Hypernetwork(Network(MLP((2, 16)), Full()), writes=("*",), width=32, pool=pool)
    options = FitOptions(steps=200, tasks_per_step=16, lr=5e-3, mode="vmap", progress=False)
    check_learns(learner, GaussianBlobs(), options, episodes=60)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="width is 6"):
        replace(CLASSES, width=6)
    with pytest.raises(ValueError, match="pool is 'max'"):
        replace(CLASSES, pool="max")
    with pytest.raises(TaskError, match="0 ways and the network 0 outputs"):
        CLASSES.adapt({}, WAVES.sample(torch.Generator()).support)
    with pytest.raises(TaskError, match="3 ways and the network 1 outputs"):
        REGRESSING.adapt({}, BLOBS.sample(torch.Generator()).support)
    with pytest.raises(ValueError, match="matches no parameter"):
        replace(CLASSES, network=Network(MLP((4, 8)), Head()), writes=("body.*",)).init(torch.Generator())
