"""SetFit (Tunstall et al., 2022, arXiv 2209.11055) on tasks from the standard input, in a process of its own.

Reads `{"model", "threads", "arguments", "tasks": [{"support": {"texts", "labels"}, "query": ...}]}` and prints, as the
last line, `{"seconds": [...], "accuracy": [...], "steps": [...]}`. Seconds are those of `Trainer.train`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def trained(job: dict[str, Any], task: dict[str, Any], folder: str) -> tuple[float, float, int]:
    """Seconds, accuracy on the query, and steps of the contrastive phase."""
    support, query = task["support"], task["query"]
    labels = sorted(set(support["labels"]))
    model = SetFitModel.from_pretrained(job["model"], labels=labels)
    numbers = [labels.index(label) for label in support["labels"]]
    arguments = TrainingArguments(
        output_dir=folder, report_to="none", save_strategy="no", show_progress_bar=False, **job["arguments"]
    )
    trainer = Trainer(model, arguments, Dataset.from_dict({"text": support["texts"], "label": numbers}))
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    found = [str(label) for label in model.predict(query["texts"])]
    right = sum(one == other for one, other in zip(found, query["labels"], strict=True))
    return seconds, right / len(found), int(trainer.st_trainer.state.global_step)


def main() -> None:
    """The job."""
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    with tempfile.TemporaryDirectory() as folder:
        results = [trained(job, task, folder) for task in job["tasks"]]
    seconds, accuracy, steps = zip(*results, strict=True)
    print(json.dumps({"seconds": seconds, "accuracy": accuracy, "steps": steps}))


if __name__ == "__main__":
    main()
