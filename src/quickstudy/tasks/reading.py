"""Tables from files and objects, checked row by row."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from quickstudy.core.errors import TableError
from quickstudy.tasks.table import Table, closest, enumerated, listed, odd_rows
from quickstudy.tasks.table_files import (
    FIELD_LIMIT,
    Columns,
    dataset_columns,
    file_columns,
    frame_columns,
    pair_columns,
)


def read_table(
    source: Any,
    text_column: str = "text",
    label_column: str = "label",
    domain_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    min_classes: int = 2,
) -> Table:
    """The table in `source`; repeated rows and texts with several labels are kept and told in its `notes`.

    Labels that are whole numbers become strings, and white space around labels is dropped.

    Args:
        source: a path to a .csv, .tsv, .jsonl or .parquet file in UTF-8 (a byte order mark is accepted), a pandas
            DataFrame, a Hugging Face `Dataset`, a list of (text, label) pairs, or a Table, which is returned as it is.
        text_column: the column of texts.
        label_column: the column of labels.
        domain_column: the column of domains; None for `domain` where there is one. Likewise `split` and `group`.
        split_column: the column of splits.
        group_column: the column of groups.
        min_classes: fewer different labels are refused.

    Raises:
        TableError: what is wrong, in which file and on which line or row, and what to do about it.
    """
    if isinstance(source, Table):
        return source
    columns = _columns(source, text_column, label_column)
    texts = _texts(columns, text_column)
    found = _column(columns, label_column)
    names = (columns.class_names or {}).get(label_column, ())
    labels = _converted(columns, label_column, [_named(value, names) for value in found], _label)
    further = {
        "domains": _further(columns, domain_column, "domain"),
        "splits": _further(columns, split_column, "split"),
        "groups": _further(columns, group_column, "group"),
    }
    name = Path(columns.name).stem if columns.lines or columns.name.endswith(".parquet") else columns.name
    table = Table(texts, labels, name=name, **further)
    if len(table.classes) < min_classes:
        raise TableError(
            f"{columns.name}: column {label_column!r} holds {len(table.classes)} class ({listed(table.classes)}); "
            f"expected at least {min_classes}: add rows of another class, or name the column of labels"
        )
    return replace(table, notes=odd_rows(table, columns.where))


def read_texts(source: Any, text_column: str = "text") -> tuple[str, ...]:
    """The texts in `source`, which needs no labels; sources as for `read_table`, and a list of strings.

    Raises:
        TableError: as `read_table`.
    """
    if isinstance(source, Table):
        return source.texts
    if isinstance(source, Sequence) and not isinstance(source, str) and all(isinstance(text, str) for text in source):
        return _texts(Columns("list", {text_column: source}), text_column)
    return _texts(_columns(source, text_column, "label"), text_column)


def _columns(source: Any, text_column: str, label_column: str) -> Columns:
    if isinstance(source, str | os.PathLike):
        return file_columns(Path(source))
    if isinstance(source, pd.DataFrame):
        return frame_columns(source)
    if type(source).__module__.partition(".")[0] == "datasets":
        return dataset_columns(source)
    if isinstance(source, Sequence):
        return pair_columns(source, text_column, label_column)
    raise TableError(
        f"a table cannot be read from {type(source).__name__}; give a path, a DataFrame, a Dataset or a list of pairs"
    )


def _column(columns: Columns, name: str) -> Sequence[Any]:
    if name in columns.values:
        found = columns.values[name]
        if not len(found):
            raise TableError(f"{columns.name}: there are no rows; add some under the columns {listed(_names(columns))}")
        return found
    if not columns.values:
        raise TableError(f"{columns.name}: the table is empty; expected a column {name!r}")
    names = _names(columns)
    raise TableError(
        f"{columns.name}: there is no column {name!r}; there are {listed(names, 20)}{closest(name, names)}; "
        "rename the column, or say which one to use"
    )


def _names(columns: Columns) -> list[str]:
    return list(columns.values)


def _texts(columns: Columns, name: str) -> tuple[str, ...]:
    return _converted(columns, name, _column(columns, name), _text)


def _further(columns: Columns, asked: str | None, usual: str) -> tuple[str, ...]:
    if asked is None and usual not in columns.values:
        return ()
    name = asked or usual
    return _converted(columns, name, _column(columns, name), _label)


def _converted(columns: Columns, name: str, values: Sequence[Any], convert: Callable[[Any], str]) -> tuple[str, ...]:
    converted = []
    empty = []
    for row, value in enumerate(values):
        try:
            converted.append("" if _missing(value) else convert(value))
        except TypeError as error:
            raise TableError(f"{columns.name}: {columns.where(row)}: column {name!r}: {error}") from error
        if not converted[-1].strip():
            empty.append(columns.where(row))
    if empty:
        raise TableError(
            f"{columns.name}: column {name!r} is empty in {len(empty)} of {len(values)} rows: {enumerated(empty)}; "
            "fill or drop these rows"
        )
    return tuple(converted)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is a {type(value).__name__}; expected a text: name the column of texts")
    if len(value) > FIELD_LIMIT:
        raise TypeError(f"the text has {len(value)} characters; expected at most {FIELD_LIMIT}: cut it into pieces")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TypeError(f"character {error.start} is half of a surrogate pair; write the text as UTF-8") from error
    return value


def _label(value: Any) -> str:
    if isinstance(value, str):
        return _text(value).strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(float(value)))
    raise TypeError(f"{value!r} is a {type(value).__name__}; expected a name or a whole number")


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _named(value: Any, names: Sequence[str]) -> Any:
    if not names or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
