"""`quickstudy estimate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_pairs, print_rows, tell_notes
from quickstudy.cli.settings import use_threads

PARTS = ("weights", "adapter", "optimiser", "activations", "peak")
TASKS = {"adaptation": "adapting", "full_tuning": "tuning all weights", "serving": "serving"}
HEAP = (
    "peaks are of what is held; glibc keeps much of what is freed, so that activations may take up to twice as much, "
    "unless MALLOC_MMAP_THRESHOLD_=1048576 is in the environment, at some cost of time"
)


def estimate(
    base: Annotated[
        str, typer.Option("--base", help="Language model: a folder, a config.json, or a hub model that is here.")
    ],
    delta: Annotated[str, typer.Option(help="What an adapter is: lora, prompt or prefix.")] = "lora",
    rank: Annotated[int, typer.Option(min=1, help="Rank of LoRA; tokens of a prompt or prefix.")] = 8,
    targets: Annotated[
        str, typer.Option(help="Layers that LoRA stands beside, with commas.", show_default="all linear ones")
    ] = "",
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32 or bfloat16.")] = "float32",
    examples: Annotated[int, typer.Option(min=1, help="Examples of a task.")] = 10,
    context: Annotated[int, typer.Option(min=2, help="Tokens of an example, prompt and completion.")] = 512,
    completion: Annotated[int, typer.Option(min=0, help="Tokens of the completion; 0 for half of the context.")] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Rows computed together; 0 for all examples, as adapt does.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Gradient steps; 0 for as many as adapt makes.")] = 0,
    adapters: Annotated[int, typer.Option(min=1, help="Adapters in memory while serving.")] = 1,
    recompute: options.Recompute = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """Say how much memory and time a language model will take, before it is there. Nothing is loaded or downloaded."""
    use_threads(threads)
    from quickstudy.lifecycle.estimating import Plan
    from quickstudy.lifecycle.estimating import estimate as estimated

    layers = tuple(word.strip() for word in targets.split(",") if word.strip())
    plan = Plan(base, delta, rank, layers, dtype, examples, context, completion, batch, steps, adapters, recompute)
    report = estimated(plan)
    if as_json:
        print_json(report)
        return
    _print(report)


def _print(report: dict[str, Any]) -> None:
    """For people."""
    machine = report["machine"]
    rows = f"{report['batch']} of {report['context']} tokens"
    print_pairs(
        "plan",
        {
            "base": f"{report['base']}, {report['parameters']:,} parameters in {report['dtype']}",
            "adapter": f"{report['delta']} of {report['rank']}, {report['moving_parameters']:,} parameters",
            "beside": report["targets"] or None,
            "its_file": sized(report["adapter_file"]),
            "rows_together": rows,
            "memory_here": None if machine["memory"] is None else sized(machine["memory"]),
            "GPU_memory_here": None if machine["gpu"] is None else sized(machine["gpu"]),
            "libraries_take": sized(report["libraries"]),
        },
    )
    titles = [
        *("adapting", "tuning all weights"),
        f"serving {report['adapters']} {'adapter' if report['adapters'] == 1 else 'adapters'}",
    ]
    found = [report[task] for task in TASKS]
    table = [[part, *(sized(task[part]) for task in found)] for part in PARTS]
    table.append(["fits here", *map(_fit, found)])
    if machine["gpu"] is not None:
        table.append(["fits the GPU", *("yes" if task["fits_gpu"] else "no" for task in found)])
    table.append([f"time of {report['steps']} steps, an estimate", *(_timed(task["seconds"]) for task in found)])
    print_rows(["", *titles], table)
    notes = [HEAP] if machine["allocator"] == "glibc" else []
    if not report["recompute"] and report["adaptation"]["fits"] is False:
        notes.append("adapting takes less memory with --recompute, and with a smaller --batch")
    tell_notes(notes)


def sized(count: int) -> str:
    """Bytes for people."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _fit(task: dict[str, Any]) -> str:
    if task["fits"] is None:
        return "not known"
    if not task["fits"]:
        return "no"
    return "yes" if task["fits_heap"] else "with MALLOC_MMAP_THRESHOLD_ (see the note)"


def _timed(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
