"""The recurrent meta-learner: it conforms, equals torch's LSTM, and keeps what it learned in its state."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from quickstudy.backbones import MLP
from quickstudy.core.errors import TaskError
from quickstudy.deltas import Full, Head
from quickstudy.learners import Network
from quickstudy.learners.blackbox.recurrent import Recurrent
from quickstudy.learners.conformance import CHECKS, check_learns
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
WAVES = Sinusoids(shots=(4, 8), queries=6)
CLASSES = Recurrent(Network(MLP((4, 8)), Full()), outputs=4, width=16)
REGRESSING = Recurrent(Network(MLP((1, 8)), Full()), width=16)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("learner", "tasks"), [(CLASSES, BLOBS), (REGRESSING, WAVES)], ids=["classes", "waves"])
def test_conforms(check, learner, tasks):
    check(learner, tasks)


def torch_lstm(params, inputs):
    """Outputs of torch's LSTM [step, unit] with the same weights; its gates stand in another order of names only."""
    cell = nn.LSTM(inputs.shape[-1], 16)
    state = {
        "weight_ih_l0": params["cell.read"],
        "weight_hh_l0": params["cell.carry"],
        "bias_ih_l0": params["cell.bias"],
        "bias_hh_l0": torch.zeros(64),
    }
    cell.load_state_dict(state)
    return cell(inputs)[0]


def test_the_answer_is_that_of_torchs_lstm_over_pairs(identity):
    learner = replace(REGRESSING, network=Network(identity(1), Head()))
    params = learner.init(torch.Generator().manual_seed(0))
    episode = Sinusoids(shots=5, queries=3).sample(torch.Generator().manual_seed(1))
    support = episode.support
    before = torch.cat([torch.zeros(1, 1), support.targets])
    for x, found in zip(
        episode.query.inputs,
        learner.predict(params, learner.adapt(params, support), episode.query.inputs).mean,
        strict=True,
    ):
        sequence = torch.cat([torch.cat([support.inputs, x[None]]), before], 1)
        hidden = torch_lstm(params, sequence)[-1]
        expected = linear(hidden, params["cell.answer"], params["cell.answer_bias"])
        torch.testing.assert_close(found, expected)


def test_the_state_is_all_that_is_kept_and_padded_rows_leave_it():
    params = REGRESSING.init(torch.Generator().manual_seed(0))
    support = WAVES.sample(torch.Generator().manual_seed(1)).support
    adapter = REGRESSING.adapt(params, support)
    assert {name: tuple(t.shape) for name, t in adapter.tensors.items()} == {
        "hidden": (16,),
        "cell": (16,),
        "last": (1,),
    }
    real = support.weights > 0
    assert not real.all()
    cut = replace(support, inputs=support.inputs[real], targets=support.targets[real], weights=support.weights[real])
    for name, tensor in REGRESSING.adapt(params, cut).tensors.items():
        torch.testing.assert_close(adapter.tensors[name], tensor)
    none = replace(support, weights=torch.zeros_like(support.weights))
    assert not any(tensor.any() for tensor in REGRESSING.adapt(params, none).tensors.values())


def test_the_loss_counts_the_answers_along_the_support_as_asked():
    params = REGRESSING.init(torch.Generator().manual_seed(0))
    episode = WAVES.sample(torch.Generator().manual_seed(1))
    losses = [float(replace(REGRESSING, along=along).loss(params, episode)) for along in (0.0, 1.0, 2.0)]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)
    assert losses[1] > losses[0]


def test_learns_blobs_and_falls_to_chance():
    learner = Recurrent(Network(MLP((2, 16)), Full()), outputs=2, width=24)
    options = FitOptions(steps=300, tasks_per_step=16, lr=1e-2, mode="vmap", progress=False)
    check_learns(learner, GaussianBlobs(ways=2, shots=3, queries=5), options, episodes=100)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="outputs 0"):
        replace(CLASSES, outputs=0)
    with pytest.raises(ValueError, match="along -1"):
        replace(CLASSES, along=-1.0)
    params = CLASSES.init(torch.Generator())
    with pytest.raises(TaskError, match="6 outputs and this learner 4"):
        CLASSES.adapt(params, GaussianBlobs(ways=6, width=4).sample(torch.Generator()).support)
