"""Folds, answers on held-out examples, and the temperature that they give."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quickstudy.backbones.base import Backbone
from quickstudy.core import Batch
from quickstudy.deltas import Head
from quickstudy.evaluation import fit_temperature
from quickstudy.learners import Network, learner_class
from quickstudy.lifecycle.held_out import HeldOut, deal_folds, fit_shrunk_temperature, held_out


@dataclass(frozen=True)
class Given(Backbone):
    """Features come as inputs."""

    width = 4
    fingerprint = None

    def module(self):
        return nn.Identity()

    def start(self, generator):
        return {}


PROTONET = learner_class("protonet")(network=Network(Given(), Head()))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_each_class_is_spread_over_the_folds(targets, folds, seed):
    dealt = deal_folds(targets, folds, torch.Generator().manual_seed(seed))
    count = min(folds, len(targets))
    assert dealt.shape == (len(targets),)
    assert set(dealt.tolist()) <= set(range(count))
    for target in set(targets):
        sizes = torch.bincount(dealt[torch.tensor(targets) == target], minlength=count)
        assert sizes.max() - sizes.min() <= 1


def test_held_out_answers_equal_those_of_adapters_made_by_hand():
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    folds = torch.tensor([0, 1, 1, 0, 1, 0])
    found = held_out(PROTONET, {}, Batch(features, targets, torch.ones(6), 2), folds)
    expected = []
    for fold in (0, 1):
        kept, away = folds != fold, folds == fold
        means = torch.stack([features[kept & (targets == target)].mean(0) for target in (0, 1)])
        expected.append(-(features[away][:, None] - means).square().sum(-1))
    torch.testing.assert_close(found.logits, torch.cat(expected))
    assert found.targets.tolist() == [0, 1, 1, 0, 0, 1]


def test_examples_of_a_class_that_nothing_else_teaches_are_left_out():
    batch = Batch(torch.randn(3, 4), torch.tensor([0, 0, 1]), torch.ones(3), 2)
    assert held_out(PROTONET, {}, batch, torch.tensor([0, 1, 2])).targets.tolist() == [0, 0]
    names = Batch(torch.randn(5, 4), torch.tensor([0, 0, 1, 0, 1]), torch.ones(5), 2)
    assert held_out(PROTONET, {}, names, torch.tensor([0, 1, 2])).targets.tolist() == [0, 0, 1]
    single = Batch(torch.randn(2, 4), torch.tensor([0, 1]), torch.ones(2), 2)
    assert held_out(PROTONET, {}, single, torch.tensor([0, 1])).logits.shape == (0, 2)


@pytest.mark.parametrize("true", [0.6, 1.0, 1.8])
def test_temperature_is_found_again_from_many_answers(true):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4000, 5, generator=generator)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    found = fit_shrunk_temperature(HeldOut(logits * true, targets))
    assert found == pytest.approx(true, rel=0.1)
    assert found == pytest.approx(fit_temperature(logits * true, targets), rel=0.05)


def test_few_answers_hardly_move_the_temperature():
    assert fit_shrunk_temperature(HeldOut(torch.empty(0, 3), torch.empty(0, dtype=torch.long))) == 1.0
    right = HeldOut(torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 1]))
    assert 0.8 < fit_shrunk_temperature(right) < 1.0 < fit_shrunk_temperature(HeldOut(right.logits, 1 - right.targets))
