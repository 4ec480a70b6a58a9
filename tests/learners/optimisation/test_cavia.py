"""CAVIA moves the context alone, and the rest of the network is meta-trained through it."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Episode, InnerLoop
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full
from quickstudy.learners import Network, conformance
from quickstudy.learners.optimisation.cavia import CAVIA
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
INNER = InnerLoop(2, SGD(0.5))
LEARNERS = {
    "input": CAVIA(Network(MLP((9, 16, 12)), Full(), 3), INNER),
    "features": CAVIA(Network(MLP((4, 16, 12)), Full(), 3), INNER, where="features"),
}


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_keeps_the_contract_on_classes(learner, check):
    check(learner, BLOBS)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract_on_waves(check):
    check(CAVIA(Network(MLP((6, 16, 12), "tanh"), Full(), 1)), Sinusoids(shots=(4, 8), queries=6))


@pytest.mark.parametrize("where", LEARNERS)
def test_learns_to_tell_mirrored_classes_apart(where):
    """Class numbers are dealt anew for each task, so without the context nothing could be told."""
    tasks = GaussianBlobs(ways=2, shots=5, queries=10, width=2, spread=3.0)
    network = Network(MLP((7 if where == "input" else 2, 20, 20)), Full(), 2)
    learner = CAVIA(network, InnerLoop(3, SGD(1.0)), where=where)
    options = FitOptions(steps=120, tasks_per_step=16, lr=2e-2, mode="vmap", progress=False)
    conformance.check_learns(learner, tasks, options)


@pytest.mark.parametrize("where", LEARNERS)
def test_the_adapter_is_the_context_alone(where, points):
    learner = LEARNERS[where]
    params = learner.init(torch.Generator().manual_seed(0))
    adapter = learner.adapt(params, points())
    assert list(adapter.tensors) == ["context"]
    assert adapter.tensors["context"].shape == (5,)
    assert adapter.tensors["context"].all()


def test_one_step_on_a_linear_network_has_its_closed_form(identity, parabola, gradients):
    """f = v [x, c] with x = 0 and v = (., 2): the outputs are 2c, so c' = -rate * 2 * 2 * (0 - 3) = 12 rate."""
    learner = CAVIA(Network(identity(2), Full(), 1), InnerLoop(1, SGD(0.1)), context=1)
    params = {"head.weight": torch.tensor([[0.3, 2.0]]), "head.bias": torch.zeros(1)}
    adapter = learner.adapt(params, parabola.support)
    assert float(adapter.tensors["context"]) == pytest.approx(1.2)
    assert float(learner.predict(params, adapter, torch.zeros(1, 1)).mean) == pytest.approx(2.4)
    # v c' = 6 rate v^2, so the slope of (6 rate v^2 - 7)^2 by v is 2 (2.4 - 7) * 12 rate v.
    grad = gradients(learner, params, parabola)["head.weight"]
    assert float(grad[0, 1]) == pytest.approx(2 * (2.4 - 7) * 12 * 0.1 * 2)


def test_first_order_differs(points, gradients):
    params = LEARNERS["input"].init(torch.Generator().manual_seed(0))
    first = CAVIA(LEARNERS["input"].network, InnerLoop(2, SGD(0.5), order="first"))
    episode = Episode(points(seed=1), points(seed=2))
    one, other = (gradients(learner, params, episode) for learner in (LEARNERS["input"], first))
    assert any(not torch.allclose(one[name], other[name]) for name in params)


def test_without_steps_features_are_as_they_were(points):
    learner = CAVIA(LEARNERS["features"].network, InnerLoop(0), where="features")
    params = learner.init(torch.Generator().manual_seed(0))
    adapter = learner.adapt(params, points())
    expected = learner.network(params, points().inputs)
    torch.testing.assert_close(learner.predict(params, adapter, points().inputs).mean, expected)


def test_what_cannot_be_is_refused(points):
    with pytest.raises(ValueError, match="context is 0"):
        CAVIA(Network(MLP((4, 6)), Full(), 3), context=0)
    with pytest.raises(ValueError, match="where is 'head'"):
        CAVIA(Network(MLP((4, 6)), Full(), 3), where="head")
    with pytest.raises(ValueError, match="no head"):
        CAVIA(Network(MLP((4, 6)), Full())).init(torch.Generator())
    params = LEARNERS["input"].init(torch.Generator())
    with pytest.raises(TaskError, match="4 classes, the head has 3 outputs"):
        LEARNERS["input"].adapt(params, points(ways=4))
    images = points()
    images = type(images)(images.inputs[:, None, :], images.targets, images.weights, images.ways)
    with pytest.raises(TaskError, match='where="features"'):
        LEARNERS["input"].adapt(params, images)
