"""Labelled texts: the table that episodes, adapters and figures come from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from quickstudy.core.errors import TableError

SHOWN = 5
"""How many rows or names a message lists."""


@dataclass(frozen=True)
class Table:
    """Rows of text and label, in their order.

    Attributes:
        texts: one a row.
        labels: the class of each row.
        domains: the domain of each row; empty where there is no such column.
        splits: the split of each row, such as "train"; empty where there is no such column.
        groups: the group of each row, such as the conversation it is from; empty where there is no such column.
        name: what messages call the table.
        notes: sentences for the user on what is odd but usable, such as repeated rows.

    Raises:
        TableError: columns of different lengths.
    """

    texts: tuple[str, ...] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    domains: tuple[str, ...] = field(default=(), repr=False)
    splits: tuple[str, ...] = field(default=(), repr=False)
    groups: tuple[str, ...] = field(default=(), repr=False)
    name: str = "table"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column in ("labels", "domains", "splits", "groups"):
            values = getattr(self, column)
            if len(values) != len(self.texts) and (values or column == "labels"):
                raise TableError(
                    f"{self.name}: {len(self.texts)} texts but {len(values)} {column}; give one for each text"
                )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.texts)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The different labels, sorted."""
        return tuple(sorted(set(self.labels)))

    def rows(self, numbers: Iterable[int]) -> Table:
        """A table of the rows with these numbers, counted from 0, in this order."""
        chosen = list(numbers)

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[number] for number in chosen) if values else ()

        return replace(
            self,
            texts=pick(self.texts),
            labels=pick(self.labels),
            domains=pick(self.domains),
            splits=pick(self.splits),
            groups=pick(self.groups),
        )

    def where(self, split: str | None = None, domain: str | None = None, group: str | None = None) -> Table:
        """The rows of this split, domain and group; None takes all.

        Raises:
            TableError: the table has no such column, or the column no such value; the message lists what there is.
        """
        numbers: Sequence[int] = range(len(self))
        wanted = (("split", self.splits, split), ("domain", self.domains, domain), ("group", self.groups, group))
        for column, values, value in wanted:
            if value is None:
                continue
            self._check_value(column, values, value)
            numbers = [number for number in numbers if values[number] == value]
        if not numbers:
            raise TableError(f"{self.name}: no row has split={split!r}, domain={domain!r} and group={group!r} together")
        return self.rows(numbers)

    def _check_value(self, column: str, values: tuple[str, ...], value: str) -> None:
        if not values:
            raise TableError(f"{self.name}: {column} {value!r} was asked for, but the table has no {column} column")
        if value not in values:
            known = list(dict.fromkeys(values))
            raise TableError(
                f"{self.name}: there is no {column} {value!r}; there are {listed(known, 20)}{closest(value, known)}"
            )


def text_key(text: str) -> str:
    """The same string for texts that differ in case and white space only."""
    return " ".join(text.casefold().split())


def class_text(label: str) -> str:
    """A class name as a text: underscores become spaces."""
    return " ".join(label.replace("_", " ").split())


def listed(names: Sequence[object], most: int = SHOWN) -> str:
    """The first few names, strings in quotes, and how many more there are."""
    return enumerated([repr(name) for name in names], most)


def enumerated(parts: Sequence[str], most: int = SHOWN) -> str:
    """The first few parts with commas between them, and how many more there are."""
    shown = ", ".join(parts[:most])
    return shown if len(parts) <= most else f"{shown} and {len(parts) - most} more"


def closest(name: str, known: Sequence[str]) -> str:
    """`; did you mean ...?` with the known name most like `name`, or an empty string."""
    by_key = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), list(by_key), n=1, cutoff=0.5)
    return f"; did you mean {by_key[near[0]]!r}?" if near else ""


def odd_rows(table: Table, where: Callable[[int], str]) -> tuple[str, ...]:
    """Notes on repeated rows and on texts with several labels; `where(row)` says where a row stands."""
    rows: dict[str, list[int]] = {}
    for number, text in enumerate(table.texts):
        rows.setdefault(text_key(text), []).append(number)
    repeats, contradictions = [], []
    for numbers in rows.values():
        if len(numbers) > 1:
            full = [
                (table.labels[n], *(c[n] for c in (table.domains, table.splits, table.groups) if c)) for n in numbers
            ]
            repeats += [n for place, n in enumerate(numbers) if full[place] in full[:place]]
            if len({table.labels[n] for n in numbers}) > 1:
                contradictions.append(numbers)
    notes = []
    if repeats:
        places = enumerated([where(n) for n in sorted(repeats)])
        notes.append(f"{len(repeats)} rows repeat an earlier row and were kept: {places}")
    if contradictions:
        shown = [f"{table.texts[n[0]]!r} as {listed(sorted({table.labels[m] for m in n}))}" for n in contradictions]
        notes.append(
            f"{len(contradictions)} texts have more than one label: {enumerated(shown, 3)}; correct or drop them"
        )
    return tuple(notes)
