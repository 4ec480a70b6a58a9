"""The learned rule: the paper's preprocessing, torch's own LSTM, coordinates that do not see each other."""

import math

import pytest
import torch
from torch import nn

from quickstudy.learners.learned_rule import LearnedRule, preprocessed

RULES = {
    "paper": LearnedRule(),
    "one layer": LearnedRule(layers=1, hidden=7),
    "relative": LearnedRule(output="relative"),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def walked(rule, gradients, weights=None):
    """[step, ..., coordinate]: the moves for `gradients` [step, ..., coordinate]."""
    weights = weights or rule.init(seeded())
    state, moves = rule.start(gradients[0]), []
    for gradient in gradients:
        move, state = rule.step(weights, gradient, state)
        moves.append(move)
    return torch.stack(moves)


def test_preprocessing_is_that_of_the_paper():
    signal = torch.tensor([math.e, -1.0, math.exp(-5), -math.exp(-12), 0.0])
    size, direction = preprocessed(signal, 10.0)
    torch.testing.assert_close(size, torch.tensor([0.1, 0.0, -0.5, -1.0, -1.0]))
    torch.testing.assert_close(direction, torch.tensor([1.0, -1.0, 1.0, -math.exp(-2), 0.0]))


def test_preprocessing_has_no_jump_in_direction_and_finite_derivatives():
    signal = torch.tensor([0.0, 1e-30, math.exp(-10), 1e30], requires_grad=True)
    parts = preprocessed(signal, 10.0)
    (slope,) = torch.autograd.grad(sum(part.sum() for part in parts), signal)
    assert slope.isfinite().all()
    below, above = (preprocessed(torch.tensor(math.exp(-10) * near), 10.0) for near in (0.999, 1.001))
    torch.testing.assert_close(torch.stack(below), torch.stack(above), rtol=0, atol=2e-3)


def test_steps_are_those_of_torchs_lstm():
    rule, weights = LearnedRule(hidden=6, layers=2), LearnedRule(hidden=6, layers=2).init(seeded(1))
    theirs = nn.LSTM(2, 6, 2)
    # torch's gates are input, forget, candidate, output
    order = torch.cat([torch.arange(12), torch.arange(18, 24), torch.arange(12, 18)])
    for layer, inputs in ((0, 2), (1, 6)):
        weight = weights[f"lstm.{layer}.weight"][:, order].T
        getattr(theirs, f"weight_ih_l{layer}").data = weight[:, :inputs]
        getattr(theirs, f"weight_hh_l{layer}").data = weight[:, inputs:]
        getattr(theirs, f"bias_ih_l{layer}").data = weights[f"lstm.{layer}.bias"][order]
        getattr(theirs, f"bias_hh_l{layer}").data.zero_()
    gradients = torch.randn(9, 5, generator=seeded(2))
    with torch.no_grad():
        hidden, _ = theirs(torch.stack(preprocessed(gradients, 10.0), -1))
    expected = 0.1 * (hidden @ weights["output.weight"] + weights["output.bias"])[..., 0]
    torch.testing.assert_close(walked(rule, gradients, weights), expected)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_coordinates_do_not_see_each_other(rule):
    gradients = torch.randn(6, 4, generator=seeded(3))
    changed = gradients.clone()
    changed[:, 0] *= -3
    assert torch.equal(walked(rule, gradients)[:, 1:], walked(rule, changed)[:, 1:])
    assert not torch.equal(walked(rule, gradients)[:, 0], walked(rule, changed)[:, 0])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_renumbering_coordinates_renumbers_moves(rule):
    gradients, order = torch.randn(6, 4, generator=seeded(3)), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(walked(rule, gradients[:, order]), walked(rule, gradients)[:, order])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_functions_side_by_side_are_as_alone(rule):
    gradients = torch.randn(6, 3, 4, generator=seeded(4))
    alone = torch.stack([walked(rule, gradients[:, row]) for row in range(3)], 1)
    torch.testing.assert_close(walked(rule, gradients), alone)


def test_the_relative_rule_starts_as_heavy_ball_momentum():
    rule = LearnedRule(output="relative", limit=1e3)
    weights = {name: torch.zeros_like(tensor) for name, tensor in rule.init(seeded()).items()}
    gradients = torch.randn(5, 3, generator=seeded(5))
    velocity, expected = torch.zeros(3), []
    for gradient in gradients:
        velocity = 0.9 * velocity - 0.2 * gradient
        expected.append(velocity)
    torch.testing.assert_close(walked(rule, gradients, weights), torch.stack(expected))


def test_steps_are_bounded():
    """A hidden unit is within 1, so a direct step is within scale times the sum of the output's weights."""
    weights = LearnedRule().init(seeded())
    gradients = 1e30 * torch.randn(20, 3, generator=seeded(6))
    moves = walked(LearnedRule(), gradients, weights)
    assert moves.abs().max() <= 0.1 * weights["output.weight"].abs().sum()
    assert walked(LearnedRule(output="relative", limit=0.5), gradients).abs().max() <= 0.5


def test_a_rule_that_holds_still_what_it_reads_moves_the_same_and_has_the_slope_of_momentum():
    gradient, weights = torch.randn(4, generator=seeded(7)), LearnedRule(output="relative").init(seeded())
    slopes = {}
    for hold in (False, True):
        rule = LearnedRule(output="relative", limit=1e6, hold=hold)
        move, slope = torch.func.vjp(lambda g, rule=rule: rule.step(weights, g, rule.start(g))[0], gradient)
        slopes[hold] = slope(torch.ones(4))[0]
        torch.testing.assert_close(move, walked(rule, gradient[None], weights)[0])
        if hold:
            # The first move is -rate * gradient.
            torch.testing.assert_close(slopes[hold], move / gradient)
    assert not torch.allclose(slopes[False], slopes[True])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden": 0}, "2 layers of 0 units"),
        ({"layers": 0}, "0 layers"),
        ({"p": 0.0}, "are 0.0, 0.1, 1.0"),
        ({"scale": -1.0}, "are 10.0, -1.0, 1.0"),
        ({"limit": 0.0}, "are 10.0, 0.1, 0.0"),
        ({"output": "log"}, "output is 'log'"),
    ],
)
def test_wrong_fields_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        LearnedRule(**fields)
