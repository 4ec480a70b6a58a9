"""The error tree. Every error that a user can cause says what came, what was expected and what to do.

QuickstudyError
├── InputError (also ValueError)     the user gave something that cannot be used; the command line exits with 2
│   ├── TableError                   a file of examples: empty, not UTF-8, a column that is not there
│   ├── TaskError                    the examples do not make a task: one class, too few shots, an unknown label
│   ├── SplitError                   meta-splits or support and query overlap
│   └── FileRefused                  a file of weights or facts that must not be loaded; `reason` names why
├── NotAvailable                     a package, model or feature that is not here; says how to get it
├── NotFitted (also AttributeError)  asked for an answer before there is an adapter
├── NoSecondOrder                    the model cannot be differentiated twice
├── Diverged                         a loss became NaN or infinite; `step` and `task` say where
└── Interrupted                      the user stopped the run; `checkpoint` says where it can go on
"""

from __future__ import annotations

from pathlib import Path


class QuickstudyError(Exception):
    """Root of everything that this package raises on purpose."""


class InputError(QuickstudyError, ValueError):
    """The user's input cannot be used."""


class TableError(InputError):
    """A file or table of examples cannot be read as one."""


class TaskError(InputError):
    """The examples do not make a task."""


class SplitError(InputError):
    """Two sets that must not share anything share something."""


class FileRefused(InputError):
    """A file was refused.

    Attributes:
        path: the file.
        reason: a short name of what is wrong, one of `REASONS` in `core.files`.
    """

    def __init__(self, path: Path, reason: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.reason = reason


class NotAvailable(QuickstudyError):
    """A package, a model or a feature is not here."""


class NotFitted(QuickstudyError, AttributeError):
    """There is no adapter yet."""


class NoSecondOrder(QuickstudyError):
    """The model cannot be differentiated twice."""


class Diverged(QuickstudyError):
    """A loss is not a finite number.

    Attributes:
        step: the meta-training step, counted from 0.
        task: the name of the task, as its source gives it.
    """

    def __init__(self, step: int, task: str, value: float) -> None:
        super().__init__(
            f"the loss is {value} at step {step} on task {task!r}: lower the learning rate, clip the gradients, "
            "or look at that task's examples; the last checkpoint is from before this step"
        )
        self.step = step
        self.task = task
        self.value = value


class Interrupted(QuickstudyError):
    """The user stopped the run.

    Attributes:
        step: the step that the run goes on from.
        checkpoint: the folder that `resume` takes, or None where nothing is kept.
    """

    def __init__(self, step: int, checkpoint: Path | None) -> None:
        where = f"resume from {checkpoint}" if checkpoint else "no checkpoint folder was given, so nothing is kept"
        super().__init__(f"stopped at step {step}: {where}")
        self.step = step
        self.checkpoint = checkpoint
