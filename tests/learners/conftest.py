"""Backbones whose answers are known, tasks, and derivatives by two routes, for tests of known truths."""

import dataclasses
from itertools import product

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from quickstudy.backbones.base import Backbone
from quickstudy.core import Batch, Episode


class ConstantModule(nn.Module):
    """The same number for each input."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor([value]))

    def forward(self, inputs):
        return self.value.expand(len(inputs), 1)


@dataclasses.dataclass(frozen=True)
class Constant(Backbone):
    """One parameter, so that squared error is a parabola in it."""

    value: float = 0.0

    @property
    def width(self):
        return 1

    @property
    def fingerprint(self):
        return None

    def module(self):
        return ConstantModule(self.value)

    def start(self, generator):
        return {"value": torch.tensor([self.value])}


@dataclasses.dataclass(frozen=True)
class Identity(Backbone):
    """Features are the inputs."""

    size: int

    @property
    def width(self):
        return self.size

    @property
    def fingerprint(self):
        return None

    def module(self):
        return nn.Identity()

    def start(self, generator):
        return {}


@pytest.fixture
def constant():
    return Constant


@pytest.fixture
def identity():
    return Identity


@pytest.fixture
def points():
    """A Batch of classes around centres, made of a seed."""

    def made(ways=3, rows=12, width=4, seed=0):
        draw = torch.Generator().manual_seed(seed)
        targets = torch.arange(rows) % ways
        centres = torch.randn(ways, width, generator=torch.Generator().manual_seed(99))
        inputs = centres[targets] + 0.7 * torch.randn(rows, width, generator=draw)
        return Batch(inputs, targets, torch.ones(rows), ways)

    return made


@pytest.fixture
def parabola():
    """An Episode that asks a `Constant` for 2 and 4 in the support (mean 3) and for 7 in the query."""

    def rows(*targets):
        values = torch.tensor(targets)[:, None]
        return Batch(torch.zeros(len(targets), 1), values, torch.ones(len(targets)))

    return Episode(rows(2.0, 4.0), rows(7.0))


@pytest.fixture
def in_double():
    """A tree with its floating-point tensors in float64."""

    def made(tree):
        return tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, tree)

    return made


@pytest.fixture
def gradients():
    """Name -> the gradient of a learner's loss."""

    def found(learner, params, episode):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        grads = torch.autograd.grad(learner.loss(leaves, episode), list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, grads, strict=True))

    return found


@pytest.fixture
def difference():
    """The slope of a learner's loss by one entry of a parameter in float64, by a step to either side."""

    def found(learner, params, episode, name, entry, step=1e-6):
        losses = []
        for change in (step, -step):
            moved = params[name].clone()
            moved[entry] += change
            losses.append(float(learner.loss({**params, name: moved}, episode)))
        return (losses[0] - losses[1]) / (2 * step)

    return found


@pytest.fixture
def differences(difference):
    """Name -> `difference` by each entry."""

    def found(learner, params, episode):
        slopes = {name: torch.zeros_like(tensor) for name, tensor in params.items()}
        for name, tensor in slopes.items():
            for entry in product(*map(range, tensor.shape)):
                tensor[entry] = difference(learner, params, episode, name, entry)
        return slopes

    return found
