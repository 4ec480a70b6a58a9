"""SNAIL: each query as one more token gives what the whole sequence gives, and nothing sees what comes later."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot, pad

from quickstudy.backbones import MLP
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners.conformance import CHECKS, check_learns
from quickstudy.learners.memory.snail import SNAIL
from quickstudy.learners.temporal import attention_block, dense_block, dense_start, earlier, keys_and_values
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
LEARNER = SNAIL(Network(MLP((4, 8)), Full()), ways=3, length=12, filters=6, attention=((4, 4), (8, 6), (8, 4)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check):
    check(LEARNER, BLOBS)


def whole_sequence(learner, params, tokens):
    """[token, feature] after all layers, computed over the whole sequence at once."""
    rows = torch.arange(len(tokens))
    for name, dilation, *_ in learner._blocks():
        if dilation:
            tokens = dense_block(params, name, tokens, earlier(tokens, dilation))
        else:
            mask = rows[:, None] > rows
            tokens = attention_block(params, name, tokens, keys_and_values(params, name, tokens), mask)
    return tokens


@pytest.mark.parametrize("shots", [1, 2, 4])
def test_a_query_after_the_support_is_the_last_token_of_the_whole_sequence(identity, shots):
    learner = replace(LEARNER, network=Network(identity(4), Head()))
    params = learner.init(torch.Generator().manual_seed(0))
    episode = GaussianBlobs(ways=3, shots=shots, queries=2, width=4).sample(torch.Generator().manual_seed(1))
    support = torch.cat([episode.support.inputs, one_hot(episode.support.targets, 3)], 1)
    adapter = learner.adapt(params, episode.support)
    found = learner.predict(params, adapter, episode.query.inputs).mean
    for row, inputs in zip(found, episode.query.inputs, strict=True):
        last = whole_sequence(learner, params, torch.cat([support, pad(inputs, (0, 3))[None]]))[-1]
        torch.testing.assert_close(row, params["answer"] @ last + params["answer_bias"])


def test_a_dense_block_is_a_gated_dilated_convolution():
    draw = torch.Generator().manual_seed(0)
    params, tokens = dense_start("block", 3, 5, draw), torch.randn(9, 3, generator=draw)
    now, before = params["block.weight"].chunk(2, -1)
    for dilation in (1, 2, 4):
        convolution = nn.Conv1d(3, 10, 2, dilation=dilation, bias=False)
        convolution.weight.data = torch.stack([before, now], -1)
        signal, gate = convolution(pad(tokens.T, (dilation, 0)))[:, :].T.chunk(2, -1)
        expected = torch.cat([tokens, signal.tanh() * gate.sigmoid()], -1)
        torch.testing.assert_close(dense_block(params, "block", tokens, earlier(tokens, dilation)), expected)


def test_every_support_row_reaches_the_answer(identity):
    """Dilations up to the length: also without attention over values every row counts."""
    learner = replace(LEARNER, network=Network(identity(4), Head()), length=7, attention=((1, 1), (1, 1)))
    names = [name for name, dilation, *_ in learner._blocks() if dilation]
    assert [name.rpartition("dilated")[2] for name in names] == ["1", "2", "4"]
    params = {n: torch.zeros_like(t) if "keep" in n else t for n, t in learner.init(torch.Generator()).items()}
    support = GaussianBlobs(ways=3, shots=2, width=4).sample(torch.Generator().manual_seed(0)).support
    leaf = support.inputs.clone().requires_grad_()
    adapter = learner.adapt(params, replace(support, inputs=leaf))
    answers = learner.predict(params, adapter, torch.randn(2, 4, generator=torch.Generator().manual_seed(1))).mean
    (grad,) = torch.autograd.grad(answers.square().sum(), leaf)
    assert grad.abs().sum(1).gt(0).all()


def test_padding_between_real_rows_is_passed_over():
    params = LEARNER.init(torch.Generator().manual_seed(0))
    episode = GaussianBlobs(ways=3, shots=2, queries=3, width=4).sample(torch.Generator().manual_seed(1))
    support = episode.support
    order = torch.tensor([0, 1, 0, 2, 3, 0, 4, 5])
    weights = torch.tensor([1.0, 1, 0, 1, 1, 0, 1, 1])
    padded = replace(support, inputs=support.inputs[order], targets=support.targets[order], weights=weights)
    one, other = (
        LEARNER.predict(params, LEARNER.adapt(params, each), episode.query.inputs).mean for each in (support, padded)
    )
    torch.testing.assert_close(one, other)


def test_learns_blobs_and_falls_to_chance():
    learner = SNAIL(Network(MLP((2, 16)), Full()), 2, 6, 16, ((8, 8), (8, 8)))
    options = FitOptions(steps=300, tasks_per_step=16, lr=3e-3, mode="vmap", progress=False)
    check_learns(learner, GaussianBlobs(ways=2, shots=3, queries=5), options, episodes=100)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="at least one attention block"):
        replace(LEARNER, attention=())
    with pytest.raises(ValueError, match="from 1 up"):
        replace(LEARNER, filters=0)
    with pytest.raises(TaskError, match="5 ways"):
        LEARNER.adapt({}, GaussianBlobs(ways=5, width=4).sample(torch.Generator()).support)
    with pytest.raises(TaskError, match="0 ways"):
        LEARNER.adapt({}, Sinusoids().sample(torch.Generator()).support)
