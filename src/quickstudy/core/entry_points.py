"""Tables of named things, filled by entry points; built-in rows and those of other packages are found alike."""

from __future__ import annotations

from importlib.metadata import entry_points

from quickstudy.core.errors import InputError, NotAvailable


def row_names(group: str) -> tuple[str, ...]:
    """All names in `group`, sorted; nothing is imported."""
    return tuple(sorted({row.name for row in entry_points(group=group)}))


def load_row(group: str, name: str, noun: str) -> tuple[object, str]:
    """What the row `name` of `group` stands for, imported, and where it is ("module:attribute").

    Args:
        group: the group of entry points.
        name: the row.
        noun: what such a thing is called in messages, e.g. "learner".

    Raises:
        InputError: there is no such row, or two packages give different ones under this name.
        NotAvailable: it cannot be imported.
    """
    rows = {row.value: row for row in entry_points(group=group, name=name)}
    if not rows:
        raise InputError(f"there is no {noun} called {name!r}; give one of {', '.join(row_names(group))}")
    if len(rows) > 1:
        raise InputError(f"the name {name!r} means {' and '.join(sorted(rows))}; uninstall one of these packages")
    ((place, row),) = rows.items()
    try:
        return row.load(), place
    except (ImportError, AttributeError) as error:
        raise NotAvailable(f"the {noun} {name!r} is {place}, which cannot be imported: {error}") from error
