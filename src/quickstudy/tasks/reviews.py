"""Amazon review sentiment (ARSC): is a review of at least 2, 4 or 5 stars? One task for each domain and threshold.

Yu et al. 2018, arXiv 1805.07513; reviews from Blitzer et al. 2007. 57 tasks to train on; 12 tasks in 4 other domains to
test on, each with 5 + 5 fixed support reviews.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.data_folder import data_file
from quickstudy.tasks.draws import Layout, check_size, draw_rows, labelled_batch
from quickstudy.tasks.encoded import Encode, EncodedTexts
from quickstudy.tasks.table import listed, text_key

FILE = "reviews/arsc.parquet"
THRESHOLDS = ("t2", "t4", "t5")
LABELS = {
    "t2": ("review of one star", "review of two stars or more"),
    "t4": ("review of three stars or less", "review of four stars or more"),
    "t5": ("review of four stars or less", "review of five stars"),
}
"""Threshold -> names of the classes 0 and 1."""

SUPPORT = "train"
"""The split that support reviews are from."""


@dataclass(frozen=True)
class ReviewTask:
    """One domain and threshold.

    Attributes:
        name: such as `books.t2`.
        labels: names of the classes 0 and 1.
        support: for each class the numbers of the texts that support is drawn from.
        query: the same for the query; no text of the support is among them.
        names: for each class the number of its name.
    """

    name: str
    labels: tuple[str, str]
    support: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]
    names: tuple[int, int]


@dataclass(frozen=True)
class ReviewTasks(TaskSource):
    """Episodes of the sentiment tasks, each task equally often; two ways.

    Train tasks draw support and query of the same number from each class. Test tasks always have their 10 fixed support
    reviews, and queries drawn without regard to their class, which are mostly positive, as published figures count
    them; `whole` gives their complete test sets. Class numbers are dealt at random unless `fixed_order`.

    Attributes:
        encode: texts to inputs, such as the `inputs` of a text encoder.
        role: `"train"` or `"test"` tasks.
        shots: support reviews of each class; 5 for test tasks.
        queries: query reviews of each class; on test tasks twice as many in all.
        query_split: where queries are from; "" for `train` on train tasks and `test` on test tasks. A query never has
            the text of a support review.
        thresholds: which tasks, some of t2, t4 and t5.
        class_names: whether each class's name, such as "review of five stars", joins the support.
        name_weight: weight of such a row.
        fixed_order: whether class 1 is always the one with more stars.
        folder: where the data are; None for the folder that QUICKSTUDY_DATA names.

    Raises:
        NotAvailable: at the first episode, if the data are not here.
        TaskError: at the first episode, if a field has no meaning or a task has too few reviews. Training reviews of
            the domains music and video are absent from the release, so these six tasks are drawn only where another
            split serves.
    """

    encode: Encode
    role: Literal["train", "test"] = "train"
    shots: int = 5
    queries: int = 5
    query_split: str = ""
    thresholds: tuple[str, ...] = THRESHOLDS
    class_names: bool = False
    name_weight: float = 1.0
    fixed_order: bool = False
    folder: Path | str | None = None

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode."""
        tasks, _ = self._prepared
        task = tasks[int(torch.randint(len(tasks), (), generator=generator))]
        if self.role == "test":
            every = torch.cat(task.query)
            drawn = draw_rows(every, 2 * self.queries, generator)
            query = tuple(drawn[torch.isin(drawn, part)] for part in task.query)
            return self._episode(task, task.support, query, generator)
        support = tuple(draw_rows(part, self.shots, generator) for part in task.support)
        chosen = torch.cat(support)
        left = tuple(part[~torch.isin(part, chosen)] for part in task.query)
        return self._episode(task, support, tuple(draw_rows(p, self.queries, generator) for p in left), generator)

    def whole(self) -> tuple[Episode, ...]:
        """One episode for each test task: the fixed support and all reviews of its test set, classes in fixed order.

        Raises:
            TaskError: the role is not `"test"`.
        """
        if self.role != "test":
            raise TaskError("only test tasks have a fixed support; make the source with role='test'")
        return tuple(
            self._numbered(task, task.support, task.query, [0, 1], torch.Generator().manual_seed(0))
            for task in self._prepared[0]
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, such as `books.t2`."""
        return tuple(task.name for task in self._prepared[0])

    def _episode(
        self,
        task: ReviewTask,
        support: tuple[Tensor, ...],
        query: tuple[Tensor, ...],
        generator: torch.Generator,
    ) -> Episode:
        order = [0, 1] if self.fixed_order else torch.randperm(2, generator=generator).tolist()
        return self._numbered(task, support, query, order, generator)

    def _numbered(
        self,
        task: ReviewTask,
        support: tuple[Tensor, ...],
        query: tuple[Tensor, ...],
        order: list[int],
        generator: torch.Generator,
    ) -> Episode:
        encoded = self._prepared[1]
        names = [task.names[side] for side in order] if self.class_names else []
        wide = Layout(2, sum(map(len, support)) + len(names))
        given = labelled_batch(encoded, [support[side] for side in order], wide, generator, names, self.name_weight)
        narrow = Layout(2, sum(map(len, query)))
        asked = labelled_batch(encoded, [query[side] for side in order], narrow, generator)
        return Episode(given, asked, task.name, tuple(task.labels[side] for side in order))

    @cached_property
    def _prepared(self) -> tuple[tuple[ReviewTask, ...], EncodedTexts]:
        self._check()
        frame = pd.read_parquet(data_file(FILE, self.folder))
        frame = frame[(frame["role"] == f"{self.role}_task") & frame["threshold"].isin(self.thresholds)]
        frame = frame.assign(key=[text_key(text) for text in frame["text"]])
        numbers, _ = pd.factorize(frame["key"])
        frame = frame.assign(number=numbers)
        texts = frame.drop_duplicates("number")["text"].tolist()
        extra = [name for threshold in THRESHOLDS for name in LABELS[threshold]]
        places = {name: len(texts) + place for place, name in enumerate(extra)}
        found = [
            _task(
                str(name),
                rows,
                self.query_split or SUPPORT if self.role == "train" else self.query_split or "test",
                places,
            )
            for name, rows in frame.groupby("task")
        ]
        usable = tuple(task for task in found if len(task.support[0]) and len(task.query[0]))
        self._check_counts(usable)
        return usable, EncodedTexts(self.encode, (*texts, *extra), keep=False)

    def _check(self) -> None:
        check_size("shots", self.shots)
        check_size("queries", self.queries)
        if self.role not in ("train", "test"):
            raise TaskError(f"role is {self.role!r}; expected 'train' or 'test'")
        if self.query_split not in ("", "train", "dev", "test") or (self.role, self.query_split) == ("test", "train"):
            raise TaskError(f"query_split is {self.query_split!r}; expected dev or test, or train on train tasks")
        if not self.thresholds or set(self.thresholds) - set(THRESHOLDS):
            raise TaskError(f"thresholds are {listed(self.thresholds)}; expected some of {listed(THRESHOLDS)}")

    def _check_counts(self, tasks: tuple[ReviewTask, ...]) -> None:
        if self.role == "test":
            if self.shots != 5:
                raise TaskError(f"shots is {self.shots}, but test tasks have 5 fixed support reviews of each class")
            return
        shared = self.query_split in ("", SUPPORT)
        for task in tasks:
            for label, support, query in zip(task.labels, task.support, task.query, strict=True):
                if len(support) < self.shots + shared * self.queries or len(query) < self.queries:
                    raise TaskError(
                        f"{task.name}: {label!r} has {len(support)} reviews for {self.shots} shots "
                        f"and {len(query)} for {self.queries} queries; ask for fewer"
                    )


def _task(name: str, rows: pd.DataFrame, query_split: str, places: dict[str, int]) -> ReviewTask:
    """Reviews of equal text count once; those that the support may draw are no queries, unless both are one split."""
    threshold = name.rpartition(".")[2]
    first, second = LABELS[threshold]

    def numbers(split: str, label: int) -> Tensor:
        chosen = rows[(rows["split"] == split) & (rows["label"] == label)]["number"]
        return torch.tensor(chosen.drop_duplicates().tolist(), dtype=torch.long)

    support = (numbers(SUPPORT, 0), numbers(SUPPORT, 1))
    query = support
    if query_split != SUPPORT:
        known = torch.cat(support)
        asked = (numbers(query_split, 0), numbers(query_split, 1))
        query = (asked[0][~torch.isin(asked[0], known)], asked[1][~torch.isin(asked[1], known)])
    return ReviewTask(name, (first, second), support, query, (places[first], places[second]))
