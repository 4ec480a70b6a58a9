"""Copying by a neural Turing machine (Graves et al. 2014), trained on 1 to 20 rows and asked for up to 120."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from quickstudy.backbones.memory import Cell, LSTMCell, NTMCell
from quickstudy.core.types import Params
from quickstudy.learners.memory.ntm import NTM
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, Reproduction, Row, Work, measured
from quickstudy.reproduce.sequence_runs import Mismatched, Trained, picture_losses, train, wrong_bits
from quickstudy.tasks.copying import Copying
from quickstudy.training.options import FitOptions

METRIC = "bit errors a sequence"
SOURCE = "Graves, Wayne, Danihelka, 2014, arXiv 1410.5401; unverified"
PUBLISHED = {20: 0.0}
"""By length. The paper shows longer sequences as pictures, with few errors."""


@dataclass(frozen=True)
class Plan:
    """How large the run is.

    Attributes:
        tasks: what is trained on.
        lengths: rows of a sequence that is tested on; the first is the longest trained on.
        cells: name -> cell.
        options: of every training run.
        episodes: sequences of each length that are tested on.
    """

    tasks: Copying
    lengths: tuple[int, ...]
    cells: Mapping[str, Cell]
    options: FitOptions
    episodes: int


def plan(quick: bool) -> Plan:
    """The full size, or one of seconds: rows of 4 bits, trained on 1 to 4 of them."""
    if quick:
        cells: dict[str, Cell] = {"NTM": NTMCell(6, 4, rows=16, columns=8, hidden=32), "LSTM": LSTMCell(6, 4, 24)}
        options = FitOptions(steps=450, tasks_per_step=16, lr=3e-3, clip=1.0, mode="vmap", checkpoint_every=450)
        return Plan(Copying((1, 4), 4), (4, 10), cells, options, 100)
    cells = {"NTM": NTMCell(10, 8), "LSTM": LSTMCell(10, 8, 256)}
    options = FitOptions(steps=4000, tasks_per_step=16, lr=1e-3, schedule="cosine", clip=1.0, mode="vmap")
    return Plan(Copying((1, 20)), (20, 40, 80, 120), cells, options, 600)


def run(work: Work) -> list[Row]:
    """Errors of the machine at each length, then of the controls: another sequence was written; an LSTM.

    Draws the losses and one long copy.
    """
    wanted = plan(work.quick)
    rows: list[Row] = []
    curves = {}
    for name, cell in wanted.cells.items():
        learner = NTM(cell, bits=True)
        trained = train(work, name.lower(), learner, wanted.tasks, wanted.options)
        curves[name] = trained.losses
        rows += [_row(work, name, learner, trained, length) for length in wanted.lengths]
        if name == "NTM":
            rows.append(_row(work, name, learner, trained, wanted.lengths[0], mismatched=True))
            _picture_copy(work, learner, trained.params[0], wanted.lengths[-1])
    picture_losses(work, curves, "loss", "cross-entropy, nats a bit")
    return rows


def _row(work: Work, name: str, learner: NTM, trained: Trained, length: int, mismatched: bool = False) -> Row:
    """The errors of one learner at one length."""
    wanted = plan(work.quick)
    tasks = Copying(length, wanted.tasks.bits)
    about = f"{name}, {length} rows{', another sequence written' if mismatched else ''}"
    facts = {**trained.facts, "bits": length * wanted.tasks.bits, "trained_on_rows": list(_ends(wanted.tasks.length))}
    told = PUBLISHED.get(length) if name == "NTM" and not mismatched else None

    def make() -> Row:
        began = time.perf_counter()
        source = Mismatched(tasks) if mismatched else tasks
        values = {
            seed: wrong_bits(learner, each, source, wanted.episodes).sum(1) for seed, each in trained.params.items()
        }
        seconds = trained.seconds + time.perf_counter() - began
        shown = about if name == "NTM" and not mismatched else f"control: {about}"
        cited = {"published": told, "published_source": SOURCE if told is not None else ""}
        return measured(shown, METRIC, values, seconds, facts=facts, **cited)

    return work.row(f"row-{about.replace(' ', '-').replace(',', '')}", [repr(wanted), str(work.seeds)], make)


def _ends(length: int | tuple[int, int]) -> tuple[int, int]:
    return length if isinstance(length, tuple) else (length, length)


def _picture_copy(work: Work, learner: NTM, params: Params, length: int) -> None:
    """What was written and what was answered, for one sequence longer than any trained on."""
    tasks = Copying(length, plan(work.quick).tasks.bits)
    episode = tasks.sample(torch.Generator().manual_seed(SEED_OF_TEST_TASKS))
    with torch.no_grad():
        answers = learner.predict(params, learner.adapt(params, episode.support), episode.query.inputs).mean

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, sharex=True)
        for axes, rows, title in ((upper, episode.query.targets, "written"), (lower, answers, "answered")):
            axes.imshow(rows.T.tolist(), aspect="auto", vmin=0, vmax=1, cmap="Greys", interpolation="nearest")
            axes.set(title=title, ylabel="bit")
        lower.set(xlabel="row")

    work.picture(draw, "copy", size=(8.0, 3.2))


NTM_COPY = Reproduction(
    "ntm_copy", "copying by a neural Turing machine, trained on 1 to 20 rows; an LSTM beside it", run, hours=0.2
)
