"""The count of updates: `fit` adds 1 each time, nothing else moves it, and the loss can read it."""

from dataclasses import dataclass

import torch

from quickstudy.core.types import Batch, Episode
from quickstudy.training import FitOptions, fit
from quickstudy.training.state import UPDATES


@dataclass(frozen=True)
class Nothing:
    """Tasks without anything in them."""

    def sample(self, generator):
        side = Batch(torch.rand(2, 1, generator=generator), torch.zeros(2, 1), torch.ones(2))
        return Episode(side, side)


@dataclass(frozen=True)
class Counting:
    """Its loss pulls `value` up in the first three updates and down afterwards."""

    def init(self, generator):
        return {"value": torch.zeros(()), UPDATES: torch.zeros(())}

    def loss(self, params, episode):
        sign = -1.0 if float(params[UPDATES].detach()) < 3 else 1.0
        return sign * params["value"] + 0 * episode.query.inputs.sum() + params[UPDATES].detach()


OPTIONS = FitOptions(steps=5, tasks_per_step=2, lr=0.1, weight_decay=0.5, betas=(0.0, 0.0), mode="vmap", progress=False)


def test_updates_are_counted_and_seen_by_the_loss():
    found = fit(Counting(), Nothing(), OPTIONS)
    assert float(found.params[UPDATES]) == 5
    assert [round(row["loss"] - row["step"]) for row in found.history] == [-1] * 5
    signs = [row["grad_norm"] for row in found.history]
    assert signs == [1.0] * 5


def test_a_start_from_another_run_counts_on():
    first = fit(Counting(), Nothing(), OPTIONS)
    second = fit(Counting(), Nothing(), OPTIONS, start=first.params)
    assert float(second.params[UPDATES]) == 10
    assert float(second.params["value"]) < float(first.params["value"])


def test_a_stopped_run_goes_on_counting(tmp_path):
    options = FitOptions(**{**vars(OPTIONS), "folder": tmp_path / "run"})
    whole = fit(Counting(), Nothing(), options)
    again = fit(Counting(), Nothing(), options, resume=True)
    assert float(again.params[UPDATES]) == float(whole.params[UPDATES]) == 5
