"""What can be drawn from a table: of equal texts one, of texts with several labels none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.tasks.table import Table, class_text, enumerated, text_key


@dataclass(frozen=True, eq=False)
class Pools:
    """What can be drawn.

    Attributes:
        texts: different texts, then the class names.
        scopes: domain, "" for all -> label -> numbers of its texts.
        names: label -> number of its name among the texts.
    """

    texts: tuple[str, ...]
    scopes: dict[str, dict[str, Tensor]]
    names: dict[str, int]


def make_pools(table: Table, by_domain: bool, class_names: bool) -> Pools:
    """The pools of a table: of equal texts one, texts with several labels none."""
    names = {text_key(class_text(label)) for label in table.classes} if class_names else set()
    labels_of: dict[str, set[str]] = {}
    keys = [text_key(text) for text in table.texts]
    for key, label in zip(keys, table.labels, strict=True):
        labels_of.setdefault(key, set()).add(label)
    numbers: dict[str, int] = {}
    texts: list[str] = []
    found: dict[str, dict[str, dict[int, None]]] = {"": {label: {} for label in table.classes}}
    for row, key in enumerate(keys):
        label = table.labels[row]
        domain = table.domains[row] if by_domain else ""
        scope = found.setdefault(domain, {}).setdefault(label, {})
        if len(labels_of[key]) > 1 or key in names:
            continue
        if key not in numbers:
            numbers[key] = len(texts)
            texts.append(table.texts[row])
        scope[numbers[key]] = None
        found[""][label][numbers[key]] = None
    ordered = {
        domain: {label: torch.tensor(list(found[domain][label]), dtype=torch.long) for label in sorted(found[domain])}
        for domain in sorted(found)
    }
    named = [class_text(label) for label in table.classes] if class_names else []
    places = {label: len(texts) + place for place, label in enumerate(table.classes)} if class_names else {}
    return Pools((*texts, *named), ordered, places)


def large_enough(
    name: str, pools: Mapping[str, Tensor], shots: int, queries: int, skip_small: bool = False
) -> dict[str, Tensor]:
    """The pools with at least `shots + queries` examples.

    Raises:
        TaskError: some have fewer, unless `skip_small`; the message names the classes and the numbers.
    """
    need = shots + queries
    small = {label: len(rows) for label, rows in pools.items() if len(rows) < need}
    if small and not skip_small:
        found = enumerated([f"{label!r} has {count}" for label, count in small.items()])
        raise TaskError(
            f"{name}: an episode takes {shots} shots + {queries} queries = {need} different examples of a class, but "
            f"{found}; add examples, ask for fewer, or leave out classes that are too small"
        )
    return {label: rows for label, rows in pools.items() if label not in small}
