"""How well tasks of writing are learned: texts are written for the query of each task, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from quickstudy.core.types import Params
from quickstudy.learners.base import Learner
from quickstudy.learners.writing import write
from quickstudy.tasks.text_tasks import EncodedTextTasks, WritingTask

Task = TypeVar("Task", bound=WritingTask)


@dataclass(frozen=True)
class WritingScores:
    """How well a learner did.

    Attributes:
        values: [task], in the order in which the tasks were drawn.
        adapt_seconds: [task].
        write_seconds: [task], for the whole query.
    """

    values: Tensor
    adapt_seconds: Tensor
    write_seconds: Tensor


def evaluate_writing(
    learner: Learner,
    params: Params,
    tasks: EncodedTextTasks,
    drawn: Sequence[Task],
    judge: Callable[[Task, Sequence[str]], float],
    most: int = 256,
) -> WritingScores:
    """Scores on tasks of writing; `params` stay as they are and no graph is kept.

    Args:
        learner: on a network whose backbone is a language model.
        params: its meta-parameters.
        tasks: turns a task into what the learner reads.
        drawn: the tasks.
        judge: the score of a task, of what was written for its query, in its order.
        most: tokens written for each example of the query.
    """
    values, adapting, writing = [], [], []
    for task in drawn:
        support = tasks.episode(task).support
        began = time.perf_counter()
        with torch.no_grad():
            adapter = learner.adapt(params, support)
        adapted = time.perf_counter()
        texts = write(learner, params, adapter, [pair.prompt for pair in task.query], most)
        writing.append(time.perf_counter() - adapted)
        adapting.append(adapted - began)
        values.append(judge(task, texts))
    return WritingScores(torch.tensor(values), torch.tensor(adapting), torch.tensor(writing))
