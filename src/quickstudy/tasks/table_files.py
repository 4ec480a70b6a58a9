"""Files and objects that hold a table, as columns of raw values. Checking what the values mean is `read_table`'s."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from quickstudy.core.errors import TableError
from quickstudy.tasks.table import closest, listed

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
"""The kinds of file that are read."""

FIELD_LIMIT = 131_072
"""Characters: a longer field is refused, for it is nearly always a quotation mark that is never closed."""


@dataclass(frozen=True)
class Columns:
    """A table as it was found.

    Attributes:
        name: the file's path, or what kind of object it was.
        values: column name -> one raw value a row.
        lines: the line of the file on which each row begins, counted from 1; empty where there are no lines.
        class_names: column name -> names of the class numbers in it, where the object knows them.
    """

    name: str
    values: Mapping[str, Sequence[Any]]
    lines: Sequence[int] = ()
    class_names: Mapping[str, Sequence[str]] | None = None

    def where(self, row: int) -> str:
        """`line 4`, or `row 2` counted from 0."""
        return f"line {self.lines[row]}" if self.lines else f"row {row}"


def file_columns(path: Path) -> Columns:
    """The columns of a CSV, TSV, JSONL or Parquet file.

    Raises:
        TableError: no such file, another kind of file, empty, not UTF-8, or damaged; with the line where there is one.
    """
    _check_path(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}; check the file's permissions") from error
    text = _decode(path, data)
    if not text.strip():
        raise TableError(f"{path}: the file is empty; expected a header and rows of text and label")
    return _jsonl(path, text) if suffix == ".jsonl" else _delimited(path, text, "\t" if suffix == ".tsv" else ",")


def frame_columns(frame: pd.DataFrame) -> Columns:
    """The columns of a pandas DataFrame.

    Raises:
        TableError: two columns of one name.
    """
    names = [str(name) for name in frame.columns]
    _check_names("DataFrame", names)
    return Columns("DataFrame", {name: frame.iloc[:, place].tolist() for place, name in enumerate(names)})


def dataset_columns(dataset: Any) -> Columns:
    """The columns of a Hugging Face `Dataset`, with the names of its class numbers.

    Raises:
        TableError: a dictionary of splits or a stream, which is not one table.
    """
    kind = type(dataset).__name__
    if kind != "Dataset":
        splits = f" with {listed(list(dataset))}" if isinstance(dataset, Mapping) else ""
        raise TableError(f"{kind}{splits}: expected one Dataset; take one split of it, such as data['train']")
    names = {name: getattr(feature, "names", None) for name, feature in dataset.features.items()}
    values = {name: list(dataset[name]) for name in dataset.column_names}
    return Columns("Dataset", values, class_names={name: found for name, found in names.items() if found})


def pair_columns(pairs: Sequence[Any], text_column: str, label_column: str) -> Columns:
    """The columns of a list of (text, label) pairs.

    Raises:
        TableError: an entry that is not a pair.
    """
    for row, pair in enumerate(pairs):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise TableError(f"list: row {row} is {_shortened(pair)}; expected a pair (text, label)")
    values = {text_column: [pair[0] for pair in pairs], label_column: [pair[1] for pair in pairs]}
    return Columns("list", values)


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise TableError(f"{path}: is a folder; give one file ({', '.join(SUFFIXES)})")
    if not path.is_file():
        near = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TableError(f"{path}: there is no such file{closest(path.name, near)}; check the name")
    if path.suffix.lower() not in SUFFIXES:
        found = path.suffix or "no ending"
        raise TableError(f"{path}: has {found}; expected one of {', '.join(SUFFIXES)}: rename or convert the file")


def _decode(path: Path, data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise TableError(f"{path}: line 1, byte 0: the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise TableError(
            f"{path}: line {line}: byte {start} is 0x{data[start]:02x}, which is not UTF-8; save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TableError(f"{path}: line {line}: holds a zero byte, so this is not a text file; save it as UTF-8 text")
    return text


def _delimited(path: Path, text: str, delimiter: str) -> Columns:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in reader:
            if row and not names:
                names = [name.strip() for name in row]
                _check_names(str(path), names)
            elif row:
                _check_width(path, begin, row, names)
                rows.append(row)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{path}: line {begin}: {_explained(error)}") from error
    if len(names) == 1 and not any(sign in names[0] for sign in ";\t,|"):
        return Columns(str(path), {names[0]: [row[0] for row in rows]}, lines)
    if len(names) == 1:
        raise TableError(
            f"{path}: line 1: {names[0]!r} is one column; the fields are not separated by "
            f"{'tabs' if delimiter == chr(9) else 'commas'}: save it as comma-separated .csv or tab-separated .tsv"
        )
    return Columns(str(path), {name: [row[place] for row in rows] for place, name in enumerate(names)}, lines)


def _explained(error: csv.Error) -> str:
    if "field larger" in str(error):
        return (
            f"a field has more than {csv.field_size_limit()} characters; look for a quotation mark that is not closed"
        )
    if "unexpected end" in str(error):
        return "a quotation mark opens here and is never closed; close it, or double it if it belongs to the text"
    return f"{error}; put quotation marks around the whole field and double those inside it"


def _check_width(path: Path, line: int, row: list[str], names: list[str]) -> None:
    if len(row) != len(names):
        raise TableError(
            f"{path}: line {line}: {len(row)} fields, but the header has {len(names)} ({listed(names)}); "
            "put quotation marks around texts that hold the separator"
        )


def _jsonl(path: Path, text: str) -> Columns:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            records.append(_record(path, number, line))
            lines.append(number)
    names = list(dict.fromkeys(name for record in records for name in record))
    return Columns(str(path), {name: [record.get(name) for record in records] for name in names}, lines)


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{path}: line {number}: is not JSON ({error}); expected one JSON object a line") from error
    if not isinstance(record, dict):
        raise TableError(
            f"{path}: line {number}: {_shortened(record)} is not an object; expected one JSON object a line"
        )
    return record


def _parquet(path: Path) -> Columns:
    try:
        table = pq.read_table(path)
        _check_names(str(path), table.column_names)
        values = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"{path}: cannot be read as Parquet ({reason}); copy or make the file again") from error
    return Columns(str(path), values)


def _check_names(name: str, columns: Sequence[str]) -> None:
    twice = sorted({column for column in columns if list(columns).count(column) > 1})
    if twice:
        raise TableError(f"{name}: the column {listed(twice)} is there more than once; rename or drop one")


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
