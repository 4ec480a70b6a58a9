"""Seconds add up over pieces, stopped ones included."""

import time

import pytest

from quickstudy.reproduce.base import Work
from quickstudy.reproduce.timing import Spent, spent, timed


def busy(seconds):
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        pass


def stopped(work):
    with timed(work, "one"):
        busy(0.05)
        raise KeyboardInterrupt


def test_pieces_add_up_and_labels_stay_apart(tmp_path):
    work = Work(tmp_path / "runs", tmp_path / "picture")
    assert spent(work, ["one"]) == Spent()
    with timed(work, "one"):
        busy(0.05)
    first = spent(work, ["one"])
    assert first.wall >= 0.05
    assert 0 < first.processor <= first.wall + 0.02
    with pytest.raises(KeyboardInterrupt):
        stopped(work)
    with timed(work, "other"):
        pass
    assert spent(work, ["one"]).wall >= first.wall + 0.05
    assert spent(work, ["other"]).wall < 0.05
    both = spent(work, ["one", "other", "never"])
    assert both.wall == pytest.approx(spent(work, ["one"]).wall + spent(work, ["other"]).wall)
