"""Calibration of probabilities whose truth is known."""

import math

import pytest
import torch
from sklearn.metrics import log_loss

from quickstudy.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)

BOTH = pytest.mark.parametrize("by", ["width", "mass"])


def drawn(examples=20_000, classes=4, seed=0):
    """Logits, and targets drawn from their softmax."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(examples, classes, generator=draw)
    return logits, torch.multinomial(logits.softmax(-1), 1, generator=draw)[:, 0]


@BOTH
def test_true_probabilities_have_no_error(by):
    logits, targets = drawn()
    assert expected_calibration_error(logits.softmax(-1), targets, by=by) < 0.015
    assert expected_calibration_error((3 * logits).softmax(-1), targets, by=by) > 0.1


@BOTH
def test_an_example_by_hand(by):
    """Two answers at 0.6 of which one is right, two at 0.9, both right: (|0.6 - 0.5| + |0.9 - 1|) / 2."""
    first = torch.tensor([0.6, 0.6, 0.9, 0.9])
    probabilities = torch.stack([first, 1 - first], -1)
    targets = torch.tensor([0, 1, 0, 0])
    assert expected_calibration_error(probabilities, targets, bins=2 if by == "mass" else 15, by=by) == pytest.approx(
        0.1
    )


@BOTH
def test_bins_hold_all_examples_and_keep_the_means(by):
    logits, targets = drawn(1001)
    probabilities = logits.softmax(-1)
    bins = reliability(probabilities, targets, by=by)
    assert len(bins) == 15
    assert sum(each.count for each in bins) == 1001
    right = (probabilities.argmax(-1) == targets).float().mean()
    assert sum(each.count * each.accuracy for each in bins) / 1001 == pytest.approx(float(right))
    confidence = probabilities.amax(-1)
    assert sum(each.count * each.confidence for each in bins) / 1001 == pytest.approx(float(confidence.mean()))
    for each in bins:
        inside = (confidence > each.low + 1e-6) & (confidence < each.high - 1e-6)
        assert int(inside.sum()) <= each.count
        assert not each.count or each.low - 1e-6 <= each.confidence <= each.high + 1e-6


def test_bins_of_equal_mass_differ_by_one_at_most_and_those_of_equal_width_in_bounds():
    logits, targets = drawn(1001)
    counts = [each.count for each in reliability(logits.softmax(-1), targets, by="mass")]
    assert max(counts) - min(counts) <= 1
    widths = [each.high - each.low for each in reliability(logits.softmax(-1), targets)]
    assert widths == pytest.approx([1 / 15] * 15)


def test_certain_and_right_has_no_error():
    assert expected_calibration_error(torch.eye(3), torch.arange(3)) == 0
    assert expected_calibration_error(torch.eye(3), (torch.arange(3) + 1) % 3) == 1


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_temperature_undoes_a_scale(scale):
    logits, targets = drawn()
    found = fit_temperature(scale * logits, targets)
    assert found == pytest.approx(scale, rel=0.05)
    best = negative_log_likelihood(scale * logits / found, targets)
    for other in (0.9, 1.1):
        assert best < negative_log_likelihood(scale * logits / (found * other), targets)


def test_the_temperature_stays_in_its_bounds():
    certain = 5 * torch.eye(3)
    assert fit_temperature(certain, torch.arange(3)) == pytest.approx(0.01)
    assert fit_temperature(certain, (torch.arange(3) + 1) % 3) == pytest.approx(100)


def test_likelihood_is_that_of_scikit_learn():
    logits, targets = drawn(100)
    assert negative_log_likelihood(logits, targets) == pytest.approx(
        log_loss(targets.numpy(), logits.double().softmax(-1).numpy())
    )
    assert negative_log_likelihood(torch.zeros(2, 8), torch.tensor([0, 5])) == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("probabilities", "targets", "bins", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0).long(), 15, "at least one"),
        (torch.eye(2), torch.zeros(3).long(), 15, "shapes"),
        (2 * torch.eye(2), torch.zeros(2).long(), 15, "softmax"),
        (torch.full((2, 2), math.nan), torch.zeros(2).long(), 15, "softmax"),
        (torch.eye(2), torch.tensor([0, 2]), 15, "class number below 2"),
        (torch.eye(2), torch.tensor([0, 1]), 0, "bins is 0"),
    ],
)
def test_wrong_input_is_refused(probabilities, targets, bins, message):
    with pytest.raises(ValueError, match=message):
        reliability(probabilities, targets, bins)


def test_a_temperature_for_logits_that_are_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
