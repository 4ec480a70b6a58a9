"""Every built-in learner passes the public checks, and the checks see what they are for."""

import dataclasses

import pytest
import torch

from quickstudy.backbones import MLP
from quickstudy.core import SGD, Adam, InnerLoop, Prediction
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners import Network, learner_class, learner_names
from quickstudy.learners import conformance as checks
from quickstudy.learners.losses import blank
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.tasks.blobs import GaussianBlobs
from quickstudy.tasks.sinusoids import Sinusoids
from quickstudy.training.options import FitOptions

WAYS = 3
BODY = MLP((4, 16, 12))
BLOBS = GaussianBlobs(ways=WAYS, shots=(2, 4), queries=6, width=4, spread=1.5)
WAVES = Sinusoids(shots=(4, 8), queries=6)
INNER = InnerLoop(steps=3, optimiser=SGD(0.2))

HEADED = {"maml", "anil", "reptile", "meta_sgd"}
REGRESSING = (*sorted(HEADED), "ridge")


def build(name, body=BODY, delta=None, outputs=WAYS, **options):
    network = Network(body, delta or Full(), outputs if name in HEADED else 0)
    if name in HEADED:
        options = {"inner": INNER, **options}
    return learner_class(name)(network, **options)


LEARNERS = {name: build(name) for name in learner_names() if name in {*HEADED, "protonet", "ridge", "logistic"}} | {
    "maml, first order": build("maml", inner=InnerLoop(steps=2, order="first")),
    "maml, adam, frozen body": build("maml", inner=InnerLoop(2, Adam(0.05), clip=1.0, freeze=("body.*",))),
    "maml, lora": build("maml", delta=LoRA(rank=2, targets=("layers.1",))),
    "reptile, support only": build("reptile", joint=False),
    "cosine prototypes": build("protonet", distance="cosine", scale=10.0, learn_scale=True),
    "ridge, more examples than features": build("ridge", body=MLP((4, 5))),
    "ridge, nothing moves": build("ridge", delta=Head()),
}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_classes(learner, check):
    check(learner, BLOBS)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", REGRESSING)
def test_regression(name, check):
    check(build(name, body=MLP((1, 16, 12), "tanh"), outputs=1), WAVES)


@pytest.mark.parametrize("name", ["maml", "anil", "reptile", "meta_sgd", "protonet", "ridge", "logistic"])
def test_learns_blobs(name):
    options = FitOptions(steps=25, tasks_per_step=8, lr=2e-2, mode="vmap", progress=False)
    checks.check_learns(build(name), BLOBS, options)


@dataclasses.dataclass(frozen=True)
class Broken(ProtoNet):
    """A learner with one fault."""

    fault: str = ""

    def init(self, generator):
        params = super().init(generator)
        return {name: torch.randn_like(tensor) for name, tensor in params.items()} if self.fault == "init" else params

    def adapt(self, params, support):
        if self.fault == "grows":
            params["body.layers.0.bias"].data.add_(1e-3)
        if self.fault == "first rows":
            support = dataclasses.replace(support, weights=support.weights * (torch.arange(len(support.weights)) < 4))
        if self.fault == "ignores weights":
            support = dataclasses.replace(blank(support), weights=torch.ones_like(support.weights))
        if self.fault == "counts rows":
            support = dataclasses.replace(support, weights=(support.weights > 0).float())
        adapter = super().adapt(params, support)
        if self.fault == "forgets":
            return dataclasses.replace(adapter, facts={"scale": Stubborn(2.0)})
        if self.fault == "favours":
            tilt = torch.arange(len(adapter.tensors["prototypes"]))[:, None]
            return dataclasses.replace(
                adapter, tensors={**adapter.tensors, "prototypes": adapter.tensors["prototypes"] + tilt}
            )
        return adapter

    def predict(self, params, adapter, inputs):
        means = super().predict(params, adapter, inputs).mean
        if self.fault == "normalises":
            means = means - means.mean(0)
        if self.fault == "forgets" and isinstance(adapter.facts["scale"], Stubborn):
            means = 2 * means
        if self.fault == "constant":
            means = torch.zeros_like(means) + torch.arange(means.shape[-1])
        return Prediction(means)


class Stubborn(float):
    """A number that JSON turns into another type."""


FAULTS = {
    "init": checks.check_init,
    "constant": checks.check_loss,
    "grows": checks.check_pure,
    "normalises": checks.check_queries_apart,
    "ignores weights": checks.check_padding,
    "counts rows": checks.check_weights,
    "first rows": checks.check_order,
    "favours": checks.check_class_numbers,
    "forgets": checks.check_round_trip,
}


@pytest.mark.parametrize(("fault", "check"), FAULTS.items())
def test_checks_catch_a_fault(fault, check):
    network = Network(BODY, Full())
    check(Broken(network), BLOBS)
    with pytest.raises(AssertionError):
        check(Broken(network, fault=fault), BLOBS)


@dataclasses.dataclass(frozen=True)
class Peeking(MAML):
    """Predicts with the labels that it was given."""

    def predict(self, params, adapter, inputs, labels=None):
        return super().predict(params, adapter, inputs)


def test_blind_check_catches_another_argument():
    with pytest.raises(AssertionError, match="predict takes"):
        checks.check_blind(Peeking(Network(BODY, Full(), WAYS), INNER), BLOBS)


@dataclasses.dataclass(frozen=True)
class Deciding(ProtoNet):
    """Sees whether it runs under vmap."""

    def loss(self, params, episode):
        mapped = torch._C._functorch.is_batchedtensor(episode.support.weights)
        return super().loss(params, episode) * (2 if mapped else 1)


def test_vmap_check_catches_a_difference():
    with pytest.raises(AssertionError, match="vmap"):
        checks.check_vmap(Deciding(Network(BODY, Full())), BLOBS)


@dataclasses.dataclass(frozen=True)
class Useless(ProtoNet):
    """Compares with nothing."""

    def predict(self, params, adapter, inputs):
        found = super().predict(params, adapter, inputs)
        return Prediction(found.mean * 0 + torch.arange(found.mean.shape[-1]))


def test_learning_check_catches_one_that_does_not_learn():
    options = FitOptions(steps=2, progress=False, mode="vmap")
    with pytest.raises(AssertionError, match="chance is"):
        checks.check_learns(Useless(Network(BODY, Full())), BLOBS, options)


def test_shuffled_labels_keep_everything_but_the_pairing():
    draw = torch.Generator().manual_seed(5)
    plain, mixed = (s.sample(draw.manual_seed(5)) for s in (BLOBS, checks.ShuffledLabels(BLOBS)))
    assert torch.equal(plain.support.inputs, mixed.support.inputs)
    assert torch.equal(plain.query.targets, mixed.query.targets)
    real = plain.support.weights > 0
    assert torch.equal(plain.support.targets[real].sort().values, mixed.support.targets[real].sort().values)
    assert not torch.equal(plain.support.targets, mixed.support.targets)
