"""The function transformer: causal, equal along a sequence and prefix by prefix, and it learns linear functions."""

from dataclasses import replace

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch
from quickstudy.learners.conformance import CHECKS
from quickstudy.learners.in_context.function_transformer import FunctionTransformer
from quickstudy.learners.transformer import Transformer
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.function_classes import FunctionClass

LEARNER = FunctionTransformer(3, Transformer(16, 2, 2, 32))
TASKS = FunctionClass("two_layer", dimension=3, shots=5, queries=4)


def params_of(learner=LEARNER, seed=0):
    return learner.init(torch.Generator().manual_seed(seed))


def rows(batch, count):
    return Batch(batch.inputs[:count], batch.targets[:count], batch.weights[:count])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("normalise", [False, True])
def test_conforms(check, normalise):
    check(replace(LEARNER, transformer=replace(LEARNER.transformer, normalise=normalise)), TASKS)


def test_answers_along_a_sequence_are_those_of_each_prefix():
    params, support = params_of(), TASKS.sample(torch.Generator().manual_seed(1)).support
    along = LEARNER.along(params, support.inputs, support.targets, support.weights)
    for count in range(len(support.inputs)):
        adapter = LEARNER.adapt(params, rows(support, count))
        answer = LEARNER.predict(params, adapter, support.inputs[count : count + 1]).mean
        torch.testing.assert_close(along[count], answer[0], atol=1e-5, rtol=1e-5)


def test_no_answer_knows_what_comes_later():
    params, support = params_of(), TASKS.sample(torch.Generator().manual_seed(1)).support
    targets = support.targets.clone()
    targets[2] += 10
    before, after = (LEARNER.along(params, support.inputs, y, support.weights) for y in (support.targets, targets))
    assert torch.equal(before[:3], after[:3])
    assert not torch.isclose(before[3:], after[3:]).any()


def test_the_loss_is_the_mean_over_all_prefixes():
    params, episode = params_of(), TASKS.sample(torch.Generator().manual_seed(1))
    both = [torch.cat([getattr(episode.support, name), getattr(episode.query, name)]) for name in ("inputs", "targets")]
    errors = (LEARNER.along(params, *both, torch.ones(9)) - both[1]).square()
    torch.testing.assert_close(LEARNER.loss(params, episode), errors.mean())


def test_other_tasks_are_refused():
    params = params_of()
    with pytest.raises(TaskError, match="has classes"):
        LEARNER.adapt(params, GaussianBlobs(width=3).sample(torch.Generator()).support)
    with pytest.raises(TaskError, match="inputs of 4 coordinates"):
        LEARNER.adapt(params, FunctionClass(dimension=4).sample(torch.Generator()).support)
