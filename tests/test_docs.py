"""README and documentation: their blocks run, their links lead somewhere, their lists are complete.

In a page all `python` blocks run one after the other with shared names. In a `console` block each line that begins with
`$ ` is a command. Comments before a block change this: `<!-- not run: reason -->`, `<!-- exit code: 2 -->`,
and `<!-- compare -->` for a block whose shown output must come out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from quickstudy.core import errors
from quickstudy.core.files import REASONS

ROOT = Path(__file__).parents[1]
NOT_RUN = ("cli.md", "LOG.md", "results")
"""Beginnings of names in docs/ of what scripts write and of what was measured once."""

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if not str(p.relative_to(ROOT / "docs")).startswith(NOT_RUN)),
]
BLOCK = re.compile(r"(?P<marks>(?:^<!--[^\n]*-->\n)*)^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Block:
    """One fenced block, and what the comments before it say."""

    kind: str
    code: str
    marks: str

    @property
    def skipped(self) -> str:
        """The reason why it is not run, or an empty string."""
        found = re.search(r"<!-- not run: (.+?) -->", self.marks)
        return found[1] if found else ""

    @property
    def exit_code(self) -> int:
        """What every command of the block is to return."""
        found = re.search(r"<!-- exit code: (\d+) -->", self.marks)
        return int(found[1]) if found else 0

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Pairs of command and the lines shown under it."""
        pairs: list[tuple[str, list[str]]] = []
        for line in self.code.splitlines():
            if line.startswith("$ "):
                pairs.append((line[2:], []))
            elif pairs:
                pairs[-1][1].append(line)
        return pairs


def blocks_of(page: Path) -> list[Block]:
    """The python and console blocks of a page, in their order."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(m["kind"], m["code"], m["marks"]) for m in found if m["kind"] in {"python", "console"}]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the examples in it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = ModuleType("example")
    monkeypatch.setitem(sys.modules, "example", example)
    for number, block in enumerate(blocks_of(page), 1):
        if block.skipped:
            continue
        if block.kind == "python":
            code = compile(block.code, f"{page.name}, block {number}", "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, vars(example))
            continue
        for command, shown in block.commands:
            found, output = run_command(command)
            assert found == block.exit_code, f"{command}: exit code {found}\n{output}"
            if "<!-- compare -->" in block.marks:
                missing = [line for line in shown if line.strip() not in output]
                assert not missing, f"{command}: does not print {missing}; it prints\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    targets = [match["target"] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
    broken = [t for t in targets if not re.match(r"\w+:", t) and not (page.parent / t).exists()]
    assert not broken


def test_pages_have_blocks_that_run() -> None:
    run = [block for page in PAGES for block in blocks_of(page) if not block.skipped]
    assert {block.kind for block in run} == {"python", "console"}


def test_blocks_are_read_as_written() -> None:
    text = (
        "<!-- not run: slow -->\n```python\nx\n```\n\n"
        "<!-- exit code: 2 -->\n```console\n$ a b\nout\n$ c\n```\n```text\n```\n"
    )
    found = [Block(m["kind"], m["code"], m["marks"]) for m in BLOCK.finditer(text)]
    assert [block.kind for block in found] == ["python", "console", "text"]
    assert (found[0].skipped, found[1].skipped, found[1].exit_code) == ("slow", "", 2)
    assert found[1].commands == [("a b", ["out"]), ("c", [])]


def test_errors_page_names_every_error() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    names = [
        name for name, found in vars(errors).items() if inspect.isclass(found) and found.__module__ == errors.__name__
    ]
    assert names
    assert [name for name in names if name not in page] == []


def test_files_page_names_every_reason() -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f"`{reason}`" not in page] == []


def test_command_line_page_is_what_help_prints() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == script("write_cli_docs").page(), "run .venv/bin/python scripts/write_cli_docs.py"


def run_command(command: str) -> tuple[int, str]:
    """Exit code and output of `quickstudy ...`, run in this process to spare the imports."""
    words = shlex.split(command)
    assert words[0] == "quickstudy", f"{command}: only quickstudy is run here; mark the block as not run"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        found = importlib.import_module("quickstudy.cli.app").main(words[1:])
    return found, output.getvalue()


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
