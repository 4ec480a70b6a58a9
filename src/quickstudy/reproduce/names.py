"""The table of reproductions: name -> Reproduction. Rows are entry points of the group `quickstudy.reproductions`."""

from __future__ import annotations

from quickstudy.core.entry_points import load_row, row_names
from quickstudy.core.errors import NotAvailable
from quickstudy.reproduce.base import Reproduction

GROUP = "quickstudy.reproductions"


def reproductions() -> tuple[Reproduction, ...]:
    """All of them, sorted by name."""
    return tuple(reproduction(name) for name in row_names(GROUP))


def reproduction(name: str) -> Reproduction:
    """The one called `name`.

    Raises:
        InputError: there is none, or two packages give different ones under this name.
        NotAvailable: it cannot be imported, is no Reproduction, or calls itself something else.
    """
    found, place = load_row(GROUP, name, "reproduction")
    if not isinstance(found, Reproduction):
        raise NotAvailable(f"the reproduction {name!r} is {place}, which is no Reproduction")
    if found.name != name:
        raise NotAvailable(f"the reproduction {name!r} is {place}, which calls itself {found.name!r}")
    return found
