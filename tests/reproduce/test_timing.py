"""Seconds add up over pieces, stopped ones included."""

import time

import pytest

from quickstudy.reproduce.timing import Spent, spent, timed


def busy(seconds):
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pass


def stopped(folder):
    with timed(folder, "one"):
        busy(0.05)
        raise KeyboardInterrupt


def test_pieces_add_up_and_labels_stay_apart(tmp_path):
    folder = tmp_path / "runs"
    assert spent(folder, ["one"]) == Spent()
    with timed(folder, "one"):
        busy(0.05)
    first = spent(folder, ["one"])
    assert first.wall >= 0.05
    assert 0 < first.processor <= first.wall + 0.02
    with pytest.raises(KeyboardInterrupt):
        stopped(folder)
    with timed(folder, "other"):
        pass
    assert spent(folder, ["one"]).wall >= first.wall + 0.05
    assert spent(folder, ["other"]).wall < 0.05
    both = spent(folder, ["one", "other", "never"])
    assert both.wall == pytest.approx(spent(folder, ["one"]).wall + spent(folder, ["other"]).wall)
