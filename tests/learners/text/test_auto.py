"""The default learner: the contract, what its steps do, and what they leave alone."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from quickstudy.backbones import MLP
from quickstudy.core import Batch
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.contrast import supervised_contrast
from quickstudy.learners.text.auto import Auto
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
FULL = Network(MLP((4, 16, 12)), Full())
LEARNERS = {
    "steps on everything": Auto(FULL, epochs=3, crowded=2, rate=0.01),
    "steps on LoRA": Auto(Network(MLP((4, 16, 12)), LoRA(2, targets=("layers.1",))), epochs=3, crowded=2),
    "no steps": Auto(FULL, epochs=0),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_contract(learner, check):
    check(replace(learner, precision="float32"), BLOBS)


def test_learns():
    checks.check_learns(LEARNERS["steps on everything"], BLOBS, FitOptions(steps=30, lr=3e-3, progress=False))


def support(ways=6, shots=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(ways, 4, generator=generator)
    targets = torch.arange(ways).repeat_interleave(shots)
    inputs = centres[targets] + 0.5 * torch.randn(len(targets), 4, generator=generator)
    return Batch(inputs, targets, torch.ones(len(targets)), ways)


def inner_loss(learner, params, batch):
    features = normalize(learner.network.features(params, batch.inputs), dim=-1)
    return supervised_contrast(features, batch.targets, batch.weights, learner.temperature)


@pytest.mark.parametrize("rows", [64, 8])
def test_steps_bring_classes_together(rows):
    learner = Auto(FULL, epochs=20, crowded=2, rows=rows, rate=3e-3, precision="float32")
    params, batch = learner.init(torch.Generator().manual_seed(0)), support()
    adapter = learner.adapt(params, batch)
    assert inner_loss(learner, dict(adapter.tensors), batch) < 0.8 * inner_loss(learner, params, batch)


def test_features_stay_with_few_classes():
    learner = Auto(FULL, epochs=5, crowded=7)
    params = learner.init(torch.Generator().manual_seed(0))
    assert set(learner.adapt(params, support(ways=6)).tensors) == {"weight", "bias", "counts"}
    moved = learner.adapt(params, support(ways=7)).tensors
    assert all(not torch.equal(moved[name], tensor) for name, tensor in params.items() if "weight" in name)


def test_nothing_to_move_is_no_error():
    learner = Auto(Network(MLP((4, 8)), Head()), epochs=3, crowded=2)
    adapter = learner.adapt(learner.init(torch.Generator().manual_seed(0)), support())
    assert adapter.tensors["weight"].shape == (8, 6)


def test_regression_is_refused():
    learner = LEARNERS["no steps"]
    params = learner.init(torch.Generator().manual_seed(0))
    with pytest.raises(TaskError, match="ridge or maml"):
        learner.adapt(params, Batch(torch.zeros(2, 4), torch.zeros(2, 1), torch.ones(2)))


@pytest.mark.parametrize("field", ["rate", "temperature", "rows", "epochs"])
def test_numbers_out_of_range(field):
    with pytest.raises(ValueError, match=field):
        Auto(FULL, **{field: -1})


def test_contrast_is_the_formula():
    batch = support(ways=3, shots=3)
    features = normalize(batch.inputs, dim=-1)
    expected = []
    for i in range(9):
        others = [k for k in range(9) if k != i]
        logits = features[others] @ features[i] / 0.2
        partners = [place for place, k in enumerate(others) if batch.targets[k] == batch.targets[i]]
        losses = [cross_entropy(logits[None], torch.tensor([place])) for place in partners]
        expected.append(torch.stack(losses).mean())
    found = supervised_contrast(features, batch.targets, batch.weights, 0.2)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_contrast_of_single_examples_is_zero():
    features = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert supervised_contrast(features, torch.arange(4), torch.ones(4), 0.1) == 0
