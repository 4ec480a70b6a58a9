"""What a meta-training run does."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from quickstudy.core.errors import InputError
from quickstudy.core.vectorise import Mode

Schedule: TypeAlias = Literal["constant", "cosine", "linear"]
Precision: TypeAlias = Literal["float32", "bfloat16"]

FREE = ("folder", "workers", "processes", "checkpoint_every", "progress")
"""Fields that may differ when a run is resumed, for they do not change what comes out."""


@dataclass(frozen=True)
class FitOptions:
    """The options of `fit`.

    Attributes:
        steps: number of updates.
        tasks_per_step: tasks whose mean gradient makes one update.
        accumulate: number of equal parts in which these tasks are run one after the other, to need less memory; the
            gradient is the same up to rounding.
        lr: learning rate of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
        weight_decay: share of each parameter that one unit of learning rate takes away.
        betas: decay of the first and second moment.
        schedule: how the learning rate goes on after `warmup`: as it is, or to 0 by half a cosine or a line.
        warmup: steps over which the learning rate rises from 0 by a line.
        clip: largest norm of the gradient of all parameters together; None for no limit.
        mode: how the tasks of a part are run, as in `core.vectorise`. "auto" measures; a resumed run repeats an
            uninterrupted one to the bit only in modes that were chosen before it stopped.
        chunk: tasks at a time in the modes "chunks" and "threads".
        validate_every: steps between two validations; one more follows the last step.
        validation_episodes: how many there are; drawn once, the same each time.
        patience: stop after so many validations in a row without a lower loss; None for never.
        checkpoint_every: steps between two checkpoints; there is one at the start and one at the end as well.
        folder: where checkpoints and metrics go; None keeps nothing.
        seed: decides starting parameters, tasks and whatever `loss` draws.
        precision: "bfloat16" runs `loss` under autocast; parameters and moments stay as they are.
        workers: threads that draw tasks ahead; 0 draws them in between. The tasks are the same for any number.
        processes: whether the workers are processes, which tasks that Python code makes need to be drawn side by side.
            The source must be one that can be pickled, and a script must call `fit` under `if __name__ == "__main__"`.
        progress: show a bar where the standard error is a terminal.
    """

    steps: int = 1000
    tasks_per_step: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule = "constant"
    warmup: int = 0
    clip: float | None = None
    mode: Mode = "auto"
    chunk: int = 8
    validate_every: int = 100
    validation_episodes: int = 100
    patience: int | None = None
    checkpoint_every: int = 100
    folder: Path | str | None = None
    seed: int = 0
    precision: Precision = "float32"
    workers: int = 0
    processes: bool = False
    progress: bool = True


_LOWEST = {
    "steps": 0,
    "tasks_per_step": 1,
    "accumulate": 1,
    "lr": 0,
    "weight_decay": 0,
    "warmup": 0,
    "chunk": 1,
    "validate_every": 1,
    "validation_episodes": 1,
    "patience": 1,
    "checkpoint_every": 1,
    "workers": 0,
}
_CHOICES = {"schedule": get_args(Schedule), "mode": get_args(Mode), "precision": get_args(Precision)}


def check_options(options: FitOptions, validated: bool) -> None:
    """Refuses options that make no run; `validated` says whether there are validation tasks.

    Raises:
        InputError: names the field.
    """
    for field in fields(options):
        value, lowest = getattr(options, field.name), _LOWEST.get(field.name)
        if lowest is not None and value is not None and not lowest <= value < math.inf:
            raise InputError(f"{field.name} is {value!r}; give a finite number from {lowest}")
        if field.name in _CHOICES and value not in _CHOICES[field.name]:
            raise InputError(f"{field.name} is {value!r}; give one of {', '.join(_CHOICES[field.name])}")
    if options.tasks_per_step % options.accumulate:
        shown = f"{options.tasks_per_step} tasks in {options.accumulate} parts"
        raise InputError(f"accumulate must divide tasks_per_step, there are {shown}; change one of them")
    if not all(0 <= beta < 1 for beta in options.betas):
        raise InputError(f"betas are {options.betas}; give two numbers from 0 and below 1")
    if options.clip is not None and not options.clip > 0:
        raise InputError(f"clip is {options.clip}; give None or a number above 0")
    if options.patience is not None and not validated:
        raise InputError("patience needs a validation loss; give validation tasks, or leave patience at None")
