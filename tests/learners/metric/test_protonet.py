"""Prototypes with the inputs as features are the nearest class means."""

from dataclasses import replace

import pytest
import torch
from sklearn.neighbors import NearestCentroid

from quickstudy.core import Batch
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.heads import ABSENT
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.tasks.blobs import GaussianBlobs

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)


def answers(learner, support, inputs):
    params = learner.init(torch.Generator())
    return learner.predict(params, learner.adapt(params, support), inputs).mean


def test_answers_are_those_of_the_nearest_mean(points, identity):
    support, query = points(seed=1), points(rows=60, seed=2)
    means = answers(ProtoNet(Network(identity(4), Head())), support, query.inputs)
    theirs = NearestCentroid().fit(support.inputs.numpy(), support.targets.numpy())
    assert means.argmax(-1).tolist() == theirs.predict(query.inputs.numpy()).tolist()


def test_logits_are_squared_distances(points, identity):
    support, query = points(seed=1), points(seed=2)
    prototypes = torch.stack([support.inputs[support.targets == k].mean(0) for k in range(3)])
    expected = -(query.inputs[:, None] - prototypes).square().sum(-1)
    learner = ProtoNet(Network(identity(4), Head()), scale=0.5)
    torch.testing.assert_close(answers(learner, support, query.inputs), 0.5 * expected)


def test_distances_far_from_the_origin_keep_their_digits(points, identity):
    support, query = points(seed=1), points(seed=2)
    learner = ProtoNet(Network(identity(4), Head()))
    far = answers(learner, replace(support, inputs=support.inputs + 1000), query.inputs + 1000)
    torch.testing.assert_close(far, answers(learner, support, query.inputs), rtol=0, atol=0.01)


def test_cosine_logits(points, identity):
    support, query = points(seed=1), points(seed=2)
    prototypes = torch.stack([support.inputs[support.targets == k].mean(0) for k in range(3)])
    expected = torch.cosine_similarity(query.inputs[:, None], prototypes, dim=-1)
    learner = ProtoNet(Network(identity(4), Head()), distance="cosine", scale=7.0, learn_scale=True)
    torch.testing.assert_close(answers(learner, support, query.inputs), 7 * expected)


def test_the_scale_is_learned_where_asked(points, identity):
    learner = ProtoNet(Network(identity(4), Head()), scale=2.0, learn_scale=True)
    params = {name: tensor.requires_grad_() for name, tensor in learner.init(torch.Generator()).items()}
    adapter = learner.adapt(params, points(seed=1))
    loss = weighted_loss(learner.predict(params, adapter, points(seed=2).inputs).mean, points(seed=2))
    assert torch.autograd.grad(loss, params["head.log_scale"])[0].abs() > 0
    assert ProtoNet(Network(identity(4), Head())).init(torch.Generator()) == {}


def test_a_class_without_support_is_never_the_answer_and_losses_stay_finite(points, identity):
    support = points(ways=3, seed=1)
    gap = replace(support, targets=torch.tensor([0, 1, 3])[support.targets], ways=4)
    query = points(ways=4, seed=2)
    means = answers(ProtoNet(Network(identity(4), Head())), gap, 100 * query.inputs)
    assert (means[:, 2] == ABSENT).all()
    assert not (means.argmax(-1) == 2).any()
    assert weighted_loss(means, query).isfinite()


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_mahalanobis_keeps_the_contract(check, mlp):
    check(ProtoNet(Network(mlp, Full()), "mahalanobis"), BLOBS)


def test_mahalanobis_logits(points, identity):
    """12 examples of 3 classes: S = 9/10 W + 1/10 T + I."""
    support, query = points(seed=1), points(seed=2)
    x, classes = support.inputs, support.targets
    prototypes = torch.stack([x[classes == k].mean(0) for k in range(3)])
    residuals = x - prototypes[classes]
    covariance = 0.9 * residuals.T @ residuals / 9 + 0.1 * torch.cov(x.T) + torch.eye(4)
    gaps = query.inputs[:, None] - prototypes
    expected = -torch.einsum("qkf,fg,qkg->qk", gaps, covariance.inverse(), gaps)
    learner = ProtoNet(Network(identity(4), Head()), "mahalanobis")
    torch.testing.assert_close(answers(learner, support, query.inputs), expected, rtol=1e-4, atol=1e-4)


def test_mahalanobis_discounts_a_direction_that_varies_within_classes(identity):
    """Classes differ in the second coordinate, the first is noise: the query is nearer to the wrong mean, not to S."""
    noise = torch.tensor([-9.0, -3.0, 3.0, 9.0])
    inputs = torch.cat(
        [torch.stack([noise + shift, torch.full((4,), 4.0 * side)], 1) for side, shift in ((0, 2), (1, 0))]
    )
    support = Batch(inputs, torch.tensor([0] * 4 + [1] * 4), torch.ones(8), 2)
    query = torch.tensor([[9.0, 3.0]])
    network = Network(identity(2), Head())
    assert answers(ProtoNet(network), support, query).argmax() == 0
    assert answers(ProtoNet(network, "mahalanobis"), support, query).argmax() == 1


def test_one_shot_has_no_covariance_within_classes_and_still_answers(points, identity):
    support = points(ways=3, rows=3, seed=1)
    learner = ProtoNet(Network(identity(4), Head()), "mahalanobis", regularisation=0.1)
    assert answers(learner, support, support.inputs).argmax(-1).tolist() == support.targets.tolist()


def test_wrong_use_is_refused(identity, points):
    with pytest.raises(ValueError, match="distance is 'manhattan'"):
        ProtoNet(Network(identity(4), Head()), distance="manhattan")
    with pytest.raises(ValueError, match="scale is 0"):
        ProtoNet(Network(identity(4), Head()), scale=0.0)
    with pytest.raises(ValueError, match="brings one of 3 outputs"):
        ProtoNet(Network(identity(4), Head(), outputs=3)).adapt({}, points())
    regression = Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2))
    with pytest.raises(TaskError, match="regression"):
        ProtoNet(Network(identity(4), Head())).adapt({}, regression)
