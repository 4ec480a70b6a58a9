"""Relation networks: the module of the paper, its squared error, and rows that stay apart where they can."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quickstudy.backbones.conv4 import Conv4
from quickstudy.backbones.relation_module import RelationModule, relation_start
from quickstudy.core import Batch, Episode
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.heads import ABSENT
from quickstudy.learners.metric.relation import Relation
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
SMALL = Conv4((9, 9), widths=(4, 6), halvings=1, norm="group")


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_contract(check, norm, mlp):
    check(Relation(Network(mlp, Full()), norm), BLOBS)


@pytest.mark.parametrize("objective", ["squared", "cross_entropy"])
def test_learns(objective, mlp):
    learner = Relation(Network(mlp, Full()), objective=objective)
    options = FitOptions(steps=40, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    checks.check_learns(learner, GaussianBlobs(3, 5, 6, 4, 1.5), options)


def pictures(rows, ways=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Batch(torch.rand(rows, 1, 9, 9, generator=draw), torch.arange(rows) % ways, torch.ones(rows), ways)


def test_queries_do_not_mix_unless_statistics_are_those_of_the_batch():
    """What the class declares because of norm "batch", it does not do with another."""
    for norm in ("group", "none", "batch"):
        learner = Relation(Network(SMALL, Full()), norm)
        params = learner.init(torch.Generator().manual_seed(0))
        adapter = learner.adapt(params, pictures(3))
        queries = pictures(6, seed=1).inputs
        together = learner.predict(params, adapter, queries).mean[:1]
        alone = learner.predict(params, adapter, queries[:1]).mean
        assert torch.allclose(together, alone, atol=1e-5) == (norm != "batch")


def test_the_module_convolves_the_maps_laid_on_each_other():
    """As torch's own layers do, pair by pair."""
    shape = (4, 7, 7)
    draw = torch.Generator().manual_seed(0)
    params = relation_start(shape, "batch", draw)
    classes, queries = (torch.randn(count, *shape, generator=draw) for count in (2, 3))
    module = RelationModule(shape, "batch")
    module.load_state_dict(params)
    layers = []
    for name, inputs in (("first", 8), ("second", 4)):
        conv = nn.Conv2d(inputs, 4, 3, padding=1, bias=False)
        conv.weight.data = params[f"{name}.conv.weight"]
        layers += [conv, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    hidden, score = nn.Linear(4, 8), nn.Linear(8, 1)
    hidden.load_state_dict({"weight": params["hidden.weight"], "bias": params["hidden.bias"]})
    score.load_state_dict({"weight": params["score.weight"], "bias": params["score.bias"]})
    network = nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU(), score).train()
    pairs = torch.stack([torch.cat([each, query]) for query in queries for each in classes])
    torch.testing.assert_close(module(classes, queries), network(pairs).reshape(3, 2), rtol=1e-4, atol=1e-5)


def test_classes_are_sums_of_their_examples(points, identity):
    learner = Relation(Network(identity(4), Head()), "none")
    support = points(seed=1)
    expected = torch.stack([support.inputs[support.targets == k].sum(0) for k in range(3)])
    torch.testing.assert_close(learner.adapt({}, support).tensors["maps"], expected)


def test_the_loss_is_the_squared_error_of_the_sigmoid():
    learner = Relation(Network(SMALL, Full()), "group")
    params = learner.init(torch.Generator().manual_seed(0))
    episode = Episode(pictures(3), pictures(6, seed=1))
    scores = learner.predict(params, learner.adapt(params, episode.support), episode.query.inputs).mean
    wanted = torch.eye(3)[episode.query.targets]
    torch.testing.assert_close(learner.loss(params, episode), (scores.sigmoid() - wanted).square().mean())


def test_a_class_without_support_counts_neither_in_the_loss_nor_in_statistics():
    learner = Relation(Network(SMALL, Full()))
    params = learner.init(torch.Generator().manual_seed(0))
    episode = Episode(pictures(3), pictures(6, seed=1))
    wider = Episode(replace(episode.support, ways=5), replace(episode.query, ways=5))
    torch.testing.assert_close(learner.loss(params, wider), learner.loss(params, episode))
    found = learner.predict(params, learner.adapt(params, wider.support), wider.query.inputs).mean
    assert (found[:, 3:] == ABSENT).all()


def test_shapes_of_maps():
    assert Relation(Network(Conv4(halvings=2), Full())).shape == (64, 7, 7)
    assert Relation(Network(Conv4(shrink="stride", readout="mean"), Full())).shape == (64, 1, 1)


def test_wrong_use_is_refused(identity):
    with pytest.raises(ValueError, match="objective is 'absolute'"):
        Relation(Network(identity(4), Head()), objective="absolute")
    with pytest.raises(TaskError, match="regression"):
        Relation(Network(identity(4), Head())).adapt({}, Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)))
