"""A folder of class folders of images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from quickstudy.core.errors import TaskError
from quickstudy.core.types import Episode
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.draws import Size
from quickstudy.tasks.image_classes import QUARTERS, ImageClasses, Sizes
from quickstudy.tasks.image_files import image_paths, read_images
from quickstudy.tasks.table import listed


@dataclass(frozen=True)
class ImageFolder(TaskSource):
    """Each episode is of classes drawn from a folder; every folder in it is a class and holds its images.

    Images are read once, at the first episode, and kept as bytes. Of equal images of a class one is kept.

    Attributes:
        folder: holds a folder for each class; files beside them are not looked at.
        classes: names of the folders to draw from, such as those of one meta-split; empty for all.
        size: height and width that images are resized to.
        channels: 1 for grey, 3 for colours.
        ways: classes; a range is drawn anew for each episode and padded with weight 0, here as below.
        shots: support examples of each class.
        queries: query examples of each class.
        rotations: images turned by 90, 180 and 270 degrees are classes of their own; for square images.

    Raises:
        TaskError: at the first episode: there is no such folder or class, a class has too few images, or a file cannot
            be read.
        NotAvailable: at the first episode: pillow is not installed.
    """

    folder: Path | str
    classes: tuple[str, ...] = ()
    size: tuple[int, int] = (28, 28)
    channels: int = 1
    ways: Size = 5
    shots: Size = 1
    queries: Size = 15
    rotations: bool = False

    def sample(self, generator: torch.Generator) -> Episode:
        """One episode: inputs [example, channel, height, width] float32 from 0 to 1; labels are names of folders."""
        sizes, pool = self._sizes, self.images
        ways, shots, queries = sizes.draw(generator)
        turns = QUARTERS if self.rotations else 1
        chosen = torch.randperm(len(pool.names) * turns, generator=generator)[:ways]
        codes = pool.draw_codes(chosen // turns, chosen % turns, shots + queries, generator)
        labels = tuple(turned_name(pool.names[number // turns], number % turns) for number in chosen.tolist())
        return sizes.episode(pool, codes, shots, Path(self.folder).name, labels, generator)

    @cached_property
    def images(self) -> ImageClasses:
        """All images of the classes."""
        if self.channels not in {1, 3} or min(self.size) < 1 or (self.rotations and self.size[0] != self.size[1]):
            raise TaskError(
                f"channels {self.channels}, size {self.size}, rotations {self.rotations}: give 1 or 3 channels, sides "
                "of 1 or more, and equal ones with rotations"
            )
        root = Path(self.folder)
        if not root.is_dir():
            raise TaskError(f"{root}: there is no such folder; check the name")
        found = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
        missing = [name for name in self.classes if name not in found]
        if missing:
            raise TaskError(f"{root}: holds no folder {listed(missing)}; there are {listed(list(found))}")
        return self._read([found[name] for name in self.classes or found])

    def _read(self, folders: list[Path]) -> ImageClasses:
        parts = []
        for folder in folders:
            paths = image_paths(folder)
            if not paths:
                raise TaskError(f"{folder}: holds no image; add some, or name the other folders in `classes`")
            parts.append(torch.unique(read_images(paths, self.size, self.channels), dim=0))
        if not parts:
            raise TaskError(f"{self.folder}: holds no class folder; expected a folder of images for each class")
        counts = tuple(len(part) for part in parts)
        return ImageClasses(torch.cat(parts), counts, tuple(folder.name for folder in folders))

    @cached_property
    def _sizes(self) -> Sizes:
        sizes = Sizes(self.ways, self.shots, self.queries)
        sizes.check(self.images, str(self.folder), QUARTERS if self.rotations else 1)
        return sizes


def turned_name(name: str, quarters: int) -> str:
    """The name of a class whose images are turned by so many times 90 degrees."""
    return f"{name}, turned {90 * quarters}" if quarters else name
