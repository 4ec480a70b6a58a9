"""Meta-splits that share no class, no domain or no example, and the check that they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import torch

from quickstudy.core.errors import SplitError
from quickstudy.tasks.table import Table, listed, text_key

SHARED = ("text", "class", "domain", "group")
"""What `check_disjoint` can compare."""


def split_classes(table: Table, fractions: Sequence[float], generator: torch.Generator) -> tuple[Table, ...]:
    """One table for each fraction of the classes; no class is in two.

    A text that is in an earlier part too, under another class, is left out of the later one, which a note tells.

    Raises:
        SplitError: fractions that do not sum to 1, or a part that would get no class.
    """
    return _split_by(table, table.labels, "classes", fractions, generator)


def split_domains(table: Table, fractions: Sequence[float], generator: torch.Generator) -> tuple[Table, ...]:
    """One table for each fraction of the domains; no domain is in two, and no text.

    Raises:
        SplitError: as `split_classes`, or the table has no domain column.
    """
    if not table.domains:
        raise SplitError(f"{table.name}: there is no domain column to split by; name it when reading the table")
    return _split_by(table, table.domains, "domains", fractions, generator)


def split_examples(table: Table, fractions: Sequence[float], generator: torch.Generator) -> tuple[Table, ...]:
    """One table for each fraction of the texts of each class; rows with equal texts stay together.

    Raises:
        SplitError: fractions that do not sum to 1, or a class with fewer texts than there are parts.
    """
    _check_fractions(fractions)
    first: dict[str, str] = {}
    for text, label in zip(table.texts, table.labels, strict=True):
        first.setdefault(text_key(text), label)
    by_class: dict[str, list[str]] = {label: [] for label in table.classes}
    for key, label in first.items():
        by_class[label].append(key)
    part_of: dict[str, int] = {}
    for label, keys in by_class.items():
        counts = _counts(len(keys), fractions, f"{table.name}: the texts of class {label!r}")
        part_of.update(_dealt(keys, counts, generator))
    parts = [part_of[text_key(text)] for text in table.texts]
    return tuple(
        table.rows(row for row, part in enumerate(parts) if part == wanted) for wanted in range(len(fractions))
    )


def check_disjoint(parts: Mapping[str, Table], by: Sequence[str] = ("text",)) -> None:
    """Nothing, where no two of the named tables share a value.

    Args:
        parts: name -> table.
        by: what must not be shared, of `SHARED`. Texts that differ in case and white space only count as equal.

    Raises:
        SplitError: two tables share something; the message names the first few.
        ValueError: `by` holds something else.
    """
    unknown = [kind for kind in by if kind not in SHARED]
    if unknown:
        raise ValueError(f"by holds {listed(unknown)}; expected some of {listed(SHARED)}")
    names = list(parts)
    found = []
    for kind in by:
        values = {name: _values(parts[name], kind) for name in names}
        for one, other in combinations(names, 2):
            shared = [value for value in values[one] if value in values[other]]
            if shared:
                found.append(f"{one!r} and {other!r} share {len(shared)} of kind {kind}: {listed(shared)}")
    if found:
        raise SplitError(f"{'; '.join(found)}: take these out of one of the two")


def _values(table: Table, kind: str) -> dict[str, None]:
    columns = {"class": table.labels, "domain": table.domains, "group": table.groups}
    values = [text_key(text) for text in table.texts] if kind == "text" else columns[kind]
    return dict.fromkeys(values)


def _split_by(
    table: Table, values: Sequence[str], what: str, fractions: Sequence[float], generator: torch.Generator
) -> tuple[Table, ...]:
    _check_fractions(fractions)
    names = sorted(set(values))
    part_of = _dealt(names, _counts(len(names), fractions, f"{table.name}: the {what}"), generator)
    seen: set[str] = set()
    parts = []
    for wanted in range(len(fractions)):
        rows = [row for row, value in enumerate(values) if part_of[value] == wanted]
        fresh = [row for row in rows if text_key(table.texts[row]) not in seen]
        seen |= {text_key(table.texts[row]) for row in fresh}
        part = table.rows(fresh)
        dropped = len(rows) - len(fresh)
        if dropped:
            note = f"{dropped} rows were left out of part {wanted}, for an earlier part has the same texts"
            part = replace(part, notes=(*part.notes, note))
        parts.append(part)
    return tuple(parts)


def _check_fractions(fractions: Sequence[float]) -> None:
    if not fractions or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise SplitError(f"fractions are {tuple(fractions)}; expected numbers above 0 that sum to 1")


def _counts(total: int, fractions: Sequence[float], what: str) -> list[int]:
    """Whole numbers of at least 1 that sum to `total`, as near to the fractions as can be."""
    if total < len(fractions):
        raise SplitError(f"{what} are {total}, too few for {len(fractions)} parts; ask for fewer parts or add some")
    counts = [max(1, int(total * fraction)) for fraction in fractions]
    while sum(counts) != total:
        missing = [total * fraction - count for fraction, count in zip(fractions, counts, strict=True)]
        if sum(counts) < total:
            counts[missing.index(max(missing))] += 1
        else:
            largest = [gap if count > 1 else float("inf") for gap, count in zip(missing, counts, strict=True)]
            counts[largest.index(min(largest))] -= 1
    return counts


def _dealt(names: Sequence[str], counts: Sequence[int], generator: torch.Generator) -> dict[str, int]:
    order = torch.randperm(len(names), generator=generator).tolist()
    parts = [part for part, count in enumerate(counts) for _ in range(count)]
    return {names[place]: part for place, part in zip(order, parts, strict=True)}
