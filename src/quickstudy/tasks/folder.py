"""A folder of task files: each file is one task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Layout, Size, check_size, draw_rows, draw_size, labelled_batch, largest
from quickstudy.tasks.encoded import Encode, EncodedTexts
from quickstudy.tasks.pools import large_enough, make_pools
from quickstudy.tasks.reading import read_table
from quickstudy.tasks.table import Table, enumerated
from quickstudy.tasks.table_files import SUFFIXES


def task_files(folder: Path | str) -> list[Path]:
    """The files of tables in the folder, by name.

    Raises:
        TaskError: there is no such folder, or it has none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise TaskError(f"{root}: there is no such folder; check the name")
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise TaskError(f"{root}: holds no task file; expected files that end in {enumerated(SUFFIXES)}")
    return paths


@dataclass(frozen=True)
class _File:
    """One task: label -> numbers of its texts, and label -> number of its name."""

    name: str
    pools: dict[str, Tensor]
    names: dict[str, int]


@dataclass(frozen=True)
class FolderTasks(TaskSource):
    """Each episode is from one file, drawn uniformly, with all of its classes; examples are drawn anew each time.

    Class numbers are dealt at random. Texts are used as by `TableTasks`.

    Attributes:
        folder: holds .csv, .tsv, .jsonl or .parquet files; others and folders in it are not looked at.
        encode: texts to inputs, such as the `inputs` of a text encoder.
        shots: support examples of each class; a range is drawn anew for each episode and padded with weight 0.
        queries: query examples of each class.
        class_names: whether each class's name joins the support as one more row of its class.
        name_weight: weight of such a row.
        columns: the columns of texts and labels in every file.

    Raises:
        TaskError: at the first episode: the folder has no such file, or a class of a file has too few examples.
        TableError: at the first episode: a file cannot be read.
    """

    folder: Path | str
    encode: Encode
    shots: Size = 5
    queries: Size = 15
    class_names: bool = False
    name_weight: float = 1.0
    columns: tuple[str, str] = ("text", "label")

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode; `task` is the file's name without its ending. Batches are padded to the largest file."""
        files, encoded = self._prepared
        file = files[int(torch.randint(len(files), (), generator=generator))]
        shots, queries = draw_size(self.shots, generator), draw_size(self.queries, generator)
        order = torch.randperm(len(file.pools), generator=generator).tolist()
        labels = [list(file.pools)[place] for place in order]
        rows = [draw_rows(file.pools[label], shots + queries, generator) for label in labels]
        names = [file.names[label] for label in labels] if self.class_names else []
        ways = max(len(other.pools) for other in files)
        wide = Layout(ways, ways * (largest(self.shots) + self.class_names))
        support = labelled_batch(encoded, [part[:shots] for part in rows], wide, generator, names, self.name_weight)
        layout = Layout(ways, ways * largest(self.queries))
        query = labelled_batch(encoded, [part[shots:] for part in rows], layout, generator)
        return Episode(support, query, file.name, tuple(labels))

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """The files' tables, in the order of the files' names."""
        return tuple(read_table(path, *self.columns) for path in task_files(self.folder))

    @cached_property
    def _prepared(self) -> tuple[tuple[_File, ...], EncodedTexts]:
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        files: list[_File] = []
        texts: list[str] = []
        for table in self.tables:
            pools = make_pools(table, False, self.class_names)
            found = large_enough(table.name, pools.scopes[""], largest(self.shots), largest(self.queries))
            shifted = {label: rows + len(texts) for label, rows in found.items()}
            names = {label: number + len(texts) for label, number in pools.names.items()}
            files.append(_File(table.name, shifted, names))
            texts += pools.texts
        return tuple(files), EncodedTexts(self.encode, tuple(texts))
