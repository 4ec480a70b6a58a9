"""Whether a regressor knows how far it may be wrong: log-likelihood, coverage of intervals, calibrated quantiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.core.types import Batch, Episode, Params, Prediction
from quickstudy.core.vectorise import Mode
from quickstudy.evaluation.drawing import drawn_tasks, in_parts
from quickstudy.learners.base import Learner
from quickstudy.learners.losses import weighted_mean
from quickstudy.learners.processes import density
from quickstudy.tasks.base import TaskSource

LEVELS = (0.5, 0.9, 0.95)
"""The central intervals that are looked at."""


@dataclass(frozen=True)
class DensityScores:
    """How well predictive distributions fit.

    Attributes:
        log_likelihood: [task], the mean over a task's query of the log density of the target, in nats.
        coverage: level -> [task], the share of a task's query inside the central interval of that level.
        squared_error: [task].
        calibration_error: of all queries together, as `regression_calibration_error`.
        quantiles: [number], the share of the predicted distribution below each target, of all queries.
        shares: [number], what each of these counts: one over the number of its task, so that tasks count alike.
    """

    log_likelihood: Tensor
    coverage: Mapping[float, Tensor]
    squared_error: Tensor
    calibration_error: float
    quantiles: Tensor
    shares: Tensor


def log_density(prediction: Prediction, targets: Tensor) -> Tensor:
    """[example]: the log of the normal density of `targets` [example, output], summed over outputs.

    Raises:
        ValueError: the prediction has no variance, or its shape is not that of the targets.
    """
    _check(prediction, targets)
    return density(prediction, targets)


def quantiles(prediction: Prediction, targets: Tensor) -> Tensor:
    """float64 [example, output]: the share of the predicted distribution below each target; uniform where it is right.

    Raises:
        ValueError: as `log_density`.
    """
    variance = _check(prediction, targets)
    below: Tensor = torch.special.ndtr(((targets - prediction.mean) * variance.rsqrt()).double())
    return below


def inside(prediction: Prediction, targets: Tensor, level: float) -> Tensor:
    """[example, output]: whether a target lies in the central interval that should hold the share `level`.

    Raises:
        ValueError: as `log_density`, or a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; give a number between 0 and 1")
    return 2 * (quantiles(prediction, targets) - 0.5).abs() < level


def regression_calibration_error(found: Tensor, bins: int = 20) -> float:
    """The mean over levels p of |share of `found` below p - p|; between 0 and 1.

    Kuleshov, Fenner, Ermon, 2018, arXiv 1807.00263, with the distance in place of its square.

    Args:
        found: [number], what `quantiles` gave.
        bins: levels are 1 / bins, 2 / bins, ... below 1.

    Raises:
        ValueError: no numbers, numbers outside [0, 1], or fewer than two bins.
    """
    if found.dim() != 1 or not len(found) or not bool(((found >= 0) & (found <= 1)).all()):
        raise ValueError(f"quantiles of shape {tuple(found.shape)}; give numbers in [0, 1], at least one")
    if bins < 2:
        raise ValueError(f"bins is {bins}; give 2 or more")
    levels = torch.arange(1, bins, dtype=torch.float64, device=found.device) / bins
    ranks = torch.searchsorted(found.double().sort().values, levels, right=True)
    return float((ranks.double() / len(found) - levels).abs().mean())


def fitted_levels(found: Tensor, levels: Sequence[float] = LEVELS, shares: Tensor | None = None) -> dict[float, float]:
    """For each level, the nominal level of the central interval that held this share of the targets in `found`.

    Where intervals are too narrow or too wide in like manner on other tasks, intervals of the nominal levels hold the
    wanted shares there. Kuleshov, Fenner, Ermon, 2018, arXiv 1807.00263, for central intervals.

    Args:
        found: [number], the `quantiles` of tasks that are not measured on.
        levels: wanted shares of the targets.
        shares: [number], what each of `found` counts; None for all alike.

    Raises:
        ValueError: no numbers, or not as many shares.
    """
    shares = torch.ones_like(found) if shares is None else shares
    if found.dim() != 1 or not len(found) or shares.shape != found.shape:
        raise ValueError(
            f"quantiles {tuple(found.shape)} and shares {tuple(shares.shape)}; give [number], at least one"
        )
    spread, order = (2 * (found.double() - 0.5).abs()).sort()
    # As in split conformal prediction a new target counts as one more, beyond all others.
    below = shares.double()[order].cumsum(0) / (shares.double().sum() + shares.double().mean())
    ranks = torch.searchsorted(below, torch.tensor(levels, dtype=torch.float64, device=below.device) - 1e-12)
    kept = spread[ranks.clamp(max=len(spread) - 1)].clamp(1e-12, 1 - 1e-12)
    return dict(zip(levels, kept.tolist(), strict=True))


Answer = Callable[[Params, Episode], Prediction]
"""Predicts the query's targets from meta-parameters and an episode, whose query's targets it leaves alone."""


def evaluate_density(
    learner: Learner,
    params: Params,
    tasks: TaskSource,
    episodes: int = 600,
    seed: int = 0,
    mode: Mode = "vmap",
    nominal: Mapping[float, float] | None = None,
) -> DensityScores:
    """Scores of a learner with predictive variance on `episodes` tasks drawn with `seed`.

    Args:
        learner: with predictive variance.
        params: its meta-parameters.
        tasks: what episodes are drawn from.
        episodes: how many.
        seed: of the draws.
        mode: as in `over_tasks`.
        nominal: what `fitted_levels` gave: coverage of each level is that of the interval of its nominal level.

    Raises:
        ValueError: `episodes` is below 1, or the learner predicts no variance.
    """

    def answer(params: Params, episode: Episode) -> Prediction:
        return learner.predict(params, learner.adapt(params, episode.support), episode.query.inputs)

    return density_scores(answer, params, drawn_tasks(tasks, episodes, seed), mode, nominal)


def density_scores(
    answer: Answer,
    params: Params,
    episodes: Iterator[Episode],
    mode: Mode = "vmap",
    nominal: Mapping[float, float] | None = None,
) -> DensityScores:
    """Scores of `answer` on `episodes`, all of one shape; no graph is kept.

    Raises:
        ValueError: there are no episodes, or `answer` gives no variance.
    """

    def score(params: Params, episode: Episode) -> dict[str, Tensor]:
        return score_query(answer(params, episode), episode.query, nominal)

    return gathered(in_parts(score, params, episodes, mode=mode))


def score_query(
    prediction: Prediction, query: Batch, nominal: Mapping[float, float] | None = None
) -> dict[str, Tensor]:
    """Scalars `log_likelihood`, `squared_error` and one for each level; `quantiles` [example], -1 where weight is 0.

    Raises:
        ValueError: as `log_density`.
    """
    real, weights = query.weights > 0, query.weights
    targets = torch.where(real[:, None], query.targets, 0.0)
    found = quantiles(prediction, targets)
    asked = nominal or {level: level for level in LEVELS}
    covered = {
        str(level): weighted_mean(inside(prediction, targets, asked[level]).float().mean(-1), weights)
        for level in LEVELS
    }
    return {
        **covered,
        "log_likelihood": weighted_mean(log_density(prediction, targets), weights),
        "squared_error": weighted_mean((prediction.mean - targets).square().mean(-1), weights),
        "quantiles": torch.where(real[:, None], found, -1.0).flatten(),
    }


def gathered(parts: list[dict[str, Tensor]]) -> DensityScores:
    """What `score_query` gave for many tasks, as one.

    Raises:
        ValueError: there are none.
    """
    if not parts:
        raise ValueError("there are no episodes to score; give at least one")
    shares = [_shares(part["quantiles"]) for part in parts]
    values = {name: torch.cat([part[name].reshape(-1) for part in parts]) for name in parts[0]}
    found = values["quantiles"]
    counted = torch.cat(shares)[found >= 0]
    found = found[found >= 0]
    error = regression_calibration_error(found)
    covered = {level: values[str(level)] for level in LEVELS}
    return DensityScores(values["log_likelihood"], covered, values["squared_error"], error, found, counted)


def _shares(found: Tensor) -> Tensor:
    """[task * example]: one over the number of real queries of a task, for `found` [task, example] or one task's."""
    real = (found >= 0).double().reshape(-1, found.shape[-1])
    return (real / real.sum(-1, keepdim=True).clamp(min=1)).flatten()


def _check(prediction: Prediction, targets: Tensor) -> Tensor:
    """The variance, which must be there."""
    if prediction.variance is None:
        raise ValueError("the prediction has no variance; take a learner that gives one")
    if prediction.mean.shape != targets.shape:
        raise ValueError(f"predictions are {tuple(prediction.mean.shape)}, targets {tuple(targets.shape)}")
    return prediction.variance
