"""Functions of Gaussian processes: kernels against scikit-learn, moments of the draws, sizes of the protocol."""

import math

import pytest
import torch
from sklearn.gaussian_process import kernels

from quickstudy.core.errors import TaskError
from quickstudy.core.stacking import stack_episodes
from quickstudy.tasks.conformance import check_source
from quickstudy.tasks.gaussian_processes import KERNELS, GaussianProcesses, Process

LENGTH, SCALE, PERIOD, NOISE = 0.3, 0.7, 0.4, 0.05
THEIRS = {
    "rbf": kernels.RBF(LENGTH),
    "matern52": kernels.Matern(LENGTH, nu=2.5),
    "periodic": kernels.ExpSineSquared(LENGTH, PERIOD),
}


def process(kernel):
    return Process(kernel, LENGTH, SCALE, PERIOD, NOISE)


def drawn(source, count=100):
    generator = torch.Generator().manual_seed(0)
    return [source.sample(generator) for _ in range(count)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_source_conforms(kernel):
    check_source(GaussianProcesses(kernel))
    check_source(GaussianProcesses(kernel, context=5, points=9, whole=True))
    assert stack_episodes(drawn(GaussianProcesses(kernel), 4)).support.weights.shape == (4, 47)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_those_of_the_books(kernel):
    generator = torch.Generator().manual_seed(1)
    first, second = (4 * torch.rand(size, 1, generator=generator, dtype=torch.float64) - 2 for size in (7, 5))
    expected = torch.from_numpy(SCALE**2 * THEIRS[kernel](first.numpy(), second.numpy()))
    torch.testing.assert_close(process(kernel).covariance(first, second), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_draws_have_the_covariance_of_the_kernel_and_the_noise(kernel):
    x = torch.tensor([[-1.0], [-0.8], [0.3]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    values = torch.stack([process(kernel).values(x, generator)[:, 0] for _ in range(4000)])
    expected = process(kernel).covariance(x, x) + NOISE**2 * torch.eye(3)
    torch.testing.assert_close(values.T.cov(), expected, rtol=0, atol=0.05)
    assert float(values.mean(0).abs().max()) < 0.05


def test_sizes_are_those_of_the_protocol():
    sizes = [(int(e.support.weights.sum()), int(e.query.weights.sum())) for e in drawn(GaussianProcesses(), 400)]
    assert {given for given, _ in sizes} == set(range(3, 48))
    assert all(3 <= asked <= 50 - given for given, asked in sizes)
    assert any(asked < 50 - given for given, asked in sizes)
    whole = drawn(GaussianProcesses(whole=True))
    assert {int(e.support.weights.sum() + e.query.weights.sum()) for e in whole} == {50}
    assert {(e.support.weights.shape, e.query.weights.shape) for e in whole} == {((47,), (47,))}


def test_hyperparameters_and_inputs_fill_their_ranges():
    generator = torch.Generator().manual_seed(3)
    found = [GaussianProcesses().draw(generator) for _ in range(300)]
    for name, low, high in (("lengthscale", 0.1, 0.6), ("scale", 0.1, 1.0), ("period", 0.1, 0.5)):
        values = [getattr(each, name) for each, _ in found]
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high
    inputs = torch.cat([episode.query.inputs for _, episode in found])
    assert -2 <= float(inputs.min()) < -1.95
    assert 1.95 < float(inputs.max()) <= 2


def test_the_process_that_is_told_is_the_one_that_drew():
    """The squares of the values are, in the mean, scale^2 + noise^2."""
    generator = torch.Generator().manual_seed(4)
    ratios = []
    for _ in range(400):
        told, episode = GaussianProcesses(lengthscale=(0.1, 0.1)).draw(generator)
        real = episode.support.weights > 0
        ratios.append(float(episode.support.targets[real].square().mean()) / (told.scale**2 + told.noise**2))
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=4 * torch.tensor(ratios).std().item() / math.sqrt(400))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (GaussianProcesses("cubic"), "'cubic'; give one of rbf, matern52, periodic"),
        (GaussianProcesses(context=0), "context is 0"),
        (GaussianProcesses(least=0), "least is 0"),
        (GaussianProcesses(context=48), "48 support and 3 query points are more than points, which is 50"),
        (GaussianProcesses(lengthscale=(0.0, 1.0)), "lengthscale is"),
        (GaussianProcesses(scale=(2.0, 1.0)), "scale is"),
        (GaussianProcesses("periodic", period=(-1.0, 1.0)), "period is"),
        (GaussianProcesses(noise=0.0), "noise is 0"),
    ],
)
def test_what_makes_no_process_is_refused(source, words):
    with pytest.raises(TaskError, match=words):
        source.sample(torch.Generator())
