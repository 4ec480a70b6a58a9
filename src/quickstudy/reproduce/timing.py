"""Seconds of training that add up over the pieces of a run that was stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from quickstudy.core.errors import FileRefused
from quickstudy.core.files import read_json, write_json


@dataclass(frozen=True)
class Spent:
    """What training took.

    Attributes:
        wall: seconds.
        processor: seconds of processor time of this process, without what others took.
    """

    wall: float = 0.0
    processor: float = 0.0


@contextmanager
def timed(folder: Path, label: str) -> Iterator[None]:
    """Adds what the inside takes to `spent-LABEL.json` in `folder`, also where it is stopped."""
    wall, processor = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        before = spent(folder, [label])
        now = [before.wall + time.perf_counter() - wall, before.processor + time.process_time() - processor]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"spent-{label}.json", now)


def spent(folder: Path, labels: Iterable[str]) -> Spent:
    """The sum over `labels`; what was never timed took nothing."""
    found = []
    for label in labels:
        try:
            found.append(read_json(folder / f"spent-{label}.json"))
        except (FileNotFoundError, FileRefused):
            continue
    return Spent(sum(each[0] for each in found), sum(each[1] for each in found))
