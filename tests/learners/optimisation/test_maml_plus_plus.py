"""MAML++ with everything switched off is MAML, and each part does what the paper says."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Adam, Episode, InnerLoop
from quickstudy.deltas import Full
from quickstudy.learners import Network, conformance
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.maml_plus_plus import MAMLPlusPlus
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions
from quickstudy.training.state import UPDATES

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
NETWORK = Network(MLP((4, 16, 12)), Full(), 3)
INNER = InnerLoop(steps=3, optimiser=SGD(0.2))
BIASES = ("body.*.bias",)
LEARNERS = {
    "plain": MAMLPlusPlus(NETWORK, INNER, learn_rates=False),
    "rates": MAMLPlusPlus(NETWORK, INNER),
    "all": MAMLPlusPlus(NETWORK, INNER, per_step=BIASES, multi_step_for=20, first_order_for=10),
}


def started(learner, updates=None):
    params = learner.init(torch.Generator().manual_seed(0))
    return params if updates is None else {**params, UPDATES: torch.tensor(float(updates))}


@pytest.fixture
def episode(points):
    return Episode(points(seed=1), points(seed=2))


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_keeps_the_contract_on_classes(learner, check):
    check(learner, BLOBS)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract_on_waves(check):
    network = Network(MLP((1, 16, 12), "tanh"), Full(), 1)
    check(MAMLPlusPlus(network, INNER, per_step=BIASES, multi_step_for=5), Sinusoids(shots=(4, 8), queries=6))


def test_learns_blobs():
    options = FitOptions(steps=25, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    conformance.check_learns(LEARNERS["all"], BLOBS, options)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("freeze", [(), ("body.*",)])
def test_switched_off_it_is_maml(episode, order, freeze, gradients):
    inner = InnerLoop(3, SGD(0.2), order=order, freeze=freeze)
    maml = MAML(NETWORK, inner)
    for learn_rates in (False, True):
        learner = MAMLPlusPlus(NETWORK, inner, learn_rates)
        found = gradients(learner, started(learner), episode)
        for name, grad in gradients(maml, started(maml), episode).items():
            torch.testing.assert_close(found[name], grad)
    assert learner.adapt(started(learner), episode.support).tensors.keys() == (
        maml.adapt(started(maml), episode.support).tensors.keys()
    )


def test_a_rate_of_zero_skips_its_step_and_its_tensor(episode):
    learner = LEARNERS["rates"]
    params = started(learner)
    for name in params:
        if name.startswith("rate."):
            params[name] = torch.zeros(3)
    params["rate.head.bias"][1] = 0.5
    adapter = learner.adapt(params, episode.support)
    outputs = learner.network(params, episode.support.inputs).requires_grad_()
    (grad,) = torch.autograd.grad(weighted_loss(outputs, episode.support), [outputs])
    torch.testing.assert_close(adapter.tensors["head.bias"], params["head.bias"] - 0.5 * grad.sum(0))
    assert all(torch.equal(t, params[n]) for n, t in adapter.tensors.items() if n != "head.bias")


@pytest.mark.parametrize(("updates", "shares"), [(0, (1 / 3,) * 3), (10, (1 / 6, 1 / 6, 2 / 3)), (20, (0, 0, 1))])
def test_the_multi_step_loss_fades_to_the_last_step(episode, updates, shares):
    learner = MAMLPlusPlus(NETWORK, INNER, learn_rates=False, multi_step_for=20)
    params = started(learner, updates)
    maml = (MAML(NETWORK, InnerLoop(steps, SGD(0.2))) for steps in (1, 2, 3))
    expected = sum(share * each.loss(params, episode) for share, each in zip(shares, maml, strict=True))
    torch.testing.assert_close(learner.loss(params, episode), expected)


def test_the_order_changes_after_its_updates(episode, gradients):
    learner = MAMLPlusPlus(NETWORK, INNER, learn_rates=False, first_order_for=5)
    for updates, order in ((4, "first"), (5, "second")):
        expected = gradients(MAML(NETWORK, InnerLoop(3, SGD(0.2), order=order)), started(LEARNERS["plain"]), episode)
        found = gradients(learner, started(learner, updates), episode)
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad)


def test_each_step_uses_its_own_parameters(episode, gradients):
    """Where they differ the loss is the last step's, where they are equal it is that of a frozen parameter."""
    learner = MAMLPlusPlus(NETWORK, INNER, learn_rates=False, per_step=BIASES)
    params = started(learner)
    frozen = MAML(NETWORK, InnerLoop(3, SGD(0.2), freeze=BIASES))
    torch.testing.assert_close(learner.loss(params, episode), frozen.loss(started(frozen), episode))
    grads = gradients(learner, params, episode)
    for name in ("step.body.layers.0.bias", "step.body.layers.1.bias"):
        assert params[name].shape[0] == 3
        assert all(grad.any() for grad in grads[name])
    adapter = learner.adapt(params, episode.support)
    assert not any(name.endswith(".bias") and name.startswith("body.") for name in adapter.tensors)
    params["step.body.layers.0.bias"][0] += 1
    assert not torch.equal(
        learner.adapt(params, episode.support).tensors["head.weight"], adapter.tensors["head.weight"]
    )


def test_fit_counts_and_a_resumed_run_is_the_same(tmp_path):
    learner = MAMLPlusPlus(NETWORK, INNER, multi_step_for=6, first_order_for=3)
    options = FitOptions(
        steps=8, tasks_per_step=4, lr=1e-2, mode="vmap", progress=False, weight_decay=0.1, schedule="cosine"
    )
    whole = fit(learner, BLOBS, options)
    assert float(whole.params[UPDATES]) == 8
    folder = tmp_path / "run"
    kept = FitOptions(**{**vars(options), "folder": folder, "checkpoint_every": 4})
    fit(learner, BLOBS, kept)
    assert all(torch.equal(t, whole.params[n]) for n, t in fit(learner, BLOBS, kept, resume=True).params.items())


@pytest.mark.parametrize(
    "fields",
    [{"inner": InnerLoop(0)}, {"inner": InnerLoop(2, Adam())}, {"multi_step_for": -1}, {"first_order_for": -1}],
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ValueError, match="give"):
        MAMLPlusPlus(NETWORK, **fields)
