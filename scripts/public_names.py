"""A hook of mkdocs: on the API pages, a line `public names of <package>` becomes an entry for each of its names."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parents[1] / "src"
MARK = re.compile(r"^public names of ([\w.]+)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`markdown` with entries that mkdocstrings fills."""
    return MARK.sub(lambda match: "\n\n".join(f"::: {name}" for name in public_names(match[1])), markdown)


def public_names(package: str) -> list[str]:
    """Full names of what the door of a package lets out by `from x import y as y`, in the order of the lines."""
    door = SOURCES.joinpath(*package.split("."), "__init__.py")
    imports = [
        node for node in ast.walk(ast.parse(door.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    return [f"{node.module}.{alias.name}" for node in imports for alias in node.names if alias.asname == alias.name]
