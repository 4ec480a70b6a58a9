"""`quickstudy doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs, shown
from quickstudy.cli.settings import use_threads


def doctor(
    base: options.BaseOption = "minilm",
    texts: Annotated[int, typer.Option(min=1, help="Number of short texts that time is estimated for.")] = 100,
    measure: Annotated[bool, typer.Option("--measure", help="Load the base and take the time.")] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what is installed, which base there is, and what it takes to use it. Nothing is downloaded."""
    use_threads(threads)
    from quickstudy.backbones.text_encoder import TextEncoder
    from quickstudy.lifecycle.doctor import doctor as examine

    report = examine(TextEncoder(base), texts, measure)
    if as_json:
        print_json(report)
        return
    packages, found = report.pop("packages"), report.pop("base")
    print_pairs("installed", {name: version or "not installed" for name, version in packages.items()})
    print_pairs("base", {name: value for name, value in found.items() if value != ""})
    seconds = report.pop("seconds")
    how = "measured" if report.pop("measured") else "estimated"
    cost = None if seconds is None else f"{shown(seconds)} s, {how}"
    print_pairs("machine", {**report, "encoding_these_texts": cost})
