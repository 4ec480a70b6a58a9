"""The files of Omniglot: the arrays of the data folder, or the original PNG files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quickstudy.core.errors import TaskError
from quickstudy.tasks.data_folder import data_file
from quickstudy.tasks.image_files import image_paths, read_images

FILE = "images/omniglot.npz"
RUNS_FILE = "images/omniglot_oneshot_runs.npz"
PARTS = ("images_background", "images_evaluation")
SIDE = 28


@dataclass(frozen=True, eq=False)
class Drawings:
    """All characters.

    Attributes:
        images: [character, drawing, 28, 28] uint8, ink 255 on 0.
        alphabets: of each character.
        names: such as "Greek/character13".
        evaluation: whether the character is of Lake's evaluation set.
    """

    images: Tensor
    alphabets: tuple[str, ...]
    names: tuple[str, ...]
    evaluation: tuple[bool, ...]

    @cached_property
    def distinct(self) -> tuple[list[int], ...]:
        """For each character the numbers of its drawings, of equal ones the first."""
        return tuple(
            sorted({drawing.tobytes(): place for place, drawing in reversed(list(enumerate(each)))}.values())
            for each in self.images.numpy()
        )


@dataclass(frozen=True, eq=False)
class Runs:
    """Lake's one-shot runs.

    Attributes:
        support: [run, item, 1, 28, 28] uint8.
        query: [run, item, 1, 28, 28] uint8.
        answers: [run, item], for each query item the right support item.
        alphabets: of each run.
    """

    support: Tensor
    query: Tensor
    answers: Tensor
    alphabets: tuple[str, ...]


def read_drawings(folder: Path | str | None = None) -> Drawings:
    """The drawings in `folder` or in the folder that QUICKSTUDY_DATA names; read once per process.

    Raises:
        NotAvailable: they are not there, or pillow is missing for PNG files.
        TaskError: the PNG files are not ordered as in the original.
    """
    if folder is not None and (Path(folder) / PARTS[0]).is_dir():
        return _from_pngs(Path(folder).resolve())
    return _from_arrays(data_file(FILE, folder).resolve())


def read_runs(folder: Path | str | None = None) -> Runs:
    """Lake's one-shot runs.

    Raises:
        NotAvailable: they are not there.
    """
    with np.load(data_file(RUNS_FILE, folder), allow_pickle=False) as arrays:
        support, query = (torch.from_numpy(arrays[name])[:, :, None] for name in ("train_images", "test_images"))
        answers = torch.from_numpy(arrays["test_to_train"]).long()
        return Runs(support, query, answers, tuple(str(name) for name in arrays["run_alphabet"]))


@lru_cache(maxsize=2)
def _from_arrays(path: Path) -> Drawings:
    with np.load(path, allow_pickle=False) as arrays:
        alphabets = tuple(str(name) for name in arrays["alphabet"])
        characters = [str(name) for name in arrays["character"]]
        evaluation = tuple(bool(value) for value in arrays["is_evaluation"])
        images = torch.from_numpy(arrays["images"])
    names = tuple(f"{alphabet}/{name}" for alphabet, name in zip(alphabets, characters, strict=True))
    return Drawings(images, alphabets, names, evaluation)


@lru_cache(maxsize=2)
def _from_pngs(root: Path) -> Drawings:
    folders = [
        (part, alphabet, character)
        for part in PARTS
        for alphabet in _folders(root / part)
        for character in _folders(alphabet)
    ]
    if not folders:
        raise TaskError(f"{root}: holds no characters; expected {PARTS[0]}/ALPHABET/CHARACTER/*.png")
    paths = [image_paths(character) for _, _, character in folders]
    uneven = [str(folders[place][2]) for place, each in enumerate(paths) if len(each) != len(paths[0])]
    if uneven:
        raise TaskError(f"{uneven[0]}: has another number of drawings than {folders[0][2]}; expected the same for all")
    images = torch.stack([255 - read_images(each, (SIDE, SIDE), 1)[:, 0] for each in paths])
    alphabets = tuple(alphabet.name for _, alphabet, _ in folders)
    names = tuple(f"{alphabet.name}/{character.name}" for _, alphabet, character in folders)
    return Drawings(images, alphabets, names, tuple(part == PARTS[1] for part, _, _ in folders))


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
