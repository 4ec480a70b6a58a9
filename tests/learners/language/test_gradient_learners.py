"""Learners that take gradient steps, on a language model with LoRA: they learn, and keep the contract."""

import pytest
import torch
from ciphers import Ciphers
from stacked_tasks import assert_stacked_are_as_alone

from quickstudy.backbones import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD, Adam
from quickstudy.core.types import Episode
from quickstudy.deltas import LoRA
from quickstudy.evaluation.drawing import drawn_tasks
from quickstudy.evaluation.protocol import evaluate
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.meta_sgd import MetaSGD
from quickstudy.learners.optimisation.reptile import Reptile
from quickstudy.tasks.text_tasks import EncodedTextTasks
from quickstudy.training.loop import fit
from quickstudy.training.options import FitOptions

DELTA = LoRA(4, 8, ("q_proj", "v_proj", "up_proj", "down_proj"))


@pytest.fixture
def backbone(language_model):
    return CausalLM(language_model("llama"), max_tokens=24)


@pytest.fixture
def tasks(backbone):
    return EncodedTextTasks(Ciphers(), backbone.batch)


def learners(backbone):
    network = Network(backbone, DELTA)
    steps = InnerLoop(2, SGD(0.3))
    return {
        "MAML": MAML(network, steps),
        "first-order MAML": MAML(network, InnerLoop(2, SGD(0.3), order="first")),
        "the upper layer alone moves": MAML(network, InnerLoop(2, SGD(0.3), freeze=("*.layers.0.*",))),
        "Meta-SGD": MetaSGD(network, steps),
        "Reptile": Reptile(network, InnerLoop(3, Adam(1e-2)), InnerLoop(3, Adam(1e-2))),
    }


def held_out(learner, params, tasks):
    """The loss on the queries of tasks of their own, after adapting."""
    draws, losses = torch.Generator().manual_seed(99), []
    for _ in range(10):
        episode = tasks.sample(draws)
        adapter = learner.adapt(params, episode.support)
        losses.append(float(weighted_loss(learner.predict(params, adapter, episode.query.inputs).mean, episode.query)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["MAML", "first-order MAML", "the upper layer alone moves", "Meta-SGD", "Reptile"])
def test_meta_training_lowers_the_loss_after_adapting(name, backbone, tasks):
    learner = learners(backbone)[name]
    start = learner.init(torch.Generator().manual_seed(0))
    lr = 3e-2 if name != "Reptile" else 1e-1
    fitted = fit(learner, tasks, FitOptions(25, 4, lr=lr, mode="loop", clip=1.0, progress=False))
    with torch.no_grad():
        assert held_out(learner, fitted.params, tasks) < held_out(learner, start, tasks) - 0.3


@pytest.mark.parametrize("name", ["MAML", "Meta-SGD", "Reptile"])
def test_examples_that_share_rows_lead_to_the_same_adapter(name, language_model):
    backbone = CausalLM(language_model("llama"), max_tokens=24)
    learner = learners(backbone)[name]
    assert learner.packs
    params = learner.init(torch.Generator().manual_seed(0))
    pairs = ["abcd>", "e>", "fg>"], ["bcde", "f", "gh"]
    apart, together = (backbone.batch(*pairs, pack=pack) for pack in (False, True))
    assert len(together.weights) < len(apart.weights)
    found = [learner.adapt(params, support).tensors for support in (apart, together)]
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)
    moved = max(float((found[0][each] - params[each]).abs().max()) for each in found[0] if each in params)
    assert moved > 1e-3


def test_a_stack_of_tasks_gives_the_loss_of_each_alone(backbone, tasks):
    """Tasks differ in how long their texts are, so all but one are padded."""
    learner = learners(backbone)["MAML"]
    params = learner.init(torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    params = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws) for name, tensor in params.items()}
    episodes = [tasks.sample(draws) for _ in range(3)]
    assert len({episode.support.inputs["input_ids"].shape for episode in episodes}) > 1
    assert_stacked_are_as_alone(learner, params, episodes)


def test_reptile_joins_a_support_and_a_query_of_other_lengths(backbone):
    learner = Reptile(Network(backbone, DELTA), InnerLoop(2, SGD(0.3)))
    params = learner.init(torch.Generator().manual_seed(0))
    short, long = backbone.batch(["a>"], ["b"]), backbone.batch(["abcd>", "a>"], ["bcde", "b"])
    whole = backbone.batch(["a>", "abcd>", "a>"], ["b", "bcde", "b"])
    losses = [
        float(learner.loss(params, Episode(support, query)))
        for support, query in [(short, long), (long, short), (whole, short)]
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != pytest.approx(losses[2], rel=1e-2)


@pytest.mark.parametrize("mode", ["vmap", "loop"])
def test_evaluation_gives_the_cross_entropy_of_each_task(backbone, tasks, mode):
    learner = learners(backbone)["MAML"]
    params = learner.init(torch.Generator().manual_seed(0))
    found = evaluate(learner, params, tasks, 4, seed=5, mode=mode)
    assert found.metric == "cross_entropy"
    expected = [learner.loss(params, episode).detach() for episode in drawn_tasks(tasks, 4, 5)]
    torch.testing.assert_close(found.values, torch.stack(expected), atol=1e-4, rtol=1e-4)
