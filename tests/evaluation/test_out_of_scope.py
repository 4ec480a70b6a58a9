"""Out-of-scope scores and thresholds on scores whose order is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quickstudy.evaluation.out_of_scope import auroc, choose_threshold, outside_recall, scope_scores

SCORES = st.lists(st.integers(-20, 20), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_order(inside, outside):
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    assert auroc(torch.tensor(inside), torch.tensor(outside)) == pytest.approx(sum(pairs) / len(pairs))


@given(SCORES, st.floats(0.01, 1.0))
def test_the_threshold_keeps_the_share_and_is_the_highest_that_does(inside, kept):
    scores = torch.tensor(inside).double()
    threshold = choose_threshold(scores, kept)
    assert (scores >= threshold).double().mean() >= kept - 1e-9
    higher = scores[scores > threshold]
    if len(higher):
        assert (scores >= higher.min()).double().mean() < kept


def test_recall_by_hand():
    inside = torch.arange(1, 21).float()
    outside = torch.tensor([0.0, 1.0, 1.5, 2.0, 9.0])
    assert choose_threshold(inside, 0.95) == 2
    assert outside_recall(inside, outside, 0.95) == pytest.approx(3 / 5)
    assert outside_recall(inside, outside, 1.0) == pytest.approx(1 / 5)


def test_scores_by_hand():
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.0, 0.0]])
    total = math.exp(2) + math.exp(1) + math.exp(-1)
    expected = {
        "probability": [math.exp(2) / total, 1 / 3],
        "logit": [2.0, 0.0],
        "energy": [math.log(total), math.log(3)],
        "margin": [1.0, 0.0],
    }
    for kind, values in expected.items():
        assert scope_scores(logits, kind).tolist() == pytest.approx(values)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="kind of score is 'luck'"):
        scope_scores(torch.zeros(1, 2), "luck")
    for wrong in (torch.zeros(0), torch.tensor([math.nan]), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="at least one"):
            auroc(torch.zeros(2), wrong)
        with pytest.raises(ValueError, match="at least one"):
            choose_threshold(wrong)
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="share to keep"):
            choose_threshold(torch.zeros(2), share)
