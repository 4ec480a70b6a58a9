"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each. Lake, Salakhutdinov, Tenenbaum, 2015."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Batch, Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size, largest
from quickstudy.tasks.image_classes import QUARTERS, ImageClasses, Sizes
from quickstudy.tasks.image_folder import turned_name
from quickstudy.tasks.omniglot_files import Drawings, read_drawings, read_runs

Split: TypeAlias = Literal["train", "validation", "train+validation", "test", "background", "evaluation", "all"]

TRAIN, VALIDATION = 1028, 172
"""Characters; together the usual 1,200. The other 423 are for testing."""

SPLIT_SEED = 0


@dataclass(frozen=True)
class Omniglot(TaskSource):
    """Each episode is of characters drawn from one meta-split, at 28 x 28, ink 1 on 0.

    The papers' split: 1,200 characters drawn from all alphabets for training and 423 for testing, and every character
    turned by 90, 180 and 270 degrees is a class of its own (Santoro et al. 2016, Vinyals et al. 2016). Which characters
    is drawn once, with a fixed seed; 172 of the 1,200 are for validation. One drawing that is in the data twice is left
    out.

    Attributes:
        split: "train" (1,028 characters), "validation" (172), "train+validation" (1,200) or "test" (423); Lake's
            "background" (964, 30 alphabets) or "evaluation" (659, 20 alphabets); "all".
        ways: classes; a range is drawn anew for each episode and padded with weight 0, here as below.
        shots: support examples of each class.
        queries: query examples of each class.
        rotations: whether turned characters are classes too.
        within_alphabet: whether the classes of an episode are of one alphabet, all turned alike.
        folder: where `images/omniglot.npz` is, or the folder of the original PNG files with `images_background` and
            `images_evaluation` in it; None for the folder that QUICKSTUDY_DATA names.

    Raises:
        TaskError: at the first episode: an unknown split, a size without meaning, or more than there is.
        NotAvailable: at the first episode: the data is not here.
    """

    split: Split = "train"
    ways: Size = 5
    shots: Size = 1
    queries: Size = 5
    rotations: bool = True
    within_alphabet: bool = False
    folder: Path | str | None = None

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode: inputs [example, 1, 28, 28] float32; labels such as "Greek/character13, turned 90"."""
        sizes, pool, scopes = self._prepared
        ways, shots, queries = sizes.draw(generator)
        scope = scopes[int(torch.randint(len(scopes), (), generator=generator))]
        if self.within_alphabet:
            chosen = scope[torch.randperm(len(scope), generator=generator)[:ways]]
            turns = torch.randint(self._turns, (), generator=generator).expand(ways)
        else:
            numbers = torch.randperm(len(scope) * self._turns, generator=generator)[:ways]
            chosen, turns = scope[numbers // self._turns], numbers % self._turns
        codes = pool.draw_codes(chosen, turns, shots + queries, generator)
        pairs = zip(chosen.tolist(), turns.tolist(), strict=True)
        labels = tuple(turned_name(pool.names[number], quarters) for number, quarters in pairs)
        return sizes.episode(pool, codes, shots, "Omniglot", labels, generator)

    @property
    def _turns(self) -> int:
        return QUARTERS if self.rotations else 1

    @cached_property
    def _prepared(self) -> tuple[Sizes, ImageClasses, tuple[Tensor, ...]]:
        """Sizes, the images of the split, and the sets of character numbers that episodes are drawn from."""
        drawings = read_drawings(self.folder)
        rows = split_rows(drawings, self.split)
        pool = _pool(drawings, rows)
        sizes = Sizes(self.ways, self.shots, self.queries)
        sizes.check(pool, f"Omniglot, {self.split}", self._turns)
        if not self.within_alphabet:
            return sizes, pool, (torch.arange(len(rows)),)
        alphabets: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            alphabets.setdefault(drawings.alphabets[row], []).append(place)
        scopes = tuple(torch.tensor(each) for each in alphabets.values() if len(each) >= largest(self.ways))
        if not scopes:
            most = max(len(each) for each in alphabets.values())
            raise TaskError(
                f"Omniglot, {self.split}: no alphabet has {largest(self.ways)} characters, the largest has {most}; ask "
                "for fewer ways"
            )
        return sizes, pool, scopes


def split_rows(drawings: Drawings, split: Split) -> list[int]:
    """The numbers of the characters of a split.

    Raises:
        TaskError: an unknown split.
    """
    if split not in get_args(Split):
        raise TaskError(f"split is {split!r}; give one of {', '.join(get_args(Split))}")
    count = len(drawings.names)
    if split in {"background", "evaluation"}:
        return [row for row in range(count) if drawings.evaluation[row] == (split == "evaluation")]
    by_name = sorted(range(count), key=lambda row: drawings.names[row])
    drawn: list[int] = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    order = [by_name[place] for place in drawn]
    ends = {"train": (0, TRAIN), "validation": (TRAIN, TRAIN + VALIDATION), "train+validation": (0, TRAIN + VALIDATION)}
    first, last = ends.get(split, (TRAIN + VALIDATION if split == "test" else 0, count))
    return sorted(order[first:last])


def lake_runs(folder: Path | str | None = None) -> tuple[Episode, ...]:
    """Lake's 20 one-shot runs: 20 characters of one alphabet, one drawing of each by one person to learn from and one
    by another person to name. Inputs [20, 1, 28, 28]; `task` tells the alphabet.

    All drawings are of evaluation characters: train on "background" only.

    Args:
        folder: where `images/omniglot_oneshot_runs.npz` is; None for the folder that QUICKSTUDY_DATA names.

    Raises:
        NotAvailable: the data is not here.
    """
    runs = read_runs(folder)
    ways = runs.answers.shape[1]
    labels = tuple(f"item {number + 1}" for number in range(ways))
    episodes = []
    for number, alphabet in enumerate(runs.alphabets):
        support, query = (images[number].float().div(255) for images in (runs.support, runs.query))
        shown = Batch(support, torch.arange(ways), torch.ones(ways), ways)
        asked = Batch(query, runs.answers[number], torch.ones(ways), ways)
        episodes.append(Episode(shown, asked, f"{alphabet}, run {number + 1}", labels))
    return tuple(episodes)


def _pool(drawings: Drawings, rows: list[int]) -> ImageClasses:
    """Images of the characters `rows`, equal drawings of a character once."""
    kept = [drawings.distinct[row] for row in rows]
    images = torch.cat([drawings.images[row, places] for row, places in zip(rows, kept, strict=True)])
    names = tuple(drawings.names[row] for row in rows)
    return ImageClasses(images[:, None], tuple(len(places) for places in kept), names)
