"""Writes docs/cli.md: what `--help` prints for each command. A test compares the two.

.venv/bin/python scripts/write_cli_docs.py
"""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from quickstudy.cli.app import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# Command line

The exit code is 0, or 2 where the input cannot be used or something is not installed, or 1 for other errors, or 130
after Ctrl-C. `--json` prints one JSON object as the last line of the standard output; what goes on is told on the
standard error. What follows is what `--help` prints.
"""


def page() -> str:
    """The whole page."""
    names = sorted(getattr(get_command(app()), "commands", {}))
    parts = [f"## quickstudy\n\n{shown([])}", *(f"## quickstudy {name}\n\n{shown([name])}" for name in names)]
    return "\n".join([HEAD, *parts])


def shown(words: list[str]) -> str:
    """A block with the help of one command, 100 characters wide."""
    plain = {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    done = CliRunner().invoke(app(), [*words, "--help"], env=plain, prog_name="quickstudy")
    text = "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
