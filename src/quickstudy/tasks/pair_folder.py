"""A folder of files of prompts and completions: each file is one task of writing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from quickstudy.core.errors import TaskError
from quickstudy.tasks.draws import Size, check_size, draw_size, largest
from quickstudy.tasks.folder import task_files
from quickstudy.tasks.reading import read_table
from quickstudy.tasks.table import Table, class_text, text_key
from quickstudy.tasks.text_tasks import Pair, TextTask, TextTaskSource


@dataclass(frozen=True)
class PairFolder(TextTaskSource):
    """Each task is from one file, drawn uniformly; its pairs are drawn anew each time, no prompt twice.

    The file's name, underscores as spaces, is the task's description.

    Attributes:
        folder: holds .csv, .tsv, .jsonl or .parquet files; others and folders in it are not looked at.
        shots: support pairs; a range is drawn anew for each task, here as below.
        queries: query pairs.
        columns: the columns of prompts and completions in every file.

    Raises:
        TaskError: at the first task: the folder has no such file, or a file has too few different prompts.
        TableError: at the first task: a file cannot be read.
    """

    folder: Path | str
    shots: Size = 10
    queries: Size = 10
    columns: tuple[str, str] = ("prompt", "completion")

    def draw(self, generator: torch.Generator) -> TextTask:
        """One task."""
        tables = self.tables
        table = tables[int(torch.randint(len(tables), (), generator=generator))]
        shots, queries = draw_size(self.shots, generator), draw_size(self.queries, generator)
        rows = torch.randperm(len(table), generator=generator)[: shots + queries].tolist()
        pairs = tuple(Pair(table.texts[row], table.labels[row]) for row in rows)
        return TextTask(table.name, class_text(table.name), pairs[:shots], pairs[shots:])

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The files' tables, in the order of the files' names, each prompt once."""
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        needed = largest(self.shots) + largest(self.queries)
        found = []
        for path in task_files(self.folder):
            table = read_table(path, *self.columns, min_classes=1)
            first = {text_key(text): row for row, text in reversed(list(enumerate(table.texts)))}
            if len(first) < needed:
                raise TaskError(
                    f"{path}: has {len(first)} different prompts, and a task takes {needed} (shots and queries "
                    "together); add rows, ask for less, or take the file out"
                )
            found.append(table.rows(sorted(first.values())))
        return tuple(found)
