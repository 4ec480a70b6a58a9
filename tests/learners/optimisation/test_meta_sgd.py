"""Meta-SGD with equal rates is MAML, and its rates get the gradient of the closed form."""

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Episode, InnerLoop
from quickstudy.deltas import Full, LoRA
from quickstudy.learners import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.meta_sgd import MetaSGD


@pytest.mark.parametrize("order", ["first", "second"])
def test_equal_rates_are_maml(points, order, gradients):
    network, inner = Network(MLP((4, 8)), Full(), 3), InnerLoop(3, SGD(0.2), order=order)
    maml, meta_sgd = MAML(network, inner), MetaSGD(network, inner)
    params = meta_sgd.init(torch.Generator().manual_seed(0))
    start = maml.init(torch.Generator().manual_seed(0))
    support, episode = points(seed=1), Episode(points(seed=1), points(seed=2))
    first, second = maml.adapt(start, support), meta_sgd.adapt(params, support)
    assert first.tensors.keys() == second.tensors.keys()
    expected, found = gradients(maml, start, episode), gradients(meta_sgd, params, episode)
    for name in start:
        torch.testing.assert_close(second.tensors[name], first.tensors[name])
        torch.testing.assert_close(found[name], expected[name])


def test_gradient_of_the_rate_has_its_closed_form(constant, parabola, gradients):
    """One step: p' = p - 2 a (p - 3), so d/da (p' - 7)^2 = -4 (p' - 7) (p - 3)."""
    learner = MetaSGD(Network(constant(1.0), Full()), InnerLoop(1, SGD(0.1)))
    grads = gradients(learner, learner.init(torch.Generator()), parabola)
    adapted = 1 - 0.2 * (1 - 3)
    assert float(grads["rate.body.value"]) == pytest.approx(-4 * (adapted - 7) * (1 - 3))


def test_one_rate_moves_one_entry(points):
    learner = MetaSGD(Network(MLP((4, 8), "tanh"), Full(), 3), InnerLoop(1, SGD(0.2)))
    params = learner.init(torch.Generator().manual_seed(0))
    for name in params:
        if name.startswith("rate."):
            params[name] = torch.zeros_like(params[name])
    params["rate.head.weight"][1, 2] = 0.5
    adapter = learner.adapt(params, points())
    moved = {name: tensor != params[name] for name, tensor in adapter.tensors.items()}
    assert moved.pop("head.weight").nonzero().tolist() == [[1, 2]]
    assert not any(entries.any() for entries in moved.values())


def test_frozen_parameters_have_no_rate():
    learner = MetaSGD(Network(MLP((4, 8)), Full(), 3), InnerLoop(1, freeze=("body.*",)))
    rates = {name for name in learner.init(torch.Generator()) if name.startswith("rate.")}
    assert rates == {"rate.head.weight", "rate.head.bias"}


@pytest.mark.parametrize("per", ["tensor", "rank"])
def test_fewer_rates_move_as_equal_rates_of_each_entry_do(points, per):
    network = Network(MLP((4, 8)), LoRA(2, targets=("0",)), 3)
    inner, episode = InnerLoop(2, SGD(0.2)), Episode(points(seed=1), points(seed=2))
    few, many = MetaSGD(network, inner, per), MetaSGD(network, inner)
    params = few.init(torch.Generator().manual_seed(0))
    rates = {name: tensor.shape for name, tensor in params.items() if name.startswith("rate.")}
    expected = {"rank": ((2, 1), (1, 2)), "tensor": ((), ())}[per]
    assert (rates["rate.body.layers.0.lora_A"], rates["rate.body.layers.0.lora_B"]) == expected
    assert rates["rate.head.weight"] == ()
    every = many.init(torch.Generator().manual_seed(0))
    first, second = (learner.adapt(start, episode.support) for learner, start in ((few, params), (many, every)))
    for name, tensor in first.tensors.items():
        torch.testing.assert_close(tensor, second.tensors[name])


def test_a_rate_of_a_rank_moves_that_rank_alone(points):
    learner = MetaSGD(Network(MLP((4, 8)), LoRA(2, targets=("0",)), 3), InnerLoop(2, SGD(0.2)), "rank")
    params = learner.init(torch.Generator().manual_seed(0))
    params |= {name: torch.zeros_like(tensor) for name, tensor in params.items() if name.startswith("rate.")}
    params["rate.body.layers.0.lora_B"] = torch.tensor([[0.0, 0.5]])
    moved = learner.adapt(params, points()).tensors["body.layers.0.lora_B"]
    assert not moved[:, 0].any()
    assert moved[:, 1].any()


def test_scaling_begins_at_one_and_then_depends_on_the_task(points, gradients):
    network, inner = Network(MLP((4, 8)), Full(), 3), InnerLoop(1, SGD(0.2))
    plain, scaled = MetaSGD(network, inner), MetaSGD(network, inner, scaled=True)
    params = scaled.init(torch.Generator().manual_seed(0))
    tasks = [points(seed=seed) for seed in (1, 2)]

    def steps(learner):
        moves = [learner.adapt(params, task).tensors["head.bias"] - params["head.bias"] for task in tasks]
        return torch.stack(moves)

    own = {name: tensor for name, tensor in params.items() if not name.startswith("scale.")}
    unscaled = torch.stack([plain.adapt(own, task).tensors["head.bias"] - own["head.bias"] for task in tasks])
    torch.testing.assert_close(steps(scaled), unscaled)
    found = gradients(scaled, params, Episode(*tasks))
    assert found["scale.written"].any()
    params["scale.written"] = torch.randn(params["scale.written"].shape, generator=torch.Generator().manual_seed(1))
    factors = steps(scaled) / unscaled
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert abs(float(factors[0, 0] - factors[1, 0])) > 0.01


def test_an_unknown_granularity_is_refused():
    with pytest.raises(ValueError, match="per is 'layer'"):
        MetaSGD(Network(MLP((4, 8)), Full(), 3), per="layer")
