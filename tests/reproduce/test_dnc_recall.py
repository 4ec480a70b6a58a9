"""The small run: the computer recalls values by their keys where an LSTM as large does not."""

import torch

from quickstudy.learners.memory.dnc import DNC
from quickstudy.reproduce.base import Work
from quickstudy.reproduce.dnc_recall import cases, run
from quickstudy.reproduce.sequence_runs import Mismatched, lstm_as_large_as, wrong_bits
from quickstudy.tasks.recall import AssociativeRecall


def test_the_computer_recalls_and_the_lstm_does_not(tmp_path):
    work = Work(tmp_path / "runs", tmp_path / "dnc_recall", quick=True, progress=False, tell=lambda _: None)
    rows = {row.name: row for row in run(work)}
    assert rows["DNC, recall of 4 pairs"].mean < 25
    assert rows["control: LSTM, recall of 4 pairs"].mean > 60
    assert rows["control: DNC, recall of 4 pairs, another task asked"].mean > 90
    assert (tmp_path / "dnc_recall-recall-of-4-pairs.png").exists()


def test_the_lstm_is_as_large():
    for case in cases(quick=False):
        sizes = {}
        for cell in (case.cell, lstm_as_large_as(case.cell)):
            sizes[type(cell).__name__] = sum(tensor.numel() for tensor in cell.init(torch.Generator()).values())
        assert 1 <= sizes["LSTMCell"] / sizes["DNCCell"] < 1.05


def test_wrong_bits_are_counted_by_row_and_without_padding():
    """Before training all answers are near a half, so a bit is wrong as often as not."""
    tasks = AssociativeRecall((1, 3), 4)
    learner = DNC(cases(quick=True)[0].cell.__class__(4 + 1 + 4 + 1, 4, rows=4, columns=4, hidden=8), bits=True)
    params = learner.init(torch.Generator().manual_seed(0))
    found = wrong_bits(learner, params, tasks, 60)
    assert found.shape == (60, 3)
    assert float(found[:, 0].mean()) > 1
    assert bool((found[:, 1] == 0).any())
    assert float(found[:, 2].mean()) < float(found[:, 0].mean())
    other = wrong_bits(learner, params, Mismatched(tasks), 60)
    assert not torch.equal(found, other)
