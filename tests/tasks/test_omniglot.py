"""Omniglot and folders of images: the counts of the release, splits apart, turned classes, and Lake's runs."""

import os

import numpy as np
import pytest
import torch

from quickstudy.core.errors import NotAvailable, TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.omniglot import Omniglot, lake_runs, split_rows
from quickstudy.tasks.omniglot_files import read_drawings

real_data = pytest.mark.skipif(not os.environ.get("QUICKSTUDY_DATA"), reason="QUICKSTUDY_DATA names no data folder")
CHARACTERS = 1300


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A folder with made-up drawings in the form of the real ones: 13 alphabets of 100 characters, 5 drawings each.

    The first pixels spell character and drawing; the rest is noise without symmetry.
    """
    root = tmp_path_factory.mktemp("omniglot")
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (CHARACTERS, 5, 28, 28), dtype=np.uint8)
    images[:, :, 0, 0] = 255
    images[7, 4] = images[7, 1]
    (root / "images").mkdir()
    np.savez(
        root / "images" / "omniglot.npz",
        images=images,
        alphabet=np.array([f"letters{number // 100}" for number in range(CHARACTERS)]),
        character=np.array([f"character{number % 100}" for number in range(CHARACTERS)]),
        is_evaluation=np.arange(CHARACTERS) >= 800,
    )
    return root, torch.from_numpy(images)


@pytest.mark.parametrize(
    "more",
    [{}, {"ways": (2, 6), "shots": (1, 2), "queries": (1, 2)}, {"within_alphabet": True}, {"rotations": False}],
)
def test_the_source_conforms(arrays, more):
    check_source(Omniglot(**{"folder": arrays[0], "queries": 2, **more}))


def test_images_of_a_class_are_drawings_of_its_character_turned_as_its_name_says(arrays):
    root, images = arrays
    source = Omniglot("test", ways=8, shots=2, queries=2, folder=root)
    names = {name: row for row, name in enumerate(read_drawings(root).names)}
    turns = set()
    for seed in range(5):
        episode = source.sample(torch.Generator().manual_seed(seed))
        assert episode.support.inputs.shape == (16, 1, 28, 28)
        for image, target in zip(episode.query.inputs, episode.query.targets, strict=True):
            name, _, turned = episode.labels[target].partition(", turned ")
            turns.add(turned)
            upright = torch.rot90(image[0], -int(turned or 0) // 90)
            known = images[names[name]].float() / 255
            assert (known == upright).flatten(1).all(1).any()
    assert turns == {"", "90", "180", "270"}


def test_splits_share_no_character_and_have_the_usual_sizes(arrays):
    drawings = read_drawings(arrays[0])
    rows = {
        name: set(split_rows(drawings, name)) for name in ("train", "validation", "test", "train+validation", "all")
    }
    assert [len(rows[name]) for name in ("train", "validation", "test")] == [1028, 172, CHARACTERS - 1200]
    assert rows["train"] | rows["validation"] == rows["train+validation"]
    assert rows["train"].isdisjoint(rows["validation"])
    assert rows["train+validation"].isdisjoint(rows["test"])
    assert len(rows["all"]) == CHARACTERS
    assert split_rows(drawings, "background") == list(range(800))
    assert split_rows(drawings, "evaluation") == list(range(800, CHARACTERS))


def test_the_split_spreads_over_all_alphabets(arrays):
    drawings = read_drawings(arrays[0])
    found = [drawings.alphabets[row] for row in split_rows(drawings, "validation")]
    assert min(found.count(name) for name in set(drawings.alphabets)) > 3


def test_an_equal_drawing_is_never_on_both_sides(arrays):
    """Character 7 has four different drawings of five."""
    assert [len(each) for each in read_drawings(arrays[0]).distinct[6:9]] == [5, 4, 5]
    with pytest.raises(TaskError, match="character7' has 4"):
        Omniglot("background", shots=1, queries=4, folder=arrays[0]).sample(torch.Generator())


def test_within_an_alphabet_all_are_of_it_and_turned_alike(arrays):
    source = Omniglot("background", ways=20, queries=1, within_alphabet=True, folder=arrays[0])
    for seed in range(5):
        labels = source.sample(torch.Generator().manual_seed(seed)).labels
        assert len({label.split("/")[0] for label in labels}) == 1
        assert len({label.partition(", ")[2] for label in labels}) == 1


def test_png_files_give_the_same_as_the_arrays(arrays, tmp_path):
    """Files of 28 x 28 pixels, ink black, in the folders of the original."""
    image = pytest.importorskip("PIL.Image")
    for number in range(6):
        part = "images_background" if number < 4 else "images_evaluation"
        folder = tmp_path / part / f"letters{number // 3}" / f"character{number % 3}"
        folder.mkdir(parents=True)
        for place in range(3):
            image.fromarray(255 - arrays[1][number, place].numpy()).save(folder / f"{place}.png")
    read = read_drawings(tmp_path)
    assert torch.equal(read.images, arrays[1][[0, 1, 2, 3, 4, 5], :3])
    assert read.evaluation == (False,) * 4 + (True,) * 2
    assert read.names[3] == "letters1/character0"
    check_source(Omniglot("all", ways=3, queries=1, folder=tmp_path))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"split": "training"}, "split is 'training'"),
        ({"ways": 1}, "ways is 1"),
        ({"split": "test", "ways": 401}, "401 ways were asked for and there are 400"),
        ({"split": "background", "ways": 101, "queries": 2, "within_alphabet": True}, "the largest has 100"),
        ({"shots": 3, "queries": 3}, "3 shots"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arrays, more, words):
    with pytest.raises(TaskError, match=words):
        Omniglot(folder=arrays[0], **more).sample(torch.Generator())


def test_without_the_data_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("QUICKSTUDY_DATA", raising=False)
    with pytest.raises(NotAvailable, match="QUICKSTUDY_DATA"):
        Omniglot().sample(torch.Generator())
    with pytest.raises(NotAvailable, match="no such file"):
        lake_runs(tmp_path)


@real_data
def test_the_release_has_its_counts(data_folder):
    drawings = read_drawings()
    assert drawings.images.shape == (1623, 20, 28, 28)
    assert len(split_rows(drawings, "test")) == 423
    assert (len(split_rows(drawings, "background")), len(split_rows(drawings, "evaluation"))) == (964, 659)
    assert sum(map(len, drawings.distinct)) == 1623 * 20 - 1
    assert float((drawings.images > 127).float().mean()) < 0.2
    check_source(Omniglot())
    check_source(Omniglot("evaluation", ways=20, queries=1, within_alphabet=True))


@real_data
def test_lakes_runs_pair_each_item_with_one_of_its_own_character(data_folder):
    runs = lake_runs()
    assert len(runs) == 20
    assert all(sorted(run.query.targets.tolist()) == list(range(20)) for run in runs)
    assert len({run.task.split(",")[0] for run in runs}) == 10
    near = []
    for run in runs:
        distances = torch.cdist(run.query.inputs.flatten(1), run.support.inputs.flatten(1))
        near.append((distances.argmin(1) == run.query.targets).float().mean())
    assert 0.15 < float(torch.stack(near).mean()) < 0.6
