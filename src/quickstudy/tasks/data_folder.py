"""Where the real data sets lie."""

from __future__ import annotations

import os
from pathlib import Path

from quickstudy.core.errors import NotAvailable

VARIABLE = "QUICKSTUDY_DATA"
"""The environment variable that names the folder."""


def data_file(relative: str, folder: Path | str | None = None) -> Path:
    """The path of a data file in `folder`, or in the folder that QUICKSTUDY_DATA names.

    Raises:
        NotAvailable: no folder is given or named, or the file is not in it.
    """
    root = folder or os.environ.get(VARIABLE)
    if not root:
        raise NotAvailable(
            f"{relative} is not part of this package: put it into a folder, and name that folder in the environment "
            f"variable {VARIABLE} or as an argument"
        )
    path = Path(root) / relative
    if not path.is_file():
        raise NotAvailable(f"{path}: there is no such file; check {VARIABLE}, or put the data set there")
    return path
