"""A SQL dialect that nobody has seen: ten examples of it, and what the base writes before and after."""

from __future__ import annotations

import torch

from quickstudy.core.types import Json
from quickstudy.lifecycle.writer import FewShotWriter
from quickstudy.tasks.sql.scores import score_task
from quickstudy.tasks.sql.tasks import TranslationTasks


def sql_demo(writer: FewShotWriter, seed: int = 0, examples: int = 10, asked: int = 10) -> Json:
    """What was drawn, written and counted, as JSON; `writer` is fitted.

    `dialect` says in words how the dialect differs, which the model is not told. `examples` and `queries` hold
    canonical SQL as "prompt" and the dialect's as "completion"; queries also what was written "before" and "after", and
    whether either has the completion's tree. `right_before` and `right_after` are shares.

    Args:
        writer: on a language model that writes SQL.
        seed: decides the dialect, among the invented ones of the test split, and the queries.
        examples: how many to adapt to.
        asked: how many to write.

    Raises:
        QuickstudyError: as `FewShotWriter.fit`.
    """
    source = TranslationTasks("test", examples, asked, invented=1.0)
    task = source.draw(torch.Generator().manual_seed(seed))
    prompts = [pair.prompt for pair in task.query]
    before = writer.before(prompts).tolist()
    writer.fit([pair.prompt for pair in task.support], [pair.completion for pair in task.support])
    after = writer.predict(prompts).tolist()
    scores = [score_task(task, texts, run=False) for texts in (before, after)]
    queries = [
        {
            "prompt": pair.prompt,
            "completion": pair.completion,
            "before": before[number],
            "after": after[number],
            "right_before": scores[0][number].equal_tree,
            "right_after": scores[1][number].equal_tree,
        }
        for number, pair in enumerate(task.query)
    ]
    return {
        "dialect": task.description,
        "examples": [{"prompt": pair.prompt, "completion": pair.completion} for pair in task.support],
        "queries": queries,
        **{
            f"right_{when}": sum(each.equal_tree for each in found) / len(found)
            for when, found in zip(("before", "after"), scores, strict=True)
        },
        "adapt_seconds": writer.info_.values["adapt_seconds"],
    }
