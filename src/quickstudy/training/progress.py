"""A bar for people: steps, loss, tasks per second and the time left."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft


class ProgressBar:
    """A tracker that draws a bar; silent where `stream` is no terminal.

    Args:
        steps: number of steps at the end.
        tasks_per_step: turns steps into tasks.
        done: steps made before this run began.
        stream: where it draws; None for the standard error.
    """

    def __init__(self, steps: int, tasks_per_step: int, done: int = 0, stream: TextIO | None = None) -> None:
        self._steps = steps
        self._tasks_per_step = tasks_per_step
        self._done = done
        self._console = Console(file=stream or sys.stderr)
        self._bar: Progress | None = None
        self._row = TaskID(0)

    def start(self, description: Mapping[str, str]) -> None:
        """See `Tracker`."""
        if not self._console.is_terminal:
            return
        texts = [TextColumn(f"{{task.fields[{name}]}}") for name in ("loss", "validation", "speed")]
        self._bar = Progress(
            TextColumn(description["learner"].rsplit(".", 1)[-1]),
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            *texts,
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeLeft(),
            console=self._console,
        )
        self._row = self._bar.add_task("", total=self._steps, completed=self._done, loss="", validation="", speed="")
        self._bar.start()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        if self._bar is None:
            return
        words = {"loss": "loss", "validation_loss": "validation"}
        shown = {word: f"{word} {values[name]:.4f}" for name, word in words.items() if name in values}
        speed = self._bar.tasks[self._row].speed
        if speed:
            shown["speed"] = f"{speed * self._tasks_per_step:.1f} tasks/s"
        self._bar.update(self._row, completed=step, **shown)  # type: ignore[arg-type] # fields take anything

    def close(self) -> None:
        """See `Tracker`."""
        if self._bar is not None:
            self._bar.stop()
