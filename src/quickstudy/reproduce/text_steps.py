"""Inner steps of LoRA on a text encoder, from the start that ships and from a random one: accuracy after each number.

BANKING77 is of no domain that the start was trained on. Tasks of 20 classes, for with fewer `auto` takes no steps.
Each start takes the learning rate that is best for it on validation questions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.types import Params
from quickstudy.evaluation.protocol import each_score
from quickstudy.lifecycle.initialisation import chosen_method
from quickstudy.lifecycle.methods import METHODS, Method, build_method, start_params
from quickstudy.reproduce.base import SEED_OF_TEST_TASKS, SEED_OF_VALIDATION_TASKS, Reproduction, Row, Work, measured
from quickstudy.tasks.episodes import TableTasks
from quickstudy.tasks.intents import read_intents
from quickstudy.tasks.table import Table

METRIC = "accuracy, percent"
META, RANDOM = "meta-trained start", "random start"


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        tests: test tasks.
        validations: tasks on which rates are chosen.
        epochs: steps that each example takes part in, one row each.
        rates: of Adam, among which each start takes its best one.
        judged: epochs at which rates are compared.
    """

    tests: int = 20
    validations: int = 6
    epochs: tuple[int, ...] = (0, 1, 2, 3, 6, 12, 24)
    rates: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3)
    judged: int = 6


def run(work: Work) -> list[Row]:
    """A row for each start and number of steps, then how many steps each needs to the random start's best accuracy;
    draws the curves."""
    sizes = Sizes(2, 1, (0, 1), (5e-4,), 1) if work.quick else Sizes()
    method, trained = chosen_method("auto", TextEncoder(), 0)
    starts = {META: trained, RANDOM: start_params(method, 0)}
    banking = read_intents("banking77")
    curves: dict[str, list[Row]] = {}
    for name, params in starts.items():
        rate = _rate(work, method, name, params, banking.where(split="fs_valid"), sizes)
        curves[name] = [_row(work, method, (name, params), (epochs, rate), banking, sizes) for epochs in sizes.epochs]
    work.picture(lambda figure: _draw(curves, figure))
    return [*curves[META], *curves[RANDOM], *_needed(curves)]


def tasks(method: Method, table: Table) -> TableTasks:
    """Tasks of 20 classes, 5 examples and the name of each, 10 questions; classes with fewer texts are left out."""
    return TableTasks(table, method.backbone.inputs, 20, 5, 10, True, method.spec.name_weight, skip_small=True)


def accuracies(
    method: Method, params: Params, settings: tuple[int, float], table: Table, drawing: tuple[int, int]
) -> Tensor:
    """[task], in percent, with these epochs at this rate, of tasks drawn from `table`: their number and seed."""
    epochs, rate = settings
    named = dict(METHODS["auto"].settings) | {"epochs": epochs, "rate": rate}
    learner = build_method(replace(method.spec, settings=tuple(named.items())), method.encoder).learner
    return 100 * each_score(learner, params, tasks(method, table), *drawing)


def _rate(work: Work, method: Method, name: str, params: Params, table: Table, sizes: Sizes) -> float:
    def measure() -> list[float]:
        drawing = sizes.validations, SEED_OF_VALIDATION_TASKS
        return [float(accuracies(method, params, (sizes.judged, rate), table, drawing).mean()) for rate in sizes.rates]

    found: list[float] = work.once(f"rate-{name}", [repr(sizes)], measure)
    return max(zip(found, sizes.rates, strict=True))[1]


def _row(
    work: Work,
    method: Method,
    start: tuple[str, Params],
    settings: tuple[int, float],
    banking: Table,
    sizes: Sizes,
) -> Row:
    name, params = start
    epochs, rate = settings
    # Each step takes at most 64 of the 120 rows: see `Auto.rows`.
    facts: dict[str, Any] = {"steps": 2 * epochs, "rate": rate}

    def make() -> Row:
        began = time.perf_counter()
        drawing = sizes.tests, SEED_OF_TEST_TASKS
        values = {0: accuracies(method, params, settings, banking.where(split="fs_test"), drawing)}
        title = f"BANKING77 20-way 5-shot, {name}, {2 * epochs} steps"
        return measured(title, METRIC, values, time.perf_counter() - began, facts=facts)

    return work.row(f"row-{name}-{epochs}", [repr(sizes), facts], make)


def _needed(curves: Mapping[str, list[Row]]) -> list[Row]:
    """For each start the fewest steps with which it is as good as the random start at its best."""
    wanted = max(row.mean for row in curves[RANDOM])
    rows = []
    for name, curve in curves.items():
        steps = [row.facts["steps"] for row in curve if row.mean >= wanted]
        title = f"BANKING77 20-way 5-shot, {name}, steps to the random start's best accuracy"
        seconds = sum(row.seconds for row in curve)
        if steps:
            found = float(min(steps))
            rows.append(Row(title, "steps", found, None, curve[0].tasks, (found,), seconds, facts={"accuracy": wanted}))
    return rows


def _draw(curves: Mapping[str, list[Row]], figure: Any) -> None:
    axes = figure.subplots()
    for name, curve in curves.items():
        steps = [row.facts["steps"] for row in curve]
        axes.errorbar(steps, [row.mean for row in curve], [row.ci95 or 0.0 for row in curve], label=name, capsize=2)
    axes.set(xlabel="inner steps", ylabel="accuracy, percent")
    axes.legend()


TEXT_STEPS = Reproduction(
    "text_steps",
    "Inner steps of LoRA on the text encoder: the start that ships beside a random one",
    run,
    needs="QUICKSTUDY_DATA",
    hours=0.7,
)
