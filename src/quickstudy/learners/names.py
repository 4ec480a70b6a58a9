"""The table of learners: name -> class. Rows are entry points of the group `quickstudy.learners`.

Built-in learners stand in this package's own pyproject.toml and are found by the same code as those of other packages,
which write

    [project.entry-points."quickstudy.learners"]
    my_method = "my_package.my_method:MyMethod"
"""

from __future__ import annotations

from quickstudy.core.entry_points import load_row, row_names
from quickstudy.core.errors import NotAvailable
from quickstudy.learners.base import Learner

GROUP = "quickstudy.learners"


def learner_names() -> tuple[str, ...]:
    """All names, sorted; no learner is imported."""
    return row_names(GROUP)


def learner_class(name: str) -> type[Learner]:
    """The class called `name`.

    Raises:
        InputError: there is no such learner, or two packages give different ones under this name.
        NotAvailable: it cannot be imported, is no Learner, or calls itself something else.
    """
    found, place = load_row(GROUP, name, "learner")
    if not (isinstance(found, type) and issubclass(found, Learner)):
        raise NotAvailable(f"the learner {name!r} is {place}, which is no subclass of Learner")
    if found.name != name:
        raise NotAvailable(f"the learner {name!r} is {place}, which calls itself {found.name!r}")
    return found
