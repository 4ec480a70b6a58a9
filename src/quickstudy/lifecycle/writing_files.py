"""Files of prompts and completions to an adapter of a language model, and prompts to what is written after them."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quickstudy.core.adapter_files import FACTS
from quickstudy.core.files import read_json
from quickstudy.core.types import Json
from quickstudy.lifecycle.adapting import TableColumns
from quickstudy.lifecycle.writer import FewShotWriter
from quickstudy.lifecycle.writing_folders import is_writer
from quickstudy.lifecycle.writing_methods import language_model_of
from quickstudy.tasks.reading import read_table
from quickstudy.tasks.table import Table

PAIR_COLUMNS = TableColumns("prompt", "completion")
"""Where a file of pairs holds what, unless the user says otherwise."""


@dataclass(frozen=True)
class Written:
    """A prompt, and what was written after it."""

    prompt: str
    completion: str


def read_pairs(file: Path | str, columns: TableColumns = PAIR_COLUMNS, split: str | None = None) -> Table:
    """The rows of `split` in `file`, completions as labels; all rows for None.

    Raises:
        TableError: the file cannot be read, or has no such column or split.
    """
    table = read_table(Path(file), columns.text, columns.label, split_column=columns.split, min_classes=1)
    return table if split is None else table.where(split=split)


def adapt_pairs(table: Table, place: Path, writer: FewShotWriter) -> Json:
    """What was made and measured, as JSON; the adapter is in the folder `place`, whole or not at all.

    Args:
        table: the pairs.
        place: see `adapting.adapter_place`.
        writer: how to adapt; it is fitted.

    Raises:
        QuickstudyError: as `FewShotWriter.fit` and `save`.
    """
    writer.fit(table.texts, table.labels)
    writer.save(place)
    return {
        "name": place.name,
        "folder": str(place),
        "method": writer.method,
        "base": language_model_of(writer.base).fingerprint.name,
        **dict(writer.info_.values),
        "notes": [*table.notes, *writer.info_.notes],
    }


def evaluate_pairs(train: Table, test: Table, writer: FewShotWriter) -> Json:
    """`exact, adapt_seconds, write_seconds, n_train, n_test, method, base`; `exact` is the share of completions of
    `test` that are written as they are.

    Raises:
        QuickstudyError: as `FewShotWriter.fit` and `score`.
    """
    writer.set_params(check=False).fit(train.texts, train.labels)
    began = time.perf_counter()
    exact = writer.score(test.texts, test.labels)
    return {
        "exact": exact,
        "adapt_seconds": writer.info_.values["adapt_seconds"],
        "write_seconds": time.perf_counter() - began,
        "n_train": len(train),
        "n_test": len(test),
        "method": writer.method,
        "base": language_model_of(writer.base).fingerprint.name,
    }


def holds_writer(folder: Path) -> bool:
    """Whether the adapter in `folder` is one of a language model.

    Raises:
        FileRefused: its facts are missing or damaged; its tensors are not read.
    """
    described = read_json(folder / FACTS)
    return isinstance(described, dict) and is_writer(described.get("facts"))


def write_texts(writer: FewShotWriter, prompts: Sequence[str]) -> tuple[tuple[Written, ...], float]:
    """What is written after each prompt, and the seconds that it took.

    Raises:
        InputError: a prompt is empty, no string or too long.
    """
    began = time.perf_counter()
    texts = writer.predict(prompts).tolist()
    seconds = time.perf_counter() - began
    return tuple(Written(prompt, text) for prompt, text in zip(prompts, texts, strict=True)), seconds


def written_csv(written: Sequence[Written]) -> str:
    """As CSV with a header: prompt, completion."""
    stream = io.StringIO(newline="")
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(("prompt", "completion"))
    rows.writerows((each.prompt, each.completion) for each in written)
    return stream.getvalue()
