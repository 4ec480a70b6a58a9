"""Densities against torch's distributions, coverage and calibration of what is right, too sure and too careful."""

import pytest
import torch

from quickstudy.core import Batch, Episode, Prediction
from quickstudy.evaluation.coverage import (
    density_scores,
    evaluate_density,
    fitted_levels,
    inside,
    log_density,
    quantiles,
    regression_calibration_error,
)
from quickstudy.learners.bayesian.cnp import CNP
from quickstudy.tasks.gaussian_processes import GaussianProcesses


def normals(rows, seed=0, outputs=1):
    generator = torch.Generator().manual_seed(seed)
    mean, scale = torch.randn(rows, outputs, generator=generator), torch.rand(rows, outputs, generator=generator) + 0.1
    return mean, scale, mean + scale * torch.randn(rows, outputs, generator=generator)


def test_densities_and_quantiles_are_those_of_torch():
    mean, scale, targets = normals(50, outputs=2)
    prediction, theirs = Prediction(mean, scale.square()), torch.distributions.Normal(mean, scale)
    torch.testing.assert_close(log_density(prediction, targets), theirs.log_prob(targets).sum(-1))
    torch.testing.assert_close(quantiles(prediction, targets), theirs.cdf(targets).double(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_coverage_is_the_level_where_the_deviation_is_right_and_not_elsewhere(level):
    mean, scale, targets = normals(20_000)

    def share(factor):
        return float(inside(Prediction(mean, (factor * scale).square()), targets, level).float().mean())

    assert share(1.0) == pytest.approx(level, abs=0.01)
    assert share(0.5) < level - 0.1
    assert share(2.0) > level + 0.03


def test_interval_ends_are_the_known_ones():
    prediction = Prediction(torch.zeros(2, 1), torch.full((2, 1), 4.0))
    assert inside(prediction, torch.tensor([[3.91], [-3.93]]), 0.95).tolist() == [[True], [False]]


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_fitted_levels_make_up_for_a_deviation_that_is_wrong_in_like_manner(factor):
    def predictions(seed):
        mean, scale, targets = normals(20_000, seed)
        # Twice as far off in a fifth of the places: no one factor puts the deviation right.
        far = torch.where(torch.rand(len(mean), 1, generator=torch.Generator().manual_seed(seed)) < 0.2, 2.0, 1.0)
        return Prediction(mean, (factor * scale).square()), mean + far * (targets - mean)

    levels = fitted_levels(quantiles(*predictions(0))[:, 0])
    for level, nominal in levels.items():
        assert float(inside(*predictions(1), nominal).float().mean()) == pytest.approx(level, abs=0.012)


def test_fitted_levels_are_the_ranks_of_conformal_prediction():
    found = 0.5 + torch.arange(1, 10) / 20  # spreads 0.1, 0.2, ... 0.9
    assert fitted_levels(found, (0.5, 0.85)) == pytest.approx({0.5: 0.5, 0.85: 0.9})
    assert fitted_levels(torch.tensor([1.0]), (0.5,))[0.5] < 1
    with pytest.raises(ValueError, match="at least one"):
        fitted_levels(torch.zeros(0))


def test_tasks_count_alike_where_shares_say_so():
    """Many queries of a task that is far off, few of one that is not."""
    near, far = torch.full((10,), 0.6), torch.full((90,), 0.99)
    shares = torch.cat([torch.full((10,), 0.1), torch.full((90,), 1 / 90)])
    found = torch.cat([near, far])
    assert fitted_levels(found, (0.4,))[0.4] == pytest.approx(0.98)
    assert fitted_levels(found, (0.4,), shares)[0.4] == pytest.approx(0.2)


def test_fitted_levels_hold_on_tasks_of_all_sizes():
    tasks, learner = GaussianProcesses(context=(3, 47), points=50), CNP(width=8)
    params = learner.init(torch.Generator().manual_seed(0))
    held_out = evaluate_density(learner, params, tasks, 400, 1)
    assert float(held_out.shares.sum()) == pytest.approx(400)
    levels = fitted_levels(held_out.quantiles, shares=held_out.shares)
    found = evaluate_density(learner, params, tasks, 400, 2, nominal=levels)
    for level, covered in found.coverage.items():
        assert float(covered.mean()) == pytest.approx(level, abs=4 * float(covered.std()) / 20)


def test_calibration_error_is_0_for_even_quantiles_and_known_for_constant_ones():
    assert regression_calibration_error((torch.arange(1000) + 0.5) / 1000) < 1e-3
    assert regression_calibration_error(torch.full((10,), 0.5), bins=2) == pytest.approx(0.5)
    assert regression_calibration_error(torch.zeros(10), bins=4) == pytest.approx((0.75 + 0.5 + 0.25) / 3)
    mean, scale, targets = normals(5000)
    errors = [
        regression_calibration_error(quantiles(Prediction(mean, (f * scale).square()), targets)[:, 0])
        for f in (1.0, 0.5, 3.0)
    ]
    assert errors[0] < 0.02 < min(errors[1:])


def test_scores_ignore_padding_and_average_within_a_task_first():
    def task(*targets):
        values = torch.tensor([*targets, torch.nan])[:, None]
        rows = len(values)
        query = Batch(torch.zeros(rows, 1), values, (torch.arange(rows) < rows - 1).float())
        return Episode(query, query)

    def answer(params, episode):
        return Prediction(torch.zeros_like(episode.query.targets), torch.ones_like(episode.query.targets))

    scores = density_scores(answer, {}, iter([task(0.0, 0.0), task(3.0, 0.0)]))
    assert scores.coverage[0.95].tolist() == [1.0, 0.5]
    assert scores.squared_error.tolist() == [0.0, 4.5]
    torch.testing.assert_close(scores.log_likelihood[0] - scores.log_likelihood[1], torch.tensor(2.25))


def test_learners_are_scored_alike_by_vmap_and_by_the_loop():
    learner, tasks = CNP(width=8), GaussianProcesses(points=20, context=(3, 10))
    params = learner.init(torch.Generator().manual_seed(0))
    mapped, looped = (evaluate_density(learner, params, tasks, 5, seed=1, mode=mode) for mode in ("vmap", "loop"))
    torch.testing.assert_close(mapped.log_likelihood, looped.log_likelihood)
    assert mapped.calibration_error == pytest.approx(looped.calibration_error, abs=0.01)


def test_wrong_use_is_refused():
    certain = Prediction(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="no variance"):
        log_density(certain, torch.zeros(2, 1))
    with pytest.raises(ValueError, match="predictions are"):
        quantiles(Prediction(torch.zeros(2, 1), torch.ones(2, 1)), torch.zeros(2))
    with pytest.raises(ValueError, match="level is 1"):
        inside(Prediction(torch.zeros(2, 1), torch.ones(2, 1)), torch.zeros(2, 1), 1.0)
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        regression_calibration_error(torch.tensor([1.5]))
    with pytest.raises(ValueError, match="bins is 1"):
        regression_calibration_error(torch.tensor([0.5]), bins=1)
    with pytest.raises(ValueError, match="episodes is 0"):
        evaluate_density(CNP(), {}, GaussianProcesses(), 0)
    with pytest.raises(ValueError, match="no episodes"):
        density_scores(lambda params, episode: certain, {}, iter([]))
