"""The text transformer: symmetric in classes, starts as the cosine to class means, and learns what these cannot."""

from dataclasses import replace

import pytest
import torch

from quickstudy.core.errors import TaskError
from quickstudy.deltas import Head
from quickstudy.learners import Network
from quickstudy.learners.conformance import CHECKS, check_learns
from quickstudy.learners.heads import ABSENT
from quickstudy.learners.in_context.text_transformer import TextTransformer
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.transformer import Transformer
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)


@pytest.fixture
def learner(identity):
    return TextTransformer(Network(identity(4), Head()), Transformer(16, 2, 2, 32))


def grown(learner, seed=0):
    """Parameters with a gain, so that the tokens count."""
    return learner.init(torch.Generator().manual_seed(seed)) | {"gain": torch.tensor(2.0)}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, learner):
    check(learner, BLOBS)


def answers(learner, params, support, inputs):
    return learner.predict(params, learner.adapt(params, support), inputs).mean


def test_tokens_keep_the_symmetries_of_the_task(learner):
    """The public checks see the start, where the gain is 0; here the tokens count."""
    params, episode = grown(learner), GaussianBlobs(ways=3, shots=3, width=4).sample(torch.Generator().manual_seed(1))
    support, inputs = episode.support, episode.query.inputs
    expected = answers(learner, params, support, inputs)
    classes, rows = torch.tensor([2, 0, 1]), torch.randperm(9, generator=torch.Generator().manual_seed(2))
    renumbered = answers(learner, params, replace(support, targets=classes[support.targets]), inputs)
    torch.testing.assert_close(renumbered[:, classes], expected)
    mixed = replace(support, inputs=support.inputs[rows], targets=support.targets[rows])
    torch.testing.assert_close(answers(learner, params, mixed, inputs), expected)
    torch.testing.assert_close(answers(learner, params, support, inputs[4:5])[0], expected[4])
    padded = replace(
        support,
        inputs=torch.cat([support.inputs, torch.full((1, 4), torch.nan)]),
        targets=torch.cat([support.targets, torch.tensor([1])]),
        weights=torch.cat([support.weights, torch.zeros(1)]),
    )
    torch.testing.assert_close(answers(learner, params, padded, inputs), expected)


def test_starts_as_the_cosine_to_class_means(learner, identity):
    episode = BLOBS.sample(torch.Generator().manual_seed(1))
    params = learner.init(torch.Generator().manual_seed(0))
    unit = replace(episode.support, inputs=torch.nn.functional.normalize(episode.support.inputs, dim=-1))
    theirs = ProtoNet(Network(identity(4), Head()), distance="cosine", scale=10.0)
    expected = theirs.predict({}, theirs.adapt({}, unit), episode.query.inputs).mean
    torch.testing.assert_close(answers(learner, params, episode.support, episode.query.inputs), expected)


def test_labels_reach_the_tokens(learner):
    """With the means the same, who belongs to whom still changes the answers."""
    params = grown(learner)
    inputs = torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0]])
    support = BLOBS.sample(torch.Generator()).support
    one, other = (
        replace(support, inputs=inputs, targets=torch.tensor(targets), weights=torch.ones(4), ways=2)
        for targets in ([0, 0, 1, 1], [1, 1, 0, 0])
    )
    query = torch.tensor([[0.7, 0.1, 0.3, 0.2]])
    first, second = (answers(learner, params, each, query) for each in (one, other))
    torch.testing.assert_close(first.flip(-1), second)
    assert not torch.isclose(first[0, 0], first[0, 1])


def test_a_class_without_support_is_never_the_answer(learner):
    support = replace(GaussianBlobs(ways=3, width=4).sample(torch.Generator()).support, ways=4)
    means = answers(learner, grown(learner), support, support.inputs)
    assert (means[:, 3] == ABSENT).all()
    three = replace(support, ways=3)
    torch.testing.assert_close(means[:, :3], answers(learner, grown(learner), three, support.inputs))


def test_learns_and_falls_to_chance(learner, identity):
    wide = replace(learner, network=Network(identity(2), Head()))
    options = FitOptions(steps=150, tasks_per_step=16, lr=3e-3, mode="vmap", progress=False)
    check_learns(wide, GaussianBlobs(queries=5), options, episodes=60)


def test_a_regression_is_refused(learner):
    with pytest.raises(TaskError, match="regression"):
        learner.adapt({}, Sinusoids().sample(torch.Generator()).support)
