"""The small version: every learner beats its controls on characters it has not seen; shuffled labels teach nothing."""

import os

import pytest
import torch

from quickstudy.reproduce.base import Work
from quickstudy.reproduce.fixed_statistics import frozen
from quickstudy.reproduce.omniglot_metric import OMNIGLOT_METRIC, cases
from quickstudy.tasks.omniglot import Omniglot

pytestmark = pytest.mark.skipif(
    not os.environ.get("QUICKSTUDY_DATA"), reason="QUICKSTUDY_DATA names no folder with Omniglot"
)
LEARNERS = ("ProtoNet", "Matching", "Relation", "Siamese")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omniglot")
    told = []
    work = Work(folder / "runs", folder / "picture", quick=True, progress=False, tell=told.append)
    found = OMNIGLOT_METRIC.run(work)
    assert (folder / "picture.png").stat().st_size > 0
    again = OMNIGLOT_METRIC.run(work)
    assert again == found, "a finished run that is read again differs"
    return {row.name: row for row in found}


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_beat_pixels_and_the_untrained_network(rows, name):
    row = rows[f"{name}, 5-way 1-shot"]
    for control in ("pixels, nearest neighbour", "ProtoNet, untrained"):
        other = rows[f"control: {control}, 5-way 1-shot"]
        assert row.mean - row.ci95 > other.mean + other.ci95


def test_shuffled_labels_teach_nothing(rows):
    row = rows["control: ProtoNet, shuffled support labels, 5-way 1-shot"]
    assert abs(row.mean - 20) < 2.5 * row.ci95


def test_published_values_are_of_their_rows_and_sources(rows):
    published = {row.name: row.published for row in rows.values() if row.published is not None}
    assert published == dict(zip([f"{n}, 5-way 1-shot" for n in LEARNERS], (98.8, 98.1, 99.6, 96.7), strict=True))
    for name in ("Relation", "Siamese"):
        assert rows[f"{name}, 5-way 1-shot"].published_source.endswith("unverified")


@pytest.mark.parametrize("case", cases(quick=True), ids=lambda case: case.label)
def test_what_is_tested_answers_each_query_by_itself(case):
    tasks = Omniglot("train", 5, 1, 3)
    learner, params = frozen(case.learner, case.learner.init(torch.Generator().manual_seed(0)), tasks)
    episode = tasks.sample(torch.Generator().manual_seed(1))
    adapter = learner.adapt(params, episode.support)
    together = learner.predict(params, adapter, episode.query.inputs).mean
    for row in (0, 7):
        alone = learner.predict(params, adapter, episode.query.inputs[row : row + 1]).mean
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)
