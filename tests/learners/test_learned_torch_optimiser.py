"""The learned rule as a torch optimiser: the same walk as the learner's, state dictionaries, closures."""

import pytest
import torch
from torch import nn

from quickstudy.backbones.linear import Linear
from quickstudy.deltas import Full
from quickstudy.learners import Network
from quickstudy.learners.learned_rule import LearnedRule
from quickstudy.learners.learned_torch_optimiser import LearnedOptimiser
from quickstudy.learners.optimisation.learned_optimiser import L2O
from quickstudy.tasks.optimisees import Quadratics

RULE = LearnedRule(hidden=6)


def weights(rule=RULE):
    return rule.init(torch.Generator().manual_seed(0))


def task(seed=1):
    """A model, inputs and targets."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return model, torch.randn(8, 3, generator=draw), torch.randn(8, 1, generator=draw)


def walk(model, optimiser, inputs, targets, steps):
    for _ in range(steps):
        optimiser.zero_grad()
        (model(inputs) - targets).square().mean().backward()
        optimiser.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("rule", [RULE, LearnedRule(hidden=6, output="relative")])
def test_walks_as_the_learner_does(rule):
    learner = L2O(Network(Linear(4), Full()), rule, steps=7)
    episode = Quadratics(width=4).sample(torch.Generator().manual_seed(3))
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = episode.support.inputs["start"][:1].clone()
    optimiser = LearnedOptimiser(model.parameters(), weights(rule), rule)
    found = walk(model, optimiser, episode.support.inputs["x"], episode.support.targets, 7)
    adapter = learner.adapt(weights(rule), episode.support)
    torch.testing.assert_close(found, adapter.tensors["body.1.weight"][0])


def test_goes_on_from_a_state_dictionary():
    model, inputs, targets = task()
    expected = walk(model, LearnedOptimiser(model.parameters(), weights(), RULE), inputs, targets, 8)
    model, inputs, targets = task()
    optimiser = LearnedOptimiser(model.parameters(), weights(), RULE)
    walk(model, optimiser, inputs, targets, 5)
    fresh = LearnedOptimiser(model.parameters(), weights(), RULE)
    fresh.load_state_dict(optimiser.state_dict())
    assert torch.equal(walk(model, fresh, inputs, targets, 3), expected)
    model, inputs, targets = task()
    forgetful = LearnedOptimiser(model.parameters(), weights(), RULE)
    walk(model, forgetful, inputs, targets, 5)
    assert not torch.equal(
        walk(model, LearnedOptimiser(model.parameters(), weights(), RULE), inputs, targets, 3), expected
    )


def test_a_closure_is_called_with_gradients_and_its_loss_returned():
    model, inputs, targets = task()
    optimiser = LearnedOptimiser(model.parameters(), weights(), RULE)

    def closure():
        optimiser.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        return loss

    expected = (model(inputs) - targets).square().mean().item()
    assert optimiser.step(closure).item() == pytest.approx(expected)
    assert optimiser.step() is None


def test_large_tensors_are_moved_in_parts(monkeypatch):
    model, inputs, targets = task()
    whole = walk(model, LearnedOptimiser(model.parameters(), weights(), RULE), inputs, targets, 3)
    monkeypatch.setattr("quickstudy.learners.learned_torch_optimiser.AT_ONCE", 4)
    model, inputs, targets = task()
    torch.testing.assert_close(
        walk(model, LearnedOptimiser(model.parameters(), weights(), RULE), inputs, targets, 3), whole
    )


def test_groups_have_rates_that_schedulers_move():
    model, inputs, targets = task()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimiser = LearnedOptimiser(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[2].parameters()}], weights(), RULE
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.1)
    walk(model, optimiser, inputs, targets, 1)
    halved = model[0].weight.detach() - before[0]
    other, _, _ = task()
    walk(other, LearnedOptimiser(other.parameters(), weights(), RULE), inputs, targets, 1)
    torch.testing.assert_close(halved, 0.5 * (other[0].weight.detach() - before[0]), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(model[2].weight, other[2].weight)
    schedule.step()
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.05, 0.1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_moved(dtype):
    parameter = nn.Parameter(torch.full((2, 3), 0.001, dtype=dtype))
    optimiser = LearnedOptimiser([parameter], weights(), RULE)
    for _ in range(2):
        parameter.grad = torch.full_like(parameter, 0.3)
        optimiser.step()
        optimiser.load_state_dict(optimiser.state_dict())
    assert parameter.dtype == dtype
    assert parameter.isfinite().all()
    assert (parameter != torch.tensor(0.001, dtype=dtype)).all()


def test_what_has_no_gradient_stays():
    still, empty, moved = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(0)), nn.Parameter(torch.ones(3))
    moved.grad, empty.grad = torch.ones(3), torch.ones(0)
    LearnedOptimiser([still, empty, moved], weights(), RULE).step()
    assert torch.equal(still, torch.ones(3))
    assert not torch.equal(moved, torch.ones(3))


def test_wrong_use_is_refused():
    parameter = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match=r"lstm\.0\.bias.*the rule needs \(80,\)"):
        LearnedOptimiser([parameter], weights(), LearnedRule())
    with pytest.raises(ValueError, match=r"lr is 0"):
        LearnedOptimiser([parameter], weights(), RULE, lr=0.0)
    with pytest.raises(ValueError, match=r"output\.bias.*None"):
        LearnedOptimiser([parameter], {k: t for k, t in weights().items() if k != "output.bias"}, RULE)
    parameter.grad = torch.ones(3).to_sparse()
    with pytest.raises(ValueError, match="sparse"):
        LearnedOptimiser([parameter], weights(), RULE).step()
