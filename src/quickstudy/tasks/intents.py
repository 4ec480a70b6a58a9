"""The intent data sets, by name.

BANKING77: Casanueva et al. 2020, arXiv 2003.04807. CLINC150: Larson et al. 2019, D19-1131. SNIPS: Coucke et al. 2018,
arXiv 1805.10190. ATIS: Hemphill et al. 1990. MultiDoGO: Peskov et al. 2019, D19-1460.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from quickstudy.core.errors import InputError
from quickstudy.tasks.data_folder import data_file
from quickstudy.tasks.reading import read_table
from quickstudy.tasks.table import Table, closest, listed, text_key

INTENTS: Mapping[str, str] = MappingProxyType(
    {
        "banking77": "intents/banking77.parquet",
        "clinc150": "intents/clinc150.parquet",
        "snips": "intents/snips.parquet",
        "atis": "intents/atis.parquet",
        "multidogo": "text/multidogo.parquet",
    }
)
"""Name -> file in the data folder."""

SPLIT_ORDER = ("train", "dev", "test")


def read_intents(name: str, folder: Path | str | None = None) -> Table:
    """The data set with its domain and split columns; a set of one domain has its own name as domain.

    Splits of one set may hold the same rows (CLINC150's `train_5` is a part of `train`), so take one with `where`.
    CLINC150's out-of-scope rows have label and domain `oos` and splits of their own. From MultiDoGO the texts with
    several labels are dropped, and from its dev and test the texts that are in an earlier split; `notes` say how many.

    Args:
        name: one of `INTENTS`, in any case.
        folder: where the files are; None for the folder that QUICKSTUDY_DATA names.

    Raises:
        InputError: an unknown name.
        NotAvailable: the file is not here.
    """
    key = name.lower()
    if key not in INTENTS:
        raise InputError(
            f"there is no intent set {name!r}; there are {listed(list(INTENTS))}{closest(key, list(INTENTS))}"
        )
    table = read_table(data_file(INTENTS[key], folder))
    if not table.domains:
        table = replace(table, domains=(key,) * len(table))
    return without_shared(table) if key == "multidogo" else table


def without_shared(table: Table) -> Table:
    """The rows whose text has one label, and is in no earlier split of train, dev and test; a note says what went.

    Texts that differ in case and white space only count as equal, in whatever domain they are.
    """
    keys = [text_key(text) for text in table.texts]
    labels: dict[str, set[str]] = {}
    earliest: dict[str, int] = {}
    order = [SPLIT_ORDER.index(split) for split in table.splits]
    for key, label, place in zip(keys, table.labels, order, strict=True):
        labels.setdefault(key, set()).add(label)
        earliest[key] = min(place, earliest.get(key, place))
    clear = [row for row, key in enumerate(keys) if len(labels[key]) == 1]
    kept = [row for row in clear if order[row] == earliest[keys[row]]]
    note = (
        f"{len(table) - len(clear)} rows whose text has several labels and {len(clear) - len(kept)} rows whose text is "
        "in an earlier split were dropped"
    )
    return replace(table.rows(kept), notes=(note,))
