"""`quickstudy demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, tell
from quickstudy.cli.settings import use_threads


def demo(
    what: Annotated[str, typer.Argument(help="What to show: sql.", show_default=False)],
    base: Annotated[str, typer.Option("--base", help="Language model that writes SQL.")] = "quickstudy-sql",
    method: options.MethodOption = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples of the dialect.")] = 10,
    queries: Annotated[int, typer.Option(min=1, help="Queries that are asked for.")] = 10,
    shown: Annotated[int, typer.Option(min=0, help="Of these, how many are printed.")] = 3,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Show an adaptation on generated data. sql: a dialect never seen, from ten examples, before and after."""
    if what != "sql":
        raise typer.BadParameter(f"there is no demonstration {what!r}; give sql")
    use_threads(threads)
    tell("starting")
    from quickstudy.lifecycle.sql_demo import sql_demo
    from quickstudy.lifecycle.writer import FewShotWriter

    report = sql_demo(FewShotWriter(base, method or "auto", check=False, seed=seed), seed, examples, queries)
    if as_json:
        print_json(report)
        return
    typer.echo(f"How the dialect differs (the model is told examples only): {report['dialect']}\n")
    for pair in report["examples"][:shown]:
        typer.echo(f"example  {pair['prompt']}\n      -> {pair['completion']}\n")
    for query in report["queries"][:shown]:
        typer.echo(f"asked    {query['prompt']}\nbefore   {query['before']}{_mark(query['right_before'])}")
        typer.echo(f"after    {query['after']}{_mark(query['right_after'])}\n")
    shares = (f"{report[name]:.0%}" for name in ("right_before", "right_after"))
    typer.echo("{} queries: {} right before, {} after".format(len(report["queries"]), *shares))
    typer.echo(f"adapting to {examples} examples took {report['adapt_seconds']:.1f} s")


def _mark(right: bool) -> str:
    return "  (right)" if right else "  (wrong)"
