"""The small version: each learner learns, beats its controls, and stays below the exact posterior."""

import pytest

from quickstudy.reproduce.base import Work
from quickstudy.reproduce.gp_regression import GP_REGRESSION, cases, source
from quickstudy.reproduce.names import reproduction

NAMES = [case.name for case in cases(quick=True)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gp")
    work = Work(folder / "runs", folder / "pictures" / "gp", quick=True, progress=False, tell=lambda line: None)
    rows = {row.name: row for row in GP_REGRESSION.run(work)}
    assert {path.name for path in (folder / "pictures").iterdir()} == {"gp.png", "gp-learning.png"}
    return rows


def test_it_is_found_by_its_name():
    assert reproduction("gp_regression") is GP_REGRESSION


def test_rows_have_their_figures(found):
    assert len(found) == 3 + 7 * len(NAMES)
    assert all(row.tasks == 256 for row in found.values())
    assert all(row.published is None for row in found.values())


def test_the_oracle_is_above_all_and_the_marginal_is_calibrated_in_the_mean(found):
    oracle, marginal = found["exact posterior, RBF: each point by itself"], found["marginal of the data, RBF"]
    assert oracle.mean < found["exact posterior, RBF: points together"].mean
    assert oracle.facts["calibration_error"] < 0.03
    assert marginal.facts["coverage_0.9"] == pytest.approx(0.9, abs=0.05)
    for name in NAMES:
        row = found[f"{name}, RBF"]
        assert row.facts["gap_to_oracle"] == pytest.approx(oracle.mean - row.mean, abs=1e-4)
        assert row.facts["gap_to_oracle"] > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_and_beats_its_controls(found, name):
    row = found[f"{name}, RBF"]
    shuffled = found[f"control: {name}, RBF, targets of the support shuffled"]
    untrained = found[f"control: {name}, RBF, untrained"]
    assert row.mean > untrained.mean + 0.3
    assert row.mean > shuffled.mean + 0.03
    assert row.mean > found["marginal of the data, RBF"].mean + 0.2
    assert row.facts["coverage_0.9"] == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("level", [50, 90])
def test_intervals_of_fitted_levels_hold_what_they_say(found, name, level):
    fitted = found[f"{name}, RBF: inside {level}% intervals, levels fitted on validation tasks"]
    assert fitted.mean == pytest.approx(level, abs=2 + fitted.ci95)


def test_attention_beats_averaging(found):
    assert min(found[f"{name}, RBF"].mean for name in ("ANP", "TNP-D")) > found["CNP, RBF"].mean + 0.05


def test_full_sizes_are_those_of_the_protocol():
    tasks = source(quick=False)
    assert (tasks.context, tasks.points, tasks.noise) == ((3, 47), 50, 0.02)
    published = {case.name: case.published.get("rbf") for case in cases(quick=False)}
    assert published == {"Hierarchical": None, "CNP": 0.26, "NP": 0.27, "ANP": 0.81, "TNP-D": 1.39}
