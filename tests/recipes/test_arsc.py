"""The ARSC recipe on made-up reviews: what it learns from, and that a start learned on tasks serves new ones."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from quickstudy.core.types import Episode
from quickstudy.training import fit
from recipes.arsc import Rated, RatedTasks, Settings, learner, rated_tasks, stage_two_rows, star_targets
from recipes.arsc_controls import accuracies, changed, fewer, likeliest, row, shuffled, told


def made_up(count: int, seed: int, threshold: str) -> Rated:
    """Stars of 1, 2, 4 and 5, read with some noise: a task of the threshold."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.2, 0.2, 0.2, 0.4])
    stars = torch.tensor([1.0, 2.0, 4.0, 5.0])[torch.multinomial(shares, count, True, generator=generator)]
    read = stars + 0.2 * torch.randn(count, generator=generator)
    outputs = 4 * (read[:, None] - torch.tensor([1.5, 3.0, 4.5]))
    least = {"t2": 2, "t4": 4, "t5": 5}[threshold]
    return Rated(f"made{seed}.{threshold}", outputs, (stars >= least).long())


def tasks(seeds: range) -> tuple[Rated, ...]:
    return tuple(made_up(150, seed, threshold) for seed in seeds for threshold in ("t2", "t4", "t5"))


def drawn(count: int) -> list[Episode]:
    source = RatedTasks(tasks(range(100, 110)), queries=60)
    return [source.sample(torch.Generator().manual_seed(seed)) for seed in range(count)]


def rows() -> pd.DataFrame:
    texts = ["bad", "poor", "good", "best", "best", "other"]
    return pd.DataFrame(
        {
            "text": texts,
            "key": texts,
            "label": [0, 0, 1, 1, 1, 1],
            "task": ["x.t2", "x.t4", "x.t4", "x.t5", "x.t2", "x.t2"],
            "threshold": ["t2", "t4", "t4", "t5", "t2", "t2"],
            "domain": "x",
            "role": "train_task",
            "split": ["train", "train", "train", "train", "train", "dev"],
        }
    )


def test_stars_follow_from_the_thresholds_that_nest() -> None:
    texts, targets = star_targets(rows())
    found = dict(zip(texts, targets.nan_to_num(-1).tolist(), strict=True))
    assert found["bad"] == [0, 0, 0]
    assert found["poor"] == [-1, 0, 0]
    assert found["good"] == [1, 1, -1]
    assert found["best"] == [1, 1, 1]
    assert found["other"] == [1, -1, -1]


def test_stage_two_sees_no_text_of_stage_one() -> None:
    frame = rows()
    again = frame.assign(split="test")
    assert stage_two_rows(pd.concat([frame, again]), Settings())["key"].unique().tolist() == ["other"]


def test_a_task_with_too_few_of_a_class_is_left_out() -> None:
    reading = {key: torch.zeros(3) for key in rows()["key"]}
    assert [task.name for task in rated_tasks(rows(), reading, least=1)] == ["x.t2", "x.t4"]
    assert rated_tasks(rows(), reading, least=2) == ()


def test_support_is_even_and_apart_from_the_query() -> None:
    task = made_up(150, 0, "t2")
    numbered = replace(task, outputs=torch.arange(150.0)[:, None])
    episode = RatedTasks((numbered,), shots=5, queries=40).sample(torch.Generator().manual_seed(1))
    assert episode.support.targets.bincount().tolist() == [5, 5]
    assert len(episode.query.targets) == 40
    assert not torch.isin(episode.query.inputs, episode.support.inputs).any()
    asked = episode.query.inputs[:, 0].long()
    assert torch.equal(episode.query.targets, task.labels[asked])


def test_the_support_tells_which_threshold_is_meant() -> None:
    episodes = drawn(30)
    right = [
        float((answer(each) == each.query.targets).float().mean()) for answer in (told, likeliest) for each in episodes
    ]
    assert sum(right[:30]) / 30 > 0.95
    assert sum(right[30:]) / 30 > 0.9


def test_a_learned_start_beats_no_support_and_false_labels() -> None:
    settings = Settings()
    method = learner(settings)
    options = replace(settings.meta, steps=120, progress=False)
    params = fit(method, RatedTasks(tasks(range(10))), options).params
    episodes = drawn(60)
    meant = accuracies(method, params, episodes).mean()
    still = accuracies(replace(method, inner=replace(method.inner, steps=0)), params, episodes).mean()
    false = accuracies(method, params, changed(episodes, shuffled, 0)).mean()
    assert meant > still + 0.05
    assert meant > false + 0.05


def test_fewer_keeps_reviews_of_the_support() -> None:
    (episode,) = drawn(1)
    cut = fewer(episode, 4, torch.Generator().manual_seed(0))
    assert cut.support.targets.bincount().tolist() == [4, 4]
    whole = {tuple(each) for each in episode.support.inputs.tolist()}
    assert {tuple(each) for each in cut.support.inputs.tolist()} < whole


def test_a_row_is_the_mean_over_draws_with_an_interval_over_tasks() -> None:
    found = row("x", [torch.tensor([0.5, 0.7]), torch.tensor([0.7, 0.9])])
    assert found["mean"] == pytest.approx(70)
    assert found["ci95"] == pytest.approx(1.96 * 14.142 / 2**0.5, abs=0.01)
    assert (found["tasks"], found["seeds"], found["seed_means"]) == (2, 2, [60.0, 80.0])
