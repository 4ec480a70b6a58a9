"""Adapting to a new task: SetFit beside `FewShotClassifier`, 5-way and 77-way, 5 examples a class, BANKING77."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from quickstudy import FewShotClassifier
from report import Options, Row, main
from stopwatch import seconds_of
from texts import Rows, Task, disjoint_tasks, minilm_folder, rows_of

METHODS = ("auto", "logistic")

DEFAULTS = "SetFit's own: oversampling, batch 16, 1 epoch, body rate 2e-5, logistic head"
CHEAPEST = (
    "SetFit's undersampling, the rest its own: its default, oversampling, makes 146,000 pairs of 385 texts, which "
    "takes hours on a CPU"
)

Peer: TypeAlias = tuple[dict[str, Any], dict[str, Any], str]
"""What SetFit reached, the settings of both sides, and the seconds to reach."""

WARM = Rows(
    ["where is my parcel", "my parcel is late", "has my parcel left", "I want my money back", "please refund me"],
    ["delivery", "delivery", "delivery", "refund", "refund"],
)


def compare(options: Options) -> list[Row]:
    """Rows of seconds and accuracy for both sizes of task."""
    pool = rows_of("banking77", "train")
    few = disjoint_tasks(pool, 1 if options.quick else 15, 5 if options.quick else 15)
    everything = Task(rows_of("banking77", "train_5"), rows_of("banking77", "fs_test"))
    if options.quick:
        kept = 4
        everything = Task(*(rows_of("banking77", split, kept) for split in ("train_5", "fs_test")))
    limit: dict[str, Any] = {"max_steps": 2} if options.quick else {}
    first = setfit(few[:1] if options.quick else few[:5], limit, options)
    second = setfit([everything], {"sampling_strategy": "undersampling", **limit}, options)
    rows = []
    for method in METHODS:
        classifier = FewShotClassifier(method)
        cold, _ = seconds_of(lambda one=classifier: one.fit(WARM.texts, WARM.labels))
        facts = {"method": method, "first_fit_seconds_with_loading": cold, "class_names": True, "base": "minilm"}
        found = [adapted(method, task) for task in few]
        same = [accuracy for _, accuracy in found][: len(first["accuracy"])]
        rows += pair("5-way 5-shot", method, [s for s, _ in found], same, (first, {**facts, "setfit": DEFAULTS}, "0.4"))
        whole = adapted(method, everything)
        name = "77-way 5-shot, train_5 -> fs_test"
        rows += pair(name, method, [whole[0]], [whole[1]], (second, {**facts, "setfit": CHEAPEST}, "10"))
    return rows


def adapted(method: str, task: Task) -> tuple[float, float]:
    """Seconds of `fit` and accuracy on the query. No text was seen before, the base is loaded."""
    classifier = FewShotClassifier(method)
    seconds, _ = seconds_of(lambda: classifier.fit(task.support.texts, task.support.labels))
    return seconds, float(classifier.score(task.query.texts, task.query.labels))


def pair(
    name: str,
    method: str,
    seconds: list[float],
    accuracy: list[float],
    peer: tuple[dict[str, Any], dict[str, Any], str],
) -> list[Row]:
    """A row of median seconds and one of mean accuracy."""
    theirs, facts, target = peer
    settings = {
        **facts,
        "our_tasks": len(seconds),
        "setfit_tasks": len(theirs["seconds"]),
        "setfit_steps": theirs["steps"],
        "accuracy_over": "the tasks that both sides ran, the same texts",
    }
    return [
        Row(
            f"adapt to {name}: {method} / SetFit",
            statistics.median(seconds),
            statistics.median(theirs["seconds"]),
            "seconds",
            {**settings, "our_seconds": seconds, "setfit_seconds": theirs["seconds"]},
            f"{target} s",
            less_is_better=True,
        ),
        Row(
            f"accuracy after it: {method} / SetFit",
            100 * statistics.mean(accuracy),
            100 * statistics.mean(theirs["accuracy"]),
            "percent",
            settings,
        ),
    ]


def setfit(tasks: list[Task], arguments: dict[str, Any], options: Options) -> dict[str, Any]:
    """What `setfit_process.py` says about the tasks."""
    job = {
        "model": minilm_folder(),
        "threads": options.threads,
        "arguments": arguments,
        "tasks": [asdict(task) for task in tasks],
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("setfit_process.py"))],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"the SetFit process ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    main(compare, __doc__)
