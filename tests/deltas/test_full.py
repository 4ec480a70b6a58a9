import pytest
import torch
from torch import nn

from quickstudy.backbones import MLP
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD
from quickstudy.core.types import Batch, Episode
from quickstudy.deltas import Full, Head, LoRA
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML


def test_full_moves_every_parameter_and_keeps_their_gradients(factory, inputs):
    module = factory()
    start = {name: parameter.detach() for name, parameter in module.named_parameters()}
    params = Full().init(Full().attach(module), start, torch.Generator())
    assert params.keys() == start.keys()
    expected = torch.autograd.grad(module(inputs).square()[:, 0].sum(), list(module.parameters()))
    found = torch.func.grad(
        lambda tensors: torch.func.functional_call(module, tensors, (inputs,)).square()[:, 0].sum()
    )(params)
    for gradient, other in zip(expected, found.values(), strict=True):
        assert torch.allclose(gradient, other, atol=1e-6)


def test_full_refuses_a_start_that_lacks_a_parameter():
    with pytest.raises(ValueError, match=r"'bias' and 0 more"):
        Full().init(nn.Linear(2, 2), {"weight": torch.zeros(2, 2)}, torch.Generator())


def test_beside_full_an_inner_loop_moves_the_matrices_and_meta_training_reaches_all():
    network = Network(MLP((3, 5, 4)), Full(LoRA(2, targets=("0", "1"))), outputs=1)
    learner = MAML(network, InnerLoop(2, SGD(0.1), freeze=("*.weight", "*.bias"), order="first"))
    params = learner.init(torch.Generator().manual_seed(0))
    own = network.backbone.start(torch.Generator().manual_seed(0))
    assert all(torch.equal(params[f"body.{name}"], tensor) for name, tensor in own.items())
    drawn = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    support, query = (Batch(rows, rows[:, :1].square(), torch.ones(3)) for rows in drawn.split(3))
    moved = learner.adapt(params, support).tensors
    assert set(moved) == {name for name in params if name.endswith(("lora_A", "lora_B"))}
    leaves = {name: tensor.requires_grad_() for name, tensor in params.items()}
    loss = learner.loss(leaves, Episode(support, query))
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    assert all(gradient is not None and gradient.any() for gradient in found)


def test_head_moves_nothing(factory):
    module = factory()
    assert Head().attach(module) is module
    assert Head().init(module, {}, torch.Generator()) == {}
