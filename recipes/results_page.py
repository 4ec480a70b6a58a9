"""Renders docs/results.md from docs/results/*.json: one section a file, one line a row.

python -m recipes.results_page
"""

from __future__ import annotations

import json
from pathlib import Path

from quickstudy.core.types import Json

FOLDER = Path("docs/results")
PAGE = Path("docs/results.md")
HEAD = """# Results

Every number here was measured by the command above its table and is rendered from `docs/results/*.json` by
`scripts/write_results`; the settings of each row are in these files. Accuracies are in percent. Intervals (`ci95`) are
1.96 standard errors over tasks; seeds and draws stand apart. `class_names` says whether the names of the classes were
used. What was tried and did not work is in the [log](LOG.md).
"""


def cell(value: Json) -> str:
    """`value` as a table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(cell(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items())
    return "" if value is None else str(value).replace("|", "/")


def section(facts: Json) -> str:
    """One file as Markdown."""
    rows = facts["rows"]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shared = [name for name in ("command", "device") if len({row.get(name, "") for row in rows}) == 1]
    same = {name: rows[0][name] for name in shared if name in rows[0]}
    whole = {name for row in rows for name, value in row.items() if isinstance(value, dict)}
    columns = [name for name in columns if name not in same and name not in whole]
    facts = {**facts, **same}
    about = {name: value for name, value in facts.items() if name not in ("name", "rows", "command")}
    lines = [f"## {facts['name']}", "", f"    {facts['command']}", ""]
    lines += [f"{'; '.join(f'{name}: {cell(value)}' for name, value in about.items())}.", ""]
    lines += [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(cell(row.get(column)) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Writes the page."""
    sections = [section(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]
    PAGE.write_text("\n\n".join([HEAD.strip(), *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
