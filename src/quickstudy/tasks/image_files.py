"""Image files read as bytes of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quickstudy.core.errors import NotAvailable, TaskError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm")


def image_paths(folder: Path) -> list[Path]:
    """The image files in `folder`, sorted by name; folders in it are not looked at."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def read_images(paths: Sequence[Path], size: tuple[int, int], channels: int) -> Tensor:
    """[image, channel, height, width] uint8, grey or red, green and blue; resized by averaging over areas.

    Args:
        paths: at least one.
        size: height and width.
        channels: 1 or 3.

    Raises:
        NotAvailable: pillow is not installed.
        TaskError: a file is no image.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise NotAvailable("reading image files needs pillow; install quickstudy[images]") from error
    read = []
    for path in paths:
        try:
            with Image.open(path) as image:
                drawn = image.convert("L" if channels == 1 else "RGB")
                read.append(np.asarray(drawn.resize((size[1], size[0]), Image.Resampling.BOX)))
        except (UnidentifiedImageError, OSError) as error:
            raise TaskError(f"{path}: is no image that can be read ({error}); repair it or take it out") from error
    stacked = torch.from_numpy(np.stack(read))
    return stacked[:, None] if channels == 1 else stacked.permute(0, 3, 1, 2).contiguous()
