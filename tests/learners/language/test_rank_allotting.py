"""AdaLoRA in a learner: while a task is learned, ranks go to the layers that need them, and nobody has to ask."""

import warnings
from dataclasses import replace

import pytest
import torch
from ciphers import Ciphers
from stacked_tasks import assert_stacked_are_as_alone

from quickstudy.backbones import CausalLM
from quickstudy.core.inner import InnerLoop
from quickstudy.core.optimisers import SGD, Adam
from quickstudy.core.types import Episode
from quickstudy.deltas import AdaLoRA, LoRA, RankBudget, read_peft, write_peft
from quickstudy.deltas.adalora import ranks
from quickstudy.learners.losses import weighted_loss
from quickstudy.learners.network import Network
from quickstudy.learners.optimisation.imaml import IMAML
from quickstudy.learners.optimisation.maml import MAML
from quickstudy.learners.optimisation.maml_plus_plus import MAMLPlusPlus
from quickstudy.learners.optimisation.meta_sgd import MetaSGD
from quickstudy.learners.optimisation.reptile import Reptile
from quickstudy.tasks.text_tasks import EncodedTextTasks

TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")
DELTA = AdaLoRA(6, 12, TARGETS)
LOOP = InnerLoop(40, Adam(3e-2), order="first")


@pytest.fixture
def backbone(language_model):
    return CausalLM(language_model("llama"), max_tokens=24)


def draw(backbone, shots=16):
    draws = torch.Generator().manual_seed(3)
    return EncodedTextTasks(Ciphers(shots), backbone.batch).sample(draws)


def adapted(learner, support):
    params = learner.init(torch.Generator().manual_seed(0))
    with torch.no_grad():
        adapter = learner.adapt(params, support)
        loss = weighted_loss(learner.predict(params, adapter, support.inputs).mean, support)
    return {name.removeprefix("body."): tensor for name, tensor in adapter.tensors.items()}, float(loss)


@pytest.mark.parametrize("make", [MAML, Reptile, MetaSGD])
def test_ranks_move_and_their_sum_is_the_budget(make, backbone):
    tensors, loss = adapted(make(Network(backbone, DELTA), LOOP), draw(backbone).support)
    kept = ranks(tensors)
    assert sum(kept.values()) == len(kept) * 4 == 32
    assert len(set(kept.values())) > 1
    assert loss < 1


def test_the_support_is_learned_as_well_as_with_lora_of_as_many_ranks(backbone):
    support = draw(backbone).support
    loop = replace(LOOP, steps=100)
    losses = [adapted(MAML(Network(backbone, delta), loop), support)[1] for delta in (DELTA, LoRA(4, 8, TARGETS))]
    start = adapted(MAML(Network(backbone, DELTA), InnerLoop(0)), support)[1]
    assert losses[0] < losses[1] + 0.01 * (start - losses[1])


def test_peft_reads_what_a_learner_leaves_and_computes_the_same(backbone, language_model, tmp_path):
    peft = pytest.importorskip("peft", reason="the optional package peft is not installed")
    from transformers import AutoModelForCausalLM

    tensors, _ = adapted(MAML(Network(backbone, DELTA), LOOP), draw(backbone).support)
    write_peft(tmp_path, tensors, DELTA, language_model("llama"), "CAUSAL_LM")
    batch = backbone.batch(["abcd>"], ["bcde"])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", message=".*(gradient_checkpointing|keys did not match|invalid shape).*")
        base = AutoModelForCausalLM.from_pretrained(language_model("llama"))
        theirs = peft.PeftModel.from_pretrained(base, tmp_path).eval()(input_ids=batch.inputs["input_ids"]).logits
        ours = Network(backbone, DELTA).features({f"body.{n}": t for n, t in tensors.items()}, batch.inputs)
    torch.testing.assert_close(ours[0], theirs[0, batch.inputs["asked"][0] - 1], atol=1e-4, rtol=1e-4)
    delta, loaded = read_peft(tmp_path)
    assert ranks(loaded) == {layer: rank for layer, rank in ranks(tensors).items() if rank}
    assert delta.budget.mean_rank == sum(ranks(loaded).values()) / len(ranks(loaded))


@pytest.mark.parametrize("order", ["second", "first"])
def test_meta_gradients_of_stacked_tasks_are_those_of_each_alone(order, backbone):
    learner = MAML(Network(backbone, AdaLoRA(3, 6, ("q_proj", "down_proj"))), InnerLoop(3, SGD(0.1), order=order))
    draws = torch.Generator().manual_seed(1)
    params = learner.init(draws)
    params = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=draws) for name, tensor in params.items()}
    tasks = EncodedTextTasks(Ciphers(), backbone.batch)
    episodes = [tasks.sample(draws) for _ in range(2)]
    assert_stacked_are_as_alone(learner, params, episodes)


def test_frozen_ranks_and_other_deltas_are_left_as_they_are(backbone):
    network = Network(backbone, DELTA, outputs=0)
    assert Network(backbone, LoRA(2, 4, TARGETS)).steered(LOOP) is LOOP
    half = InnerLoop(10, Adam(3e-2), freeze=("*.layers.0.*",), order="first")
    tensors, _ = adapted(MAML(network, half), draw(backbone).support)
    assert set(ranks(tensors)) == {name for name in ranks(tensors) if ".layers.1." in name}
    assert sum(ranks(tensors).values()) == 4 * len(TARGETS)


def test_learners_whose_steps_are_their_own_refuse_and_too_few_steps_are_named(backbone):
    network = Network(backbone, DELTA)
    with pytest.raises(ValueError, match="MAML\\+\\+; give MAML"):
        MAMLPlusPlus(network)
    with pytest.raises(ValueError, match="iMAML needs; give MAML"):
        IMAML(network)
    episode = draw(backbone, 4)
    learner = MetaSGD(network)
    with pytest.raises(ValueError, match="1 steps with 1 of warmup"):
        learner.loss(learner.init(torch.Generator()), Episode(episode.support, episode.query))
    kept = AdaLoRA(2, 4, TARGETS, budget=RankBudget(2))
    tensors, _ = adapted(MAML(Network(backbone, kept), InnerLoop(4, SGD(0.1))), episode.support)
    assert set(ranks(tensors).values()) == {2}
