"""The small version: every learner beats its controls on new waves, and none learns from shuffled targets."""

import pytest
from quick_runs import quick_rows

from quickstudy.reproduce.sinusoid import SINUSOID


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = quick_rows(tmp_path_factory, SINUSOID, ("-steps", "-wave"))
    return {row.name: row for row in found}


LEARNERS = ("MAML, 1 step", "Meta-SGD, 1 step", "CAVIA, 1 step", "iMAML, 8 steps", "MAML++, 5 steps")


@pytest.mark.parametrize("name", LEARNERS)
def test_adapting_helps(rows, name):
    assert rows[f"{name}, K=10"].mean < rows["control: MAML without adapting"].mean - 0.3
    assert rows[f"{name}, K=10"].mean < rows["control: random start at its own best rate, 1 step, K=10"].mean


def test_what_is_learned_at_once_or_with_learned_rates_is_better(rows):
    assert rows["ridge head on meta-trained features, K=10"].mean < rows["Meta-SGD, 1 step, K=10"].mean / 2
    assert rows["Meta-SGD, 1 step, K=10"].mean < rows["MAML, 1 step, K=10"].mean


def test_shuffled_targets_teach_nothing(rows):
    assert rows["control: MAML, shuffled targets"].mean > rows["MAML, 1 step, K=10"].mean + 0.3


def test_the_pooled_network_knows_the_mean_wave_only(rows):
    for steps in ("1 step", "10 steps"):
        assert rows[f"control: one network for all waves at its own best rate, {steps}, K=10"].mean > 2


def test_published_values_are_of_their_rows_and_sources(rows):
    published = {row.name: row.published for row in rows.values() if row.published is not None}
    assert published == {"MAML, 1 step, K=10": 0.6702, "Meta-SGD, 1 step, K=10": 0.3145, "CAVIA, 1 step, K=10": 0.21}
    assert rows["CAVIA, 1 step, K=10"].published_source.endswith("unverified")
