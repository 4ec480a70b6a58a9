"""`quickstudy info`."""

from __future__ import annotations

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs


def info(adapter: options.AdapterArgument, as_json: options.AsJson = False) -> None:
    """Say what an adapter is: its labels, its base and the figures measured when it was made."""
    from quickstudy.lifecycle.adapting import find_adapter
    from quickstudy.lifecycle.describing import describe_adapter

    report = describe_adapter(find_adapter(adapter))
    if as_json:
        print_json(report)
        return
    metrics = report.pop("metrics")
    print_pairs(f"adapter {report.pop('name')}", {**report, **metrics})
