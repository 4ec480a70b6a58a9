"""The table of learners: name -> class. Rows are entry points of the group `quickstudy.learners`.

Built-in learners stand in this package's own pyproject.toml and are found by the same code as those of other packages,
which write

    [project.entry-points."quickstudy.learners"]
    my_method = "my_package.my_method:MyMethod"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from quickstudy.core.errors import InputError, NotAvailable
from quickstudy.learners.base import Learner

GROUP = "quickstudy.learners"


def learner_names() -> tuple[str, ...]:
    """All names, sorted; no learner is imported."""
    return tuple(sorted({row.name for row in entry_points(group=GROUP)}))


def learner_class(name: str) -> type[Learner]:
    """The class called `name`.

    Raises:
        InputError: there is no such learner, or two packages give different ones under this name.
        NotAvailable: it cannot be imported, is no Learner, or calls itself something else.
    """
    rows = {row.value: row for row in entry_points(group=GROUP, name=name)}
    if not rows:
        raise InputError(f"there is no learner called {name!r}; give one of {', '.join(learner_names())}")
    if len(rows) > 1:
        raise InputError(f"the name {name!r} means {' and '.join(sorted(rows))}; uninstall one of these packages")
    (row,) = rows.values()
    return _load(row)


def _load(row: EntryPoint) -> type[Learner]:
    try:
        found = row.load()
    except (ImportError, AttributeError) as error:
        raise NotAvailable(f"the learner {row.name!r} is {row.value}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Learner)):
        raise NotAvailable(f"the learner {row.name!r} is {row.value}, which is no subclass of Learner")
    if found.name != row.name:
        raise NotAvailable(f"the learner {row.name!r} is {row.value}, which calls itself {found.name!r}")
    return found
