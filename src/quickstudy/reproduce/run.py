"""Runs a reproduction and writes what it measured."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from quickstudy.core.errors import InputError
from quickstudy.core.files import write_json
from quickstudy.core.types import Json
from quickstudy.reproduce.base import Reproduction, Row, Work


@dataclass(frozen=True)
class RunOptions:
    """How `run_reproduction` goes about it.

    Attributes:
        quick: the small version.
        seeds: number of training runs.
        device: "cpu", or a CUDA device.
        out: folder of the result, NAME.json, and of its pictures.
        runs: folder in which a run keeps checkpoints and finished pieces, in NAME or NAME-quick.
        again: forget what a former run has kept.
        progress: show bars.
    """

    quick: bool = False
    seeds: int = 1
    device: str = "cpu"
    out: Path = Path("docs/results")
    runs: Path = Path("runs/reproduce")
    again: bool = False
    progress: bool = True


def run_reproduction(found: Reproduction, options: RunOptions, tell: Callable[[str], None]) -> Json:
    """The result, which is also written to `options.out`; a run that was stopped goes on where it was.

    The result has `name`, `about` and `rows`, each with `name, metric, published, published_source, mean, ci95, tasks,
    seeds, seconds, device, command` and whatever facts it has beside them.

    Raises:
        InputError: fewer than one seed, or no such device; and what the reproduction itself raises.
        Interrupted: Ctrl-C was pressed during training.
    """
    if options.seeds < 1:
        raise InputError(f"seeds is {options.seeds}; give 1 or more")
    device = device_text(options.device)
    kept = options.runs / (f"{found.name}-quick" if options.quick else found.name)
    if options.again:
        shutil.rmtree(kept, ignore_errors=True)
    work = Work(kept, options.out / found.name, options.quick, options.seeds, options.device, options.progress, tell)
    rows = found.run(work)
    flags = [
        *(["--quick"] if options.quick else []),
        *([f"--seeds {options.seeds}"] if options.seeds > 1 else []),
        *([f"--device {options.device}"] if options.device != "cpu" else []),
    ]
    command = " ".join(["quickstudy reproduce", found.name, *flags])
    result = {"name": found.name, "about": found.about, "rows": [_entry(row, device, command) for row in rows]}
    write_json(options.out / f"{found.name}.json", result)
    return result


def device_text(device: str) -> str:
    """A device in words, for tables.

    Raises:
        InputError: this machine has no such device.
    """
    try:
        kind = torch.device(device).type
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {device!r} cannot be used here ({error}); give cpu") from error
    if kind == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _entry(row: Row, device: str, command: str) -> Json:
    entry = asdict(row)
    facts = entry.pop("facts")
    entry["seeds"] = list(entry["seeds"])
    return {**entry, "device": device, "command": command, **facts}
