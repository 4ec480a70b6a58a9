"""A file of examples to an adapter folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from quickstudy.core.adapter_files import FACTS
from quickstudy.core.errors import InputError
from quickstudy.core.types import Json
from quickstudy.lifecycle.classifier import FewShotClassifier
from quickstudy.lifecycle.methods import encoder_of
from quickstudy.tasks.reading import read_table
from quickstudy.tasks.table import Table, closest

ADAPTERS = "adapters"
"""The folder that adapters lie in unless another is named."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class TableColumns:
    """Where a file holds what.

    Attributes:
        text: the column of texts.
        label: the column of labels.
        split: the column of splits; None for `split` where there is one.
    """

    text: str = "text"
    label: str = "label"
    split: str | None = None


def read_split(file: Path | str, columns: TableColumns, split: str | None, domain_column: str | None = None) -> Table:
    """The rows of `split` in `file`; all rows for None.

    Raises:
        TableError: the file cannot be read, or has no such column or split.
    """
    table = read_table(Path(file), columns.text, columns.label, domain_column, columns.split)
    return table if split is None else table.where(split=split)


def adapter_place(name: str, out: Path | str = ADAPTERS, force: bool = False) -> Path:
    """The folder of the adapter called `name` in `out`.

    Raises:
        InputError: the name is no plain one, or there is something in this place and `force` is not set, or something
            that is no adapter.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"the name {name!r} cannot be a folder; give letters, digits, '.', '_' and '-', at most 100")
    place = Path(out) / name
    if not place.exists():
        return place
    if not (place / FACTS).is_file():
        raise InputError(f"{place}: is there already and is no adapter; give another name or folder")
    if not force:
        raise InputError(f"{place}: there is an adapter of this name; give another name, or --force to replace it")
    return place


def find_adapter(adapter: str) -> Path:
    """The folder of an adapter: `adapter` itself, or the one of this name in the folder `adapters`.

    Raises:
        InputError: there is neither.
    """
    for place in (Path(adapter), Path(ADAPTERS) / adapter):
        if (place / FACTS).is_file():
            return place
    parent = Path(adapter).parent if Path(adapter).parent.name else Path(ADAPTERS)
    near = [entry.name for entry in parent.iterdir() if (entry / FACTS).is_file()] if parent.is_dir() else []
    raise InputError(
        f"{adapter}: there is no adapter here and none of this name in {ADAPTERS}{closest(Path(adapter).name, near)}; "
        "make one with `quickstudy adapt`"
    )


def adapt_file(table: Table, place: Path, classifier: FewShotClassifier) -> Json:
    """What was made and measured, as JSON; the adapter is in the folder `place`, whole or not at all.

    Args:
        table: the examples.
        place: see `adapter_place`.
        classifier: how to adapt; it is fitted.

    Raises:
        QuickstudyError: as `FewShotClassifier.fit` and `save`.
    """
    classifier.fit(table.texts, table.labels)
    classifier.save(place)
    adapter = classifier.adapter_
    return {
        "name": place.name,
        "folder": str(place),
        "method": classifier.method,
        "base": encoder_of(classifier.base).fingerprint.name,
        "class_names": adapter.facts["class_names"],
        **dict(classifier.info_.values),
        "labels": list(adapter.labels),
        "notes": [*table.notes, *classifier.info_.notes],
    }
