"""Running a reproduction: pieces are kept, a stopped run goes on, the result has what tables need."""

import json
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from quickstudy import FitOptions
from quickstudy.core.errors import InputError, Interrupted, NotAvailable
from quickstudy.reproduce import Reproduction, Row, RunOptions, Work, measured, reproduction, reproductions
from quickstudy.reproduce import names as table
from quickstudy.reproduce.run import run_reproduction
from quickstudy.tasks import GaussianBlobs

KEYS = "name metric published published_source mean ci95 tasks seeds seconds device command"


def row(mean=1.0):
    return Row("a thing", "accuracy, percent", mean, None, 1, (mean,), 0.5, facts={"rate": 0.1})


def options(tmp_path, **more):
    return RunOptions(out=tmp_path / "out", runs=tmp_path / "runs", progress=False, **more)


def test_the_row_is_over_tasks_and_tells_seeds_apart():
    values = {0: torch.tensor([0.0, 1.0, 1.0, 0.0]), 1: torch.tensor([1.0, 1.0, 1.0, 1.0])}
    found = measured("x", "accuracy", values, 2.0, published=0.9, published_source="Someone 2017")
    assert found.mean == 0.75
    assert found.seeds == (0.5, 1.0)
    assert found.tasks == 4
    assert found.ci95 == pytest.approx(1.96 * torch.tensor([0.5, 1.0, 1.0, 0.5]).std().item() / 2)
    assert measured("x", "loss", {0: torch.tensor([2.0])}, 0.0).ci95 is None


def test_the_result_has_an_entry_for_each_row(tmp_path):
    found = Reproduction("thing", "A thing.", lambda work: [row(), row(2.0)])
    result = run_reproduction(found, options(tmp_path, seeds=2, quick=True), lambda line: None)
    assert result == json.loads((tmp_path / "out" / "thing.json").read_text())
    assert len(result["rows"]) == 2
    assert all(set(KEYS.split()) <= set(entry) for entry in result["rows"])
    assert result["rows"][0]["rate"] == 0.1
    assert result["rows"][0]["command"] == "quickstudy reproduce thing --quick --seeds 2"
    with pytest.raises(InputError, match="seeds is 0"):
        run_reproduction(found, options(tmp_path, seeds=0), lambda line: None)
    with pytest.raises(InputError, match="cannot be used here"):
        run_reproduction(found, options(tmp_path, device="meta:3:x"), lambda line: None)


def test_finished_pieces_are_kept_until_their_settings_change(tmp_path):
    made = []

    def piece(rate):
        return lambda work: [work.row("one", {"rate": rate}, lambda: made.append(rate) or row(rate))]

    first = Reproduction("thing", "", piece(1.0))
    chosen = options(tmp_path)
    before = run_reproduction(first, chosen, lambda line: None)
    assert run_reproduction(first, chosen, lambda line: None) == before
    assert made == [1.0]
    run_reproduction(Reproduction("thing", "", piece(2.0)), chosen, lambda line: None)
    assert made == [1.0, 2.0]
    run_reproduction(Reproduction("thing", "", piece(2.0)), replace(chosen, again=True), lambda line: None)
    assert made == [1.0, 2.0, 2.0]
    (tmp_path / "runs" / "thing" / "one.json").write_text("{half")
    run_reproduction(Reproduction("thing", "", piece(2.0)), chosen, lambda line: None)
    assert made == [1.0, 2.0, 2.0, 2.0]


@dataclass(frozen=True)
class Line:
    """Moves one number towards the mean of what it is shown; presses Ctrl-C when `left`, shared by all, runs out."""

    left: ClassVar[list[int]] = []

    def init(self, generator):
        return {"number": torch.rand(1, generator=generator)}

    def loss(self, params, episode):
        if self.left and self.left.pop() == 0:
            signal.raise_signal(signal.SIGINT)
        return (params["number"] - episode.query.inputs.mean()).square().sum()


def test_a_stopped_training_goes_on_and_ends_as_if_it_had_not_been_stopped(tmp_path):
    tasks = GaussianBlobs(ways=2, shots=1, queries=2)
    plan = FitOptions(steps=4, tasks_per_step=1, mode="loop")
    whole = Work(tmp_path / "whole", tmp_path / "p", progress=False).trained("seed0", Line(), tasks, plan)
    work = Work(tmp_path / "parts", tmp_path / "p", progress=False)
    Line.left.extend([0, 1])
    with pytest.raises(Interrupted):
        work.trained("seed0", Line(), tasks, plan)
    assert not Line.left
    stopped = work.spent(["seed0"])
    ended = work.trained("seed0", Line(), tasks, plan)
    assert torch.equal(whole.params["number"], ended.params["number"])
    assert len(ended.history) == 4
    assert 0 < stopped.wall < work.spent(["seed0"]).wall


def test_the_table_has_the_built_in_ones_and_refuses_others(monkeypatch):
    assert [found.name for found in reproductions()] == sorted(found.name for found in reproductions())
    with pytest.raises(InputError, match="no reproduction called 'nothing'"):
        reproduction("nothing")
    monkeypatch.setattr(table, "GROUP", "quickstudy.learners")
    with pytest.raises(NotAvailable, match="which is no Reproduction"):
        reproduction("maml")


def test_pictures_are_written(tmp_path):
    work = Work(tmp_path, tmp_path / "pictures" / "thing")
    path = work.picture(lambda figure: figure.add_subplot().plot([1, 2]), "curve")
    assert path.name == "thing-curve.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
