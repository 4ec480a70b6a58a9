"""`quickstudy export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, tell, tell_notes


def export(
    adapter: options.AdapterArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder, or for gguf file, to write.", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="peft, gguf (llama.cpp) or mlx (mlx-lm).")] = "peft",
    base: Annotated[str | None, typer.Option("--base", help="Where the base lies now, if it was moved.")] = None,
    cap: Annotated[int, typer.Option("--max-lora-rank", help="What vLLM will be started with.")] = 16,
    as_json: options.AsJson = False,
) -> None:
    """Write an adapter's LoRA matrices for other programs, and say what vLLM would refuse of them."""
    from quickstudy.lifecycle.adapting import find_adapter
    from quickstudy.lifecycle.exporting import export_adapter

    report = export_adapter(find_adapter(adapter), form, out, base, cap)
    tell_notes([f"vLLM: {problem}" for problem in report.get("vllm", ())])
    if as_json:
        print_json(report)
    else:
        tell(f"{form} written to {out}")
