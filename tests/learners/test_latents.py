"""Noise that follows from data is normal and repeats; divergences and mixtures are those of torch."""

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from quickstudy.core import Batch, Prediction
from quickstudy.learners.latents import Latent, bound_loss, check_objective, divergence, key_of, mixture, noise_of


def batch(rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(rows, 1, generator=generator), torch.randn(rows, 1, generator=generator), torch.ones(rows))


def latent(seed):
    generator = torch.Generator().manual_seed(seed)
    return Latent(torch.randn(5, generator=generator), torch.rand(5, generator=generator) + 0.1)


def test_noise_is_standard_normal_and_its_columns_and_keys_are_independent():
    noise = noise_of(torch.tensor(7), 4000, 4)
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 0.01
    others = torch.cat([noise, noise_of(torch.tensor(8), 4000, 4)], 1)
    assert float((others.T.corrcoef() - torch.eye(8)).abs().max()) < 0.06
    assert torch.equal(noise, noise_of(torch.tensor(7), 4000, 4))
    assert noise.isfinite().all()


def test_keys_of_many_sets_give_normal_noise_too():
    """The first number of each set, over sets that differ in one small digit."""
    keys = [key_of(Batch(torch.tensor([[1e-4 * number]]), torch.zeros(1, 1), torch.ones(1))) for number in range(2000)]
    assert len({int(key) for key in keys}) > 1990
    assert kstest([float(noise_of(key, 1, 1)) for key in keys], "norm").pvalue > 0.01


def test_a_key_ignores_order_and_padding_and_counts_weights():
    plain = batch()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = Batch(plain.inputs[order], plain.targets[order], plain.weights[order])
    padded = Batch(
        *(torch.cat([leaf, torch.zeros_like(leaf[:2])]) for leaf in (plain.inputs, plain.targets, plain.weights))
    )
    twice = Batch(*(torch.cat([leaf, leaf[:1]]) for leaf in (plain.inputs, plain.targets, plain.weights)))
    heavy = Batch(plain.inputs, plain.targets, torch.tensor([2.0, 1, 1, 1, 1, 1]))
    assert int(key_of(plain)) == int(key_of(mixed)) == int(key_of(padded))
    assert int(key_of(twice)) == int(key_of(heavy)) != int(key_of(plain))
    swapped = Batch(plain.targets, plain.inputs, plain.weights)
    assert int(key_of(swapped)) != int(key_of(plain))


def test_keys_are_the_same_under_vmap():
    stack = [batch(seed=seed) for seed in range(3)]
    stacked = Batch(*(torch.stack([getattr(b, name) for b in stack]) for name in ("inputs", "targets", "weights")))
    assert torch.vmap(key_of)(stacked).tolist() == [int(key_of(each)) for each in stack]


def test_divergence_and_mixture_are_those_of_torch():
    one, other = latent(1), latent(2)
    expected = kl_divergence(Normal(one.mean, one.deviation), Normal(other.mean, other.deviation)).sum()
    torch.testing.assert_close(divergence(one, other), expected)
    means, variances = torch.stack([latent(seed).mean for seed in range(4)]), torch.rand(4, 5) + 0.1
    theirs = MixtureSameFamily(Categorical(torch.ones(5, 4)), Normal(means.T, variances.T.sqrt()))
    found = mixture(Prediction(means[..., None], variances[..., None]))
    torch.testing.assert_close(found.mean[:, 0], Independent(theirs, 0).mean)
    torch.testing.assert_close(found.variance[:, 0], theirs.variance)


def test_bounds_with_a_likelihood_that_z_does_not_change_have_closed_forms():
    """Then the likelihood is that number itself, and the evidence bound lacks the divergence."""
    given, informed, noise = latent(1), latent(2), noise_of(torch.tensor(1), 3, 5)
    weights = torch.tensor([1.0, 1.0, 0.0])

    def densities(z):
        return torch.tensor([-1.0, -2.0, 99.0]).expand(len(z), -1)

    found = {name: bound_loss(densities, (given, informed), noise, weights, name) for name in ("elbo", "likelihood")}
    assert float(found["likelihood"]) == pytest.approx(1.5)
    assert float(found["elbo"]) == pytest.approx(1.5 + float(divergence(informed, given)) / 2)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match='give "elbo" or "likelihood"'):
        check_objective("map")
