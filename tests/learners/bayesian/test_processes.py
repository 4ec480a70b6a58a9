"""What is particular to each neural process."""

import math
from dataclasses import replace

import pytest
import torch

from quickstudy.core import Batch, Episode
from quickstudy.core.errors import TaskError
from quickstudy.learners.attention import looked_up
from quickstudy.learners.bayesian.attentive_np import AttentiveNP
from quickstudy.learners.bayesian.cnp import CNP
from quickstudy.learners.bayesian.latent_np import LatentNP
from quickstudy.learners.bayesian.transformer_np import TransformerNP
from quickstudy.learners.latents import Latent, mixture, noise_of
from quickstudy.learners.processes import layers, linear, normal
from quickstudy.tasks.gaussian_processes import GaussianProcesses

TASKS = GaussianProcesses(context=(3, 8), points=14)
LATENT = LatentNP(width=16, latent=8)
TRANSFORMER = TransformerNP(width=16, heads=2, blocks=3, hidden=16)


def start(learner):
    return learner.init(torch.Generator().manual_seed(0))


def drawn(seed=0):
    return TASKS.sample(torch.Generator().manual_seed(seed))


def test_cnp_averages_so_that_the_support_twice_is_the_support():
    learner, support = CNP(width=16), drawn().support
    twice = Batch(*(torch.cat([leaf, leaf]) for leaf in (support.inputs, support.targets, support.weights)))
    one, other = (learner.adapt(start(learner), each).tensors["representation"] for each in (support, twice))
    torch.testing.assert_close(one, other)


def test_latent_np_answers_with_the_mixture_over_its_draws():
    episode, params = drawn(), start(LATENT)
    adapter = LATENT.adapt(params, episode.support)
    z = Latent(adapter.tensors["mean"], adapter.tensors["deviation"]).draws(
        noise_of(adapter.tensors["key"], LATENT.samples, LATENT.latent)
    )
    x = episode.query.inputs
    each = [normal(layers(params, "decoder", torch.cat([x, row.expand(len(x), -1)], -1)), LATENT.least) for row in z]
    means, variances = (torch.stack([getattr(one, name) for one in each]) for name in ("mean", "variance"))
    found = LATENT.predict(params, adapter, x)
    torch.testing.assert_close(found.mean, means.mean(0))
    torch.testing.assert_close(found.variance, variances.mean(0) + means.var(0, correction=0))


def test_draws_are_the_same_for_the_same_support_and_others_for_another():
    params = start(LATENT)
    keys = [int(LATENT.adapt(params, drawn(seed).support).tensors["key"]) for seed in (0, 0, 1, 2)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_the_evidence_bound_is_below_the_likelihood():
    """Jensen's inequality, with so many draws that both are nearly exact."""
    episode = drawn()
    elbo, likelihood = (LatentNP(width=16, latent=2, draws=4096, objective=o) for o in ("elbo", "likelihood"))
    assert float(elbo.loss(start(elbo), episode)) > float(likelihood.loss(start(elbo), episode))


def test_attention_has_a_latent_variable_only_where_asked():
    episode = drawn()
    for size in (0, 4):
        learner = AttentiveNP(width=16, heads=4, latent=size)
        adapter = learner.adapt(start(learner), episode.support)
        assert ("mean" in adapter.tensors) == bool(size)
        assert adapter.tensors["keys"].shape == (4, 8, 4)


def test_queries_that_tell_no_input_apart_find_the_mean_of_the_values():
    learner = AttentiveNP(width=16, heads=4, latent=0)
    params = start(learner)
    params |= {name: torch.zeros_like(params[name]) for name in ("queries.0.weight", "queries.0.bias")}
    support = drawn().support
    adapter = learner.adapt(params, support)
    found = looked_up(params, adapter.tensors, drawn(1).query.inputs, 4)
    mean = adapter.tensors["values"][:, support.weights > 0].mean(1).flatten()
    expected = linear(params, "merge.0", mean).expand_as(found)
    torch.testing.assert_close(found, expected)


def test_one_pass_gives_the_loss_and_the_gradients_of_two():
    two, one = TRANSFORMER, replace(TRANSFORMER, rows=14)
    episode = drawn()
    found = []
    for learner in (two, one):
        params = {name: tensor.requires_grad_() for name, tensor in start(learner).items()}
        loss = learner.loss(params, episode)
        found.append([loss, *torch.autograd.grad(loss, list(params.values()), materialize_grads=True)])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def test_more_rows_than_one_pass_takes_are_told_by_nan():
    episode = TASKS.sample(torch.Generator().manual_seed(0))
    count = int(episode.support.weights.sum() + episode.query.weights.sum())
    for learner in (TRANSFORMER, AttentiveNP(width=16)):
        enough, short = (replace(learner, rows=rows) for rows in (count, count - 1))
        loss = learner.loss(start(learner), episode)
        torch.testing.assert_close(enough.loss(start(enough), episode), loss, rtol=1e-4, atol=1e-5)
        assert math.isnan(float(short.loss(start(short), episode)))


def test_a_transformer_without_blocks_after_the_first_still_keeps_every_key():
    adapter = TRANSFORMER.adapt(start(TRANSFORMER), drawn().support)
    assert adapter.tensors["keys"].shape == (3, 2, 8, 8)


@pytest.mark.parametrize("learner", [CNP(width=16), LATENT, AttentiveNP(width=16), TRANSFORMER], ids=lambda x: x.name)
def test_classes_and_named_inputs_are_refused(learner):
    classes = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.ones(2), 2)
    with pytest.raises(TaskError, match="has 2 classes; use hierarchical"):
        learner.adapt(start(learner), classes)
    named = Batch({"input_ids": torch.zeros(2, 1)}, torch.zeros(2, 1), torch.ones(2))
    with pytest.raises(TaskError, match="read one tensor"):
        learner.loss(start(learner), Episode(named, named))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CNP(width=0), "width is 0"),
        (lambda: LatentNP(latent=0), "latent is 0"),
        (lambda: LatentNP(objective="map"), "objective is 'map'"),
        (lambda: AttentiveNP(samples=0), "samples is 0"),
        (lambda: AttentiveNP(width=10, heads=4), "heads that divide"),
        (lambda: TransformerNP(blocks=0), "blocks is 0"),
        (lambda: TransformerNP(width=10), "heads that divide"),
    ],
)
def test_sizes_without_meaning_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_mixture_keeps_shapes():
    found = mixture(normal(torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0)), 0.1))
    assert found.mean.shape == found.variance.shape == (3, 1)
