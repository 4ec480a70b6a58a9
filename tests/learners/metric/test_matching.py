"""Matching networks: attention by cosine, and embeddings that know the support set."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quickstudy.core import Batch
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.full_context import context_start, query_context, support_context
from quickstudy.learners.heads import ABSENT
from quickstudy.learners.metric.matching import Matching
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
WIDTH = 5


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("full", [False, True])
def test_contract(check, full, mlp):
    check(Matching(Network(mlp, Full()), full_context=full, steps=2, scale=5.0), BLOBS)


@pytest.mark.parametrize("full", [False, True])
def test_learns(full, mlp):
    learner = Matching(Network(mlp, Full()), full_context=full, steps=2, scale=10.0)
    checks.check_learns(learner, BLOBS, FitOptions(steps=25, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False))


def answers(learner, params, support, inputs):
    return learner.predict(params, learner.adapt(params, support), inputs).mean


def test_answers_are_shares_of_the_attention(points, identity):
    learner = Matching(Network(identity(4), Head()), scale=3.0)
    support, query = points(seed=1), points(seed=2)
    cosines = torch.cosine_similarity(query.inputs[:, None], support.inputs, dim=-1)
    attention = torch.softmax(3 * cosines, 1)
    expected = torch.stack([attention[:, support.targets == k].sum(1) for k in range(3)], 1)
    torch.testing.assert_close(answers(learner, {}, support, query.inputs).exp(), expected)


def test_without_full_context_order_does_not_matter_and_weights_repeat(points, identity):
    """What the class declares because of full-context embeddings, it does not do without them."""
    learner = Matching(Network(identity(4), Head()), scale=3.0)
    support, query = points(seed=1), points(seed=2)
    expected = answers(learner, {}, support, query.inputs)
    turned = replace(support, inputs=support.inputs.flip(0), targets=support.targets.flip(0))
    torch.testing.assert_close(answers(learner, {}, turned, query.inputs), expected)
    twice = Batch(
        torch.cat([support.inputs, support.inputs[:1]]),
        torch.cat([support.targets, support.targets[:1]]),
        torch.ones(13),
        3,
    )
    heavy = replace(support, weights=torch.tensor([2.0] + [1.0] * 11))
    torch.testing.assert_close(
        answers(learner, {}, heavy, query.inputs), answers(learner, {}, twice, query.inputs), rtol=1e-5, atol=1e-5
    )


def test_the_support_is_read_by_a_bidirectional_lstm():
    params = context_start(WIDTH, torch.Generator().manual_seed(0))
    features = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1))
    lstm = nn.LSTM(WIDTH, WIDTH, bidirectional=True)
    for name, ending in (("forward", ""), ("backward", "_reverse")):
        getattr(lstm, f"weight_ih_l0{ending}").data = params[f"context.{name}.input"]
        getattr(lstm, f"weight_hh_l0{ending}").data = params[f"context.{name}.hidden"]
        getattr(lstm, f"bias_ih_l0{ending}").data = params[f"context.{name}.bias"]
        getattr(lstm, f"bias_hh_l0{ending}").data.zero_()
    read = lstm(features)[0]
    expected = read[:, :WIDTH] + read[:, WIDTH:] + features
    torch.testing.assert_close(support_context(params, features, torch.ones(6)), expected)


def test_rows_of_weight_0_are_passed_over_wherever_they_stand():
    params = context_start(WIDTH, torch.Generator().manual_seed(0))
    features = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    kept = weights > 0
    found = support_context(params, features, weights)[kept]
    torch.testing.assert_close(found, support_context(params, features[kept], weights[kept]))
    queries, keys = features[:2] + 1, features * 2
    torch.testing.assert_close(
        query_context(params, queries, keys, weights, 3), query_context(params, queries, keys[kept], weights[kept], 3)
    )


def test_the_query_reads_the_support_step_by_step():
    """One step by hand: an LSTM step from the features as state and nothing read, then the features added."""
    params = context_start(WIDTH, torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    query, keys = torch.randn(3, WIDTH, generator=draw), torch.randn(4, WIDTH, generator=draw)
    lstm = nn.LSTMCell(WIDTH, WIDTH)
    lstm.weight_ih.data = params["context.attend.input"]
    lstm.weight_hh.data = params["context.attend.hidden"][:, :WIDTH]
    lstm.bias_ih.data = params["context.attend.bias"]
    lstm.bias_hh.data.zero_()
    state, memory = lstm(query, (query, torch.zeros_like(query)))
    first = state + query
    torch.testing.assert_close(query_context(params, query, keys, torch.ones(4), 1), first)
    read = torch.softmax(first @ keys.T, 1) @ keys
    lstm.bias_hh.data = torch.zeros(4 * WIDTH)
    gates = (
        query @ params["context.attend.input"].T
        + torch.cat([first, read], 1) @ params["context.attend.hidden"].T
        + params["context.attend.bias"]
    )
    enter, forget, candidate, leave = gates.chunk(4, 1)
    memory = forget.sigmoid() * memory + enter.sigmoid() * candidate.tanh()
    second = leave.sigmoid() * memory.tanh() + query
    torch.testing.assert_close(query_context(params, query, keys, torch.ones(4), 2), second)


def test_full_context_embeddings_know_the_other_examples(points, identity):
    learner = Matching(Network(identity(4), Head()), full_context=True)
    params = learner.init(torch.Generator().manual_seed(0))
    support = points(seed=1)
    other = replace(support, inputs=support.inputs.clone())
    other.inputs[-1] += 1
    one, two = (learner.adapt(params, each).tensors["keys"][0] for each in (support, other))
    assert not torch.allclose(one, two)


def test_absent_classes_and_wrong_use(points, identity):
    learner = Matching(Network(identity(4), Head()), scale=50.0)
    found = answers(learner, {}, replace(points(seed=1), ways=5), points(seed=2).inputs)
    assert (found[:, 3:] == ABSENT).all()
    assert found[:, :3].isfinite().all()
    with pytest.raises(TaskError, match="regression"):
        learner.adapt({}, Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)))
    with pytest.raises(ValueError, match="scale is 0"):
        Matching(Network(identity(4), Head()), scale=0.0)
    with pytest.raises(ValueError, match="steps 0"):
        Matching(Network(identity(4), Head()), steps=0)
