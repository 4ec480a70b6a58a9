"""The sides of the second-order comparison compute the same."""

import importlib

import pytest
import torch

pytest.importorskip("higher")
pytest.importorskip("torchopt")


@pytest.mark.parametrize("number", [0, 1])
def test_losses_and_gradients_agree_and_a_difference_is_refused(number):
    second_order = importlib.import_module("second_order")
    case = second_order.cases(quick=True)[number]
    expected = second_order.route(case, "loop", torch.float64)()
    for side in (*second_order.MODES, *second_order.PEERS):
        assert second_order.disagreement(expected, second_order.route(case, side, torch.float64)()) < 1e-6
    doubled = expected[0], {name: 2 * gradient for name, gradient in expected[1].items()}
    with pytest.raises(RuntimeError, match="do not compute the same"):
        second_order.disagreement(expected, doubled)
