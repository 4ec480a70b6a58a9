"""The Bayesian learners pass the public checks, and each gives a variance."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.deltas import Full, LoRA
from quickstudy.learners import Network, learner_class
from quickstudy.learners import conformance as checks
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.gaussian_processes import GaussianProcesses
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

PROCESSES = GaussianProcesses(context=(3, 8), points=14)
WAVES = Sinusoids(shots=(4, 8), queries=6)
BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)


def build(name, **options):
    return learner_class(name)(width=16, **options)


def hierarchical(inputs, delta=None):
    return learner_class("hierarchical")(Network(MLP((inputs, 16, 12), "tanh"), delta or Full()))


SMALL = {"width": 16, "heads": 2, "blocks": 2, "hidden": 16}
REGRESSING = {
    "cnp": build("cnp"),
    "latent_np": build("latent_np", latent=8),
    "latent_np, likelihood": build("latent_np", latent=8, objective="likelihood"),
    "attentive_np": build("attentive_np", latent=8, heads=4),
    "attentive_np, likelihood": build("attentive_np", latent=8, heads=4, draws=3, objective="likelihood"),
    "attentive_np, no latent variable": build("attentive_np", latent=0, heads=4),
    "transformer_np": learner_class("transformer_np")(**SMALL),
    "transformer_np, one pass": learner_class("transformer_np")(rows=17, **SMALL),
    "hierarchical": hierarchical(1),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("tasks", [PROCESSES, WAVES], ids=["processes", "waves"])
@pytest.mark.parametrize("learner", REGRESSING.values(), ids=REGRESSING)
def test_regression(learner, tasks, check):
    check(learner, tasks)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("delta", [Full(), LoRA(rank=2, targets=("layers.1",))], ids=["full", "lora"])
def test_classes(delta, check):
    check(hierarchical(4, delta), BLOBS)


def test_hierarchical_learns_blobs():
    options = FitOptions(steps=25, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    checks.check_learns(hierarchical(4), BLOBS, options)


@pytest.mark.parametrize("learner", REGRESSING.values(), ids=REGRESSING)
def test_variances_are_above_0_and_differ(learner):
    episode = PROCESSES.sample(torch.Generator().manual_seed(0))
    params = learner.init(torch.Generator().manual_seed(0))
    found = learner.predict(params, learner.adapt(params, episode.support), episode.query.inputs)
    assert found.variance.shape == found.mean.shape
    assert (found.variance > 0).all()
    assert float(found.variance.std()) > 0
