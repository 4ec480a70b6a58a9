"""What nobody can beat on draws of Gaussian processes: the exact posterior, with the true hyperparameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quickstudy.core.types import Batch, Prediction
from quickstudy.evaluation.coverage import DensityScores, gathered, score_query
from quickstudy.tasks.gaussian_processes import GaussianProcesses, Process


def posterior(process: Process, support: Batch, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """`(mean [example, 1], covariance [example, example])` of noisy values at `inputs` [example, 1], in float64.

    Rasmussen and Williams, 2006, algorithm 2.1.
    """
    real = support.weights > 0
    assert isinstance(support.inputs, Tensor), "a Gaussian process on the line reads one tensor"
    x, y, new = support.inputs[real].double(), support.targets[real].double(), inputs.double()
    known = process.covariance(x, x)
    known.diagonal().add_(process.noise**2)
    root = torch.linalg.cholesky(known)
    cross = process.covariance(x, new)
    half = torch.linalg.solve_triangular(root, cross, upper=False)
    mean = half.mT @ torch.linalg.solve_triangular(root, y, upper=False)
    covariance = process.covariance(new, new) - half.mT @ half
    covariance.diagonal().add_(process.noise**2)
    return mean, covariance


def oracle_prediction(process: Process, support: Batch, inputs: Tensor) -> Prediction:
    """Mean and variance [example, 1] of each point by itself, in float32."""
    mean, covariance = posterior(process, support, inputs)
    return Prediction(mean.float(), covariance.diagonal()[:, None].float())


def joint_log_density(process: Process, support: Batch, query: Batch) -> Tensor:
    """The log density of the query's targets together, divided by their number: a scalar."""
    real = query.weights > 0
    assert isinstance(query.inputs, Tensor), "a Gaussian process on the line reads one tensor"
    mean, covariance = posterior(process, support, query.inputs[real])
    root: Tensor = torch.linalg.cholesky(covariance)
    z: Tensor = torch.linalg.solve_triangular(root, query.targets[real].double() - mean, upper=False)
    count = len(z)
    total = -0.5 * z.square().sum() - root.diagonal().log().sum() - 0.5 * count * math.log(2 * math.pi)
    return total / count


def oracle_scores(tasks: GaussianProcesses, episodes: int = 600, seed: int = 0) -> tuple[DensityScores, Tensor]:
    """The factorised scores of the oracle, and its joint log-likelihood a point [task].

    The tasks are those that `evaluate_density` draws with the same seed.

    Raises:
        ValueError: `episodes` is below 1.
    """
    generator = torch.Generator().manual_seed(seed)
    parts, joint = [], []
    for _ in range(episodes):
        process, episode = tasks.draw(generator)
        assert isinstance(episode.query.inputs, Tensor), "a Gaussian process on the line reads one tensor"
        parts.append(score_query(oracle_prediction(process, episode.support, episode.query.inputs), episode.query))
        joint.append(joint_log_density(process, episode.support, episode.query))
    return gathered(parts), torch.stack(joint).float() if joint else torch.zeros(0)
