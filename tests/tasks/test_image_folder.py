"""Folders of images: they conform, and what cannot be used is named."""

import pytest
import torch

from quickstudy.core.errors import NotAvailable, TaskError
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.image_folder import ImageFolder

image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    """Classes of 5, 5, 5 and 8 images, 12 x 10 pixels, each of one colour; red tells the class, green the image."""
    for number in range(4):
        home = tmp_path / f"kind{number}"
        home.mkdir()
        for place in range(8 if number == 3 else 5):
            image.new("RGB", (10, 12), (50 * number, 30 * place, 10)).save(home / f"{place}.png")
    (tmp_path / "notes.txt").write_text("not looked at")
    return tmp_path


def test_the_source_conforms(folder):
    check_source(ImageFolder(folder, size=(8, 8), channels=3, ways=3, queries=3))
    check_source(ImageFolder(folder, size=(6, 9), channels=3, ways=(2, 4), shots=(1, 2), queries=(1, 2)))


def test_images_belong_to_the_folder_that_the_label_names(folder):
    source = ImageFolder(folder, ("kind1", "kind3"), (8, 8), channels=3, ways=2, queries=4)
    for seed in range(4):
        episode = source.sample(torch.Generator().manual_seed(seed))
        assert sorted(episode.labels) == ["kind1", "kind3"]
        red = (episode.query.inputs[:, 0, 0, 0] * 255).round() / 50
        assert red.int().tolist() == [int(episode.labels[target][-1]) for target in episode.query.targets]
        assert episode.query.inputs.shape == (8, 3, 8, 8)


def test_equal_images_of_a_class_count_once(folder):
    image.open(folder / "kind0" / "0.png").save(folder / "kind0" / "copy.png")
    assert ImageFolder(folder, channels=3).images.counts == (5, 5, 5, 8)


def test_turned_classes(folder):
    labels = ImageFolder(folder, channels=3, ways=16, queries=4, rotations=True).sample(torch.Generator()).labels
    assert len(set(labels)) == 16
    assert "kind2, turned 270" in labels


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"classes": ("kind9",)}, "no folder 'kind9'"),
        ({"ways": 5}, "5 ways were asked for and there are 4"),
        ({"queries": 5}, "has 5"),
        ({"channels": 2}, "1 or 3 channels"),
        ({"size": (8, 9), "rotations": True}, "equal ones with rotations"),
    ],
)
def test_what_cannot_be_drawn_is_refused(folder, more, words):
    with pytest.raises(TaskError, match=words):
        ImageFolder(folder, **{"channels": 3, "ways": 2, "queries": 2, **more}).sample(torch.Generator())


def test_a_file_that_is_no_image_is_named(folder):
    (folder / "kind2" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(TaskError, match=r"broken\.png: is no image"):
        ImageFolder(folder, ways=2, queries=2).sample(torch.Generator())


def test_empty_and_absent_folders_are_named(folder, tmp_path):
    with pytest.raises(TaskError, match="no such folder"):
        ImageFolder(tmp_path / "nowhere").sample(torch.Generator())
    (folder / "empty").mkdir()
    with pytest.raises(TaskError, match="empty: holds no image"):
        ImageFolder(folder).sample(torch.Generator())
    with pytest.raises(TaskError, match="holds no class folder"):
        ImageFolder(folder / "kind0").sample(torch.Generator())


def test_without_pillow_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(NotAvailable, match=r"quickstudy\[images\]"):
        ImageFolder(folder).sample(torch.Generator())
