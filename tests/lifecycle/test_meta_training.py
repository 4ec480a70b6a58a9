"""Meta-training on files, and adapting from what it leaves behind."""

import csv

import pytest
import torch

from quickstudy import FewShotClassifier, FitOptions, TextEncoder
from quickstudy.core.errors import InputError, TableError
from quickstudy.lifecycle.adapting import TableColumns
from quickstudy.lifecycle.initialisation import load_initialisation
from quickstudy.lifecycle.meta_training import Going, TaskPlan, Trained, run_place, train_file, training_place

OPTIONS = FitOptions(steps=3, tasks_per_step=2, validation_episodes=2, progress=False)
PLAN = TaskPlan(ways=3, shots=2, queries=2)


def write(path, texts, labels, splits=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", *(["split"] if splits else [])])
        writer.writerows(zip(texts, labels, *([splits] if splits else []), strict=True))
    return path


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_trains_saves_and_adapts(learner, base, draw, tmp_path):
    texts, labels = draw(8)
    source = write(tmp_path / "tasks.csv", texts, labels, ["train"] * 16 + ["dev"] * 16)
    plan = TaskPlan(TableColumns(), "train", "dev", 2, 2, 2)
    trained = Trained(learner, 2, 1, outputs=4 if learner == "maml" else 0)
    place = training_place("made", tmp_path, False, False)
    report = train_file(source, place, trained, plan, OPTIONS, TextEncoder(base))
    assert report["folder"] == str(place)
    assert report["steps"] == 3
    made = load_initialisation(place)
    assert made.provenance["data"][0]["file"] == "tasks.csv"
    assert made.provenance["tasks"]["validation_split"] == "dev"
    classifier = FewShotClassifier(str(place), base).fit(*draw(4))
    assert classifier.adapter_.learner == learner
    assert classifier.predict_proba(draw(5, 4)[0]).shape == (20, 4)


def test_close_classes_of_one_domain_and_trackers(base, draw, tmp_path):
    texts, labels = draw(8)
    areas = ["a" if label in sorted(set(labels))[:2] else "b" for label in labels]
    source = tmp_path / "tasks.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label", "area"), *zip(texts, labels, areas, strict=True)])
    plan = TaskPlan(ways=2, shots=1, queries=1, hard=1.0, domain_column="area")
    place = tmp_path / "made"
    going = Going(trackers=("tensorboard",))
    report = train_file(source, place, Trained(rank=2, layers=1), plan, OPTIONS, TextEncoder(base), going)
    assert load_initialisation(place).provenance["tasks"]["domain_column"] == "area"
    assert list((run_place(place) / "tensorboard").glob("events*"))
    assert report["steps"] == 3
    with pytest.raises(InputError, match="no tracker 'paper'"):
        Going(trackers=("paper",))
    with pytest.raises(InputError, match="leave hard tasks"):
        train_file(tmp_path, place, Trained(), plan, OPTIONS, TextEncoder(base))


def test_a_folder_of_tasks(base, draw, tmp_path):
    (tmp_path / "tasks").mkdir()
    for seed in range(2):
        write(tmp_path / "tasks" / f"{seed}.csv", *draw(6, seed))
    report = train_file(
        tmp_path / "tasks", tmp_path / "made", Trained(rank=2, layers=1), PLAN, OPTIONS, TextEncoder(base)
    )
    made = load_initialisation(report["folder"])
    assert len(made.provenance["data"]) == 2
    assert any(name.endswith("lora_B") and bool(t.any()) for name, t in made.params.items())
    with pytest.raises(InputError, match="has no splits"):
        train_file(tmp_path / "tasks", tmp_path / "x", Trained(), TaskPlan(split="train"), OPTIONS, TextEncoder(base))


def test_resumed_equals_uninterrupted(base, draw, tmp_path):
    source = write(tmp_path / "tasks.csv", *draw(8))
    arguments = (Trained(rank=2, layers=1), PLAN, FitOptions(steps=4, tasks_per_step=1, mode="loop", progress=False))
    train_file(source, tmp_path / "whole", *arguments, TextEncoder(base))

    class Stop(Exception):
        pass

    original, calls = torch.optim.AdamW.step, []

    def stopping(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise Stop
        return original(*args, **kwargs)

    options = FitOptions(steps=4, tasks_per_step=1, mode="loop", progress=False, checkpoint_every=1)
    torch.optim.AdamW.step = stopping
    try:
        with pytest.raises(Stop):
            train_file(source, tmp_path / "parts", *arguments[:2], options, TextEncoder(base))
    finally:
        torch.optim.AdamW.step = original
    assert not (tmp_path / "parts").exists()
    place = training_place("parts", tmp_path, False, True)
    train_file(source, place, *arguments[:2], options, TextEncoder(base), Going(resume=True))
    whole, parts = (load_initialisation(tmp_path / name).params for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        (Trained("magic"), "there is no learner 'magic'"),
        (Trained(layers=3), "give 1 to 2 layers"),
        (Trained(rank=0), "rank from 1"),
        (Trained(layers=1, outputs=3), "leave the outputs out"),
    ],
)
def test_what_cannot_be_trained_is_refused(trained, expected, base, draw, tmp_path):
    source = write(tmp_path / "tasks.csv", *draw(8))
    with pytest.raises(InputError, match=expected):
        train_file(source, tmp_path / "made", trained, PLAN, OPTIONS, TextEncoder(base))
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.csv"]


def test_a_missing_file_is_refused_before_anything_is_made(base, tmp_path):
    with pytest.raises(TableError, match="no such file"):
        train_file(tmp_path / "no.csv", tmp_path / "made", Trained(layers=1), PLAN, OPTIONS, TextEncoder(base))
    assert list(tmp_path.iterdir()) == []


def test_places_that_are_taken(tmp_path):
    assert training_place("new", tmp_path, False, False) == tmp_path / "new"
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="is no initialisation"):
        training_place("other", tmp_path, True, False)
    run_place(tmp_path / "begun").mkdir()
    with pytest.raises(InputError, match="--resume"):
        training_place("begun", tmp_path, False, False)
    assert training_place("begun", tmp_path, False, True) == tmp_path / "begun"
    for name in ("", "../up", ".hidden", "a/b"):
        with pytest.raises(InputError, match="plain name"):
            training_place(name, tmp_path, False, False)
