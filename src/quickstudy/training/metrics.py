"""The figures of each step: in memory, and in `metrics.jsonl` where there is a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeAlias

from quickstudy.core.errors import FileRefused, InputError
from quickstudy.core.files import parse_json

Row: TypeAlias = dict[str, float]
"""Name -> figure; "step" counts updates from 1. No times, so that equal runs have equal rows."""

METRICS = "metrics.jsonl"


class Metrics:
    """The rows of a run, one a step.

    Args:
        folder: where `metrics.jsonl` is; None for memory alone.
        size: bytes of the file that count; what comes after them is of steps that will be made again, and is cut off.

    Raises:
        FileRefused: the file has fewer bytes than `size`, or a row is not JSON.
    """

    def __init__(self, folder: Path | None, size: int = 0) -> None:
        self._path = folder / METRICS if folder else None
        self._rows: list[Row] = []
        self._size = size
        if self._path is None:
            return
        data = self._path.read_bytes()[:size] if self._path.exists() else b""
        if len(data) < size:
            message = f"has {len(data)} bytes, the checkpoint knows of {size}; put the whole file back or start anew"
            raise FileRefused(self._path, "truncated", message)
        self._rows = [parse_json(self._path, line) for line in data.splitlines()]
        if self._path.exists():
            os.truncate(self._path, size)

    def append(self, row: Row) -> None:
        """Adds one row.

        Raises:
            InputError: no space left.
        """
        self._rows.append(row)
        if self._path is None:
            return
        line = f"{json.dumps(row, allow_nan=False)}\n".encode()
        try:
            with self._path.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror}; the last checkpoint holds") from error
        self._size += len(line)

    def rows(self) -> tuple[Row, ...]:
        """All rows since step 1, those from before a resume included."""
        return tuple(self._rows)

    def settled(self) -> int:
        """Bytes of the file, which are on the disk when this returns."""
        if self._path is not None and self._path.exists():
            with self._path.open("ab") as file:
                os.fsync(file.fileno())
        return self._size
