"""The LSTM meta-learner: gates held at known values, derivatives by two routes, learning."""

import math
from dataclasses import replace

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.deltas import Full
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.blackbox.lstm_meta_learner import LSTMMetaLearner
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

BLOBS = GaussianBlobs(ways=3, shots=(2, 4), queries=6, width=4, spread=1.5)
WAVES = Sinusoids(shots=(4, 8), queries=6)
CASES = {
    "classes": (LSTMMetaLearner(Network(MLP((4, 12)), Full(), 3), steps=3, hidden=6, rate=0.2), BLOBS),
    "second order": (LSTMMetaLearner(Network(MLP((4, 6)), Full(), 3), steps=2, hidden=4, order="second"), BLOBS),
    "waves": (LSTMMetaLearner(Network(MLP((1, 12), "tanh"), Full(), 1), steps=3, hidden=6), WAVES),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("learner", "tasks"), CASES.values(), ids=CASES)
def test_conforms(learner, tasks, check):
    check(learner, tasks)


def held(learner, forget, rate):
    """Meta-parameters with which the gates are `forget` and `rate`, whatever is read."""
    params = learner.init(torch.Generator().manual_seed(0))
    for gate, value in (("forget", forget), ("input", rate)):
        params[f"{gate}.weight"] = torch.zeros_like(params[f"{gate}.weight"])
        params[f"{gate}.bias"] = torch.tensor(math.log(value / (1 - value)))
    return params


def test_held_gates_are_gradient_descent_with_decay(constant, parabola):
    """The support's mean is 3, so the gradient at p is 2 (p - 3)."""
    learner = LSTMMetaLearner(Network(constant(1.0), Full()), steps=4)
    point = 1.0
    for _ in range(4):
        point = 0.8 * point - 0.1 * 2 * (point - 3)
    adapter = learner.adapt(held(learner, 0.8, 0.1), parabola.support)
    assert float(adapter.tensors["body.value"]) == pytest.approx(point)
    unmoved = replace(learner, steps=0).adapt(held(learner, 0.8, 0.1), parabola.support)
    assert float(unmoved.tensors["body.value"]) == 1.0


def test_gates_start_at_the_fields(constant, parabola):
    learner = LSTMMetaLearner(Network(constant(1.0), Full()), steps=1, keep=0.999, rate=0.05)
    adapter = learner.adapt(learner.init(torch.Generator().manual_seed(0)), parabola.support)
    assert float(adapter.tensors["body.value"]) == pytest.approx(0.999 + 0.05 * 4, rel=0.05)


@pytest.mark.parametrize("row", [0, 2], ids=["gradient", "loss"])
def test_the_gates_read_the_gradient_and_the_loss(constant, parabola, row):
    """What the LSTM hears of one signal alone changes the walk, if the gates listen to it."""
    learner = LSTMMetaLearner(Network(constant(1.0), Full()), steps=2, hidden=2)
    params = held(learner, 0.9, 0.1)
    plain = learner.adapt(params, parabola.support).tensors["body.value"]
    params["lstm.weight"] = torch.zeros_like(params["lstm.weight"])
    params["lstm.weight"][row] = 3.0
    assert torch.equal(learner.adapt(params, parabola.support).tensors["body.value"], plain)
    params["input.weight"][:2] = 1.0
    assert not torch.equal(learner.adapt(params, parabola.support).tensors["body.value"], plain)


@pytest.mark.parametrize("gate", ["forget", "input"])
def test_a_gate_reads_the_parameter_and_itself_a_step_before(constant, parabola, gate):
    learner = LSTMMetaLearner(Network(constant(1.0), Full()), steps=3, hidden=2)
    params = held(learner, 0.9, 0.1)
    params[f"{gate}.weight"][2:] = torch.tensor([0.3, 2.0])
    point, values, logits = 1.0, {"forget": 0.9, "input": 0.1}, math.log(9 if gate == "forget" else 1 / 9)
    before = 0.0
    for _ in range(3):
        before = values[gate] = 1 / (1 + math.exp(-(logits + 0.3 * point + 2.0 * before)))
        point = values["forget"] * point - values["input"] * 2 * (point - 3)
    adapter = learner.adapt(params, parabola.support)
    assert float(adapter.tensors["body.value"]) == pytest.approx(point, rel=1e-5)


def test_second_order_is_the_slope_of_the_loss_and_first_order_is_not(gradients, differences, in_double):
    learner = LSTMMetaLearner(Network(MLP((4, 2), "tanh"), Full(), 3), 3, hidden=2, rate=0.2, order="second")
    params = in_double(learner.init(torch.Generator().manual_seed(0)))
    episode = in_double(BLOBS.sample(torch.Generator().manual_seed(1)))
    numeric = differences(learner, params, episode)
    torch.testing.assert_close(gradients(learner, params, episode), numeric, rtol=1e-4, atol=1e-6)
    first = gradients(replace(learner, order="first"), params, episode)
    assert not all(torch.allclose(first[name], numeric[name], rtol=1e-2, atol=1e-4) for name in params)


def test_learns_blobs():
    learner = LSTMMetaLearner(Network(MLP((4, 16)), Full(), 3), steps=3, hidden=8, rate=0.2)
    checks.check_learns(learner, BLOBS, FitOptions(30, 8, lr=2e-2, mode="vmap", progress=False), episodes=60)


def test_wrong_use_is_refused():
    network = Network(MLP((4, 12)), Full(), 3)
    for fields, words in (
        ({"steps": -1}, "steps is -1"),
        ({"hidden": 0}, "hidden is 0"),
        ({"keep": 1.0}, "keep is 1.0"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"order": "zeroth"}, "order is 'zeroth'"),
    ):
        with pytest.raises(ValueError, match=words):
            LSTMMetaLearner(network, **fields)
